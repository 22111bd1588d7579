"""A plain generated gRPC client of any service: calls by name, messages from the descriptors."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
from google.protobuf import descriptor_pool, message_factory

import cored._pb

__all__ = ["Api", "connected", "refused", "services"]

for _module in pkgutil.walk_packages(cored._pb.__path__, "cored._pb."):
    if _module.name.endswith("_pb2") and "google.rpc" not in _module.name:
        importlib.import_module(_module.name)


def message(name: str) -> Any:
    """The class of a message by its full name."""
    return message_factory.GetMessageClass(descriptor_pool.Default().FindMessageTypeByName(name))


def services(prefix: str = "containerd.services.") -> Iterator[Any]:
    """The descriptors of all services below a package that a daemon serves over gRPC."""
    pool = descriptor_pool.Default()
    for module in pkgutil.walk_packages(cored._pb.__path__, "cored._pb."):
        path = module.name.removeprefix("cored._pb.").replace(".", "/").removesuffix("_pb2")
        if (
            module.name.endswith("_pb2")
            and "ttrpc" not in path
            and path.startswith(prefix.replace(".", "/"))
        ):
            yield from pool.FindFileByName(f"{path}.proto").services_by_name.values()


@dataclass
class Api:
    """One caller: a channel, a namespace ('' sends none), perhaps a lease.

    ``api.Containers.Get(id="x")`` calls ``containerd.services.containers.v1.Containers/Get``;
    an RPC that streams takes a list of messages or answers an iterator.
    """

    channel: grpc.Channel
    namespace: str = "default"
    lease: str = ""
    timeout: float = 30.0

    def within(self, namespace: str, lease: str = "") -> Api:
        """The same connection as another caller."""
        return Api(self.channel, namespace, lease, self.timeout)

    @property
    def metadata(self) -> list[tuple[str, str]]:
        found = [("containerd-namespace", self.namespace)] if self.namespace else []
        return [*found, *([("containerd-lease", self.lease)] if self.lease else [])]

    def __getattr__(self, service: str) -> _Service:
        for descriptor in services():
            name = descriptor.full_name.removeprefix("containerd.services.")
            if service in (descriptor.name, name.replace(".v1.", "").replace(".", "")):
                return _Service(self, descriptor)
        raise AttributeError(service)


@dataclass
class _Service:
    api: Api
    descriptor: Any

    def __getattr__(self, method: str) -> Callable[..., Any]:
        found = self.descriptor.methods_by_name[method]
        asked = message_factory.GetMessageClass(found.input_type)
        answered = message_factory.GetMessageClass(found.output_type)
        make = {
            (False, False): self.api.channel.unary_unary,
            (False, True): self.api.channel.unary_stream,
            (True, False): self.api.channel.stream_unary,
            (True, True): self.api.channel.stream_stream,
        }[found.client_streaming, found.server_streaming]
        call = make(
            f"/{self.descriptor.full_name}/{method}",
            request_serializer=lambda m: m if isinstance(m, bytes) else m.SerializeToString(),
            response_deserializer=answered.FromString,
        )

        def run(*given: Any, **values: Any) -> Any:
            if found.client_streaming:
                (requests,) = given
                request = requests if not isinstance(requests, list) else iter(requests)
            else:
                request = given[0] if given else asked(**values)
            return call(request, metadata=self.api.metadata, timeout=self.api.timeout)

        return run


@contextmanager
def connected(address: object, namespace: str = "default") -> Iterator[Api]:
    """A client on a daemon's socket."""
    options = [("grpc.default_authority", "localhost"), ("grpc.max_receive_message_length", -1)]
    with grpc.insecure_channel(f"unix:{address}", options=options) as channel:
        yield Api(channel, namespace)


@contextmanager
def refused(code: str, *words: str) -> Iterator[None]:
    """The body's call ends with the status ``code``, and says ``words``."""
    with pytest.raises(grpc.RpcError) as caught:
        yield
    error = caught.value
    assert error.code().name == code, (error.code().name, error.details())
    for word in words:
        assert word in error.details()


def every(answer: Iterable[Any], field: str) -> list[Any]:
    """All entries of a repeated field, over the messages of a stream."""
    return [entry for page in answer for entry in getattr(page, field)]
