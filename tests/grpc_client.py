"""A plain gRPC client: every RPC of a service, from the descriptors alone, and what it refuses.

``api.images.Get(name="x")`` calls ``containerd.services.images.v1.Images/Get``; keyword arguments
make the request message. Nothing of the daemon's code takes part.
"""

from __future__ import annotations

import importlib
import re
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Self

import grpc
import pytest
from google.protobuf import descriptor_pool, message_factory
from google.protobuf.message import Message

__all__ = [
    "DRIVEN",
    "RPCS",
    "SERVICES",
    "Client",
    "Driven",
    "Seen",
    "kept",
    "message",
    "only_cored",
    "opened",
]

SERVICES = {
    "containers": "containerd.services.containers.v1.Containers",
    "controller": "containerd.services.sandbox.v1.Controller",
    "content": "containerd.services.content.v1.Content",
    "diff": "containerd.services.diff.v1.Diff",
    "events": "containerd.services.events.v1.Events",
    "images": "containerd.services.images.v1.Images",
    "introspection": "containerd.services.introspection.v1.Introspection",
    "leases": "containerd.services.leases.v1.Leases",
    "mounts": "containerd.services.mounts.v1.Mounts",
    "namespaces": "containerd.services.namespaces.v1.Namespaces",
    "snapshots": "containerd.services.snapshots.v1.Snapshots",
    "store": "containerd.services.sandbox.v1.Store",
    "streaming": "containerd.services.streaming.v1.Streaming",
    "tasks": "containerd.services.tasks.v1.Tasks",
    "transfer": "containerd.services.transfer.v1.Transfer",
    "version": "containerd.services.version.v1.Version",
}
_MODULES = (
    *(
        f"services.{noun}.v1.{'namespace' if noun == 'namespaces' else noun}_pb2"
        for noun in {full.split(".")[2] for full in SERVICES.values()}
    ),
    *(f"events.{noun}_pb2" for noun in ("container", "content", "image", "namespace", "snapshot")),
    "events.task_pb2",
    "types.event_pb2",
    "types.introspection_pb2",
    "types.mount_pb2",
    *(
        f"types.transfer.{noun}_pb2"
        for noun in ("container", "imagestore", "importexport", "registry", "streaming")
    ),
    "v1.types.task_pb2",
    "runc.v1.oci_pb2",
)
for _module in _MODULES:  # a message is known to the pool when its module has been imported
    importlib.import_module(f"cored._pb.containerd.{_module}")

_POOL = descriptor_pool.Default()

RPCS = tuple(
    (noun, method.name)
    for noun, full in SERVICES.items()
    for method in _POOL.FindServiceByName(full).methods
)
"""Every one, as attribute names of a client."""


class Driven(NamedTuple):
    """A call that cored was asked: its end, and what kind of call it was."""

    noun: str
    rpc: str
    code: str
    filtered: bool
    elsewhere: bool
    """From another namespace than the client's first one."""


DRIVEN: set[Driven] = set()
"""What this run of the tests has called, for the test that nothing was left out."""

_TIMEOUT = 60.0
_MARKER = "/test/marker"
# how Go's error classes end a message; containerd forgets here and there to turn them into a code
_WORDS = {
    "ALREADY_EXISTS": "already exists",
    "FAILED_PRECONDITION": "failed precondition",
    "INVALID_ARGUMENT": "invalid argument",
    "NOT_FOUND": "not found",
    "UNIMPLEMENTED": "not implemented",
}


only_cored = pytest.mark.parametrize("server", ["cored"], indirect=True)
"""For what containerd 1.6 does not have, or did otherwise than 2.x."""


def message(name: str, /, **fields: Any) -> Any:
    """A message by its full name."""
    return message_factory.GetMessageClass(_POOL.FindMessageTypeByName(name))(**fields)


class Client:
    """A channel to a daemon, with the namespace and lease that its calls carry."""

    def __init__(
        self,
        address: Path,
        namespace: str | None = None,
        lease: str | None = None,
        *,
        oracle: bool = False,
        channel: grpc.Channel | None = None,
        elsewhere: bool = False,
    ) -> None:
        self.address = address
        self.elsewhere = elsewhere
        self.oracle = oracle
        self.namespace = namespace
        self.lease = lease
        self.channel = channel or grpc.insecure_channel(
            f"unix:{address}",
            options=[
                ("grpc.max_receive_message_length", -1),
                ("grpc.max_send_message_length", -1),
                ("grpc.use_local_subchannel_pool", 1),
            ],
        )

    def __getattr__(self, noun: str) -> Any:
        if noun not in SERVICES:
            raise AttributeError(noun)
        return _Service(self, noun)

    def within(self, namespace: str | None, lease: str | None = None) -> Client:
        """The same connection with another namespace (None: none) and lease."""
        return Client(
            self.address,
            namespace,
            lease,
            oracle=self.oracle,
            channel=self.channel,
            elsewhere=self.elsewhere
            or (None not in (namespace, self.namespace) and namespace != self.namespace),
        )

    @contextmanager
    def refused(self, code: str, words: str = "", *, oracle: str = "") -> Iterator[None]:
        """The block's call ends with status ``code``; cored's message matches ``words``.

        ``oracle`` is what containerd 1.6 says instead.
        """
        with pytest.raises(grpc.RpcError) as caught:
            yield
        found, details = caught.value.code().name, caught.value.details()
        if self.oracle and found == "UNKNOWN" and details.endswith(_WORDS.get(code, code)):
            return
        assert found == ((self.oracle and oracle) or code), f"{found}: {details}"
        assert self.oracle or re.search(words, details), details

    @property
    def metadata(self) -> list[tuple[str, str]]:
        """The headers of each call."""
        found = []
        if self.namespace is not None:
            found.append(("containerd-namespace", self.namespace))
        if self.lease is not None:
            found.append(("containerd-lease", self.lease))
        return found

    @contextmanager
    def watching(self, *filters: str) -> Iterator[Seen]:
        """What is published from here to the end of the block, in order; by default all that
        is published in the client's namespace."""
        wanted = filters or (f"namespace=={self.namespace}",)
        call = self.events.Subscribe(filters=[*wanted, f'topic=="{_MARKER}"'], timeout=120)
        seen = Seen(self, call)
        try:
            seen.mark()
            yield seen
            seen.mark()
        finally:
            call.cancel()
            seen.thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def put(self, data: bytes, ref: str = "put", **fields: Any) -> str:
        """Write content; its digest."""
        request = self.content.Write.request(action="COMMIT", ref=ref, data=data, **fields)
        # containerd says the last thing twice
        return str(next(iter(self.content.Write([request]))).digest)

    def close(self) -> None:
        """Close the connection."""
        self.channel.close()


class _Service:
    def __init__(self, client: Client, noun: str) -> None:
        self._client = client
        self._noun = noun
        self._descriptor = _POOL.FindServiceByName(SERVICES[noun])

    def __getattr__(self, name: str) -> Any:
        method = self._descriptor.methods_by_name.get(name)
        if method is None:
            raise AttributeError(name)
        return _Rpc(self._client, self._noun, method)


class _Rpc:
    """One method; what a unary call answers, or an iterator of what a stream answers."""

    def __init__(self, client: Client, noun: str, method: Any) -> None:
        self._client = client
        self._name = (noun, method.name)
        self.request = message_factory.GetMessageClass(method.input_type)
        self.answer = message_factory.GetMessageClass(method.output_type)
        self.streams_in = method.client_streaming
        self.streams_out = method.server_streaming
        kind = f"{'stream' if self.streams_in else 'unary'}_" + (
            "stream" if self.streams_out else "unary"
        )
        self._call = getattr(client.channel, kind)(
            f"/{method.containing_service.full_name}/{method.name}",
            request_serializer=_serialise,
            response_deserializer=self.answer.FromString,
        )

    def __call__(
        self, given: Iterable[Any] | None = None, /, *, timeout: float = _TIMEOUT, **fields: Any
    ) -> Any:
        request = self.request(**fields) if given is None else iter(given)
        filtered = any(fields.get("filters", ()))
        try:
            answer = self._call(request, timeout=timeout, metadata=self._client.metadata)
        except grpc.RpcError as error:
            self._note(error.code(), filtered)
            raise
        if self.streams_out:
            answer.add_done_callback(lambda call: self._note(call.code(), filtered))
        else:
            self._note(grpc.StatusCode.OK, filtered)
        return answer

    def begin(self, *, timeout: float = 120.0, **fields: Any) -> grpc.Future:
        """A unary call whose answer is awaited later; it goes out before whatever comes next."""
        return self._call.future(
            self.request(**fields), timeout=timeout, metadata=self._client.metadata
        )

    def _note(self, code: grpc.StatusCode, filtered: bool) -> None:
        if not self._client.oracle:
            DRIVEN.add(Driven(*self._name, code.name, filtered, self._client.elsewhere))

    def raw(self, *requests: bytes, timeout: float = _TIMEOUT) -> list[Any]:
        """Send bytes, whatever they are; all that is answered."""
        given = iter(requests) if self.streams_in else requests[0]
        answer = self._call(given, timeout=timeout, metadata=self._client.metadata)
        return list(answer) if self.streams_out else [answer]


def _serialise(request: bytes | Message) -> bytes:
    return request if isinstance(request, bytes) else request.SerializeToString()


class Seen:
    """The envelopes of a subscription, as they come."""

    def __init__(self, client: Client, call: Any) -> None:
        self._client = client.within(client.namespace or "marker")
        self._call = call
        self._got = threading.Condition()
        self._markers: set[bytes] = set()
        self.failure: grpc.RpcError | None = None
        self._envelopes: list[Any] = []
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()

    def _read(self) -> None:
        try:
            for envelope in self._call:
                with self._got:
                    if envelope.topic == _MARKER:
                        self._markers.add(envelope.event.value)
                    else:
                        self._envelopes.append(envelope)
                    self._got.notify_all()
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.CANCELLED:
                self.failure = error

    def mark(self) -> None:
        """Return when everything that was published before has arrived."""
        for attempt in range(400):
            # the first ones may come before the subscription stands
            event = message("containerd.events.NamespaceDelete", name=f"{id(self)}-{attempt}")
            any_ = kept("containerd.events.NamespaceDelete", event)
            self._client.events.Publish(topic=_MARKER, event=any_)
            if self.failure is not None:
                raise self.failure
            with self._got:
                if self._got.wait_for(lambda v=any_.value: v in self._markers, 0.2):
                    self._markers.clear()
                    return
        raise AssertionError("the subscription does not hear what is published")

    def wait(self, *topics: str, seconds: float = 60.0) -> None:
        """Return when an event of each topic has come."""
        end = time.monotonic() + seconds
        with self._got:
            while set(topics) - {e.topic for e in self._envelopes}:
                left = end - time.monotonic()
                assert left > 0, f"no {topics}, only {[e.topic for e in self._envelopes]}"
                self._got.wait(left)

    @property
    def envelopes(self) -> Sequence[Any]:
        """All of them."""
        with self._got:
            return list(self._envelopes)

    @property
    def topics(self) -> list[str]:
        """Their topics, in order."""
        return [envelope.topic for envelope in self.envelopes]

    def one(self, topic: str, namespace: str | None = None) -> Any:
        """The event of the only envelope with ``topic``, unpacked by its type URL."""
        (found,) = [
            e
            for e in self.envelopes
            if e.topic == topic and (namespace is None or e.namespace == namespace)
        ]
        return opened(found)


def opened(envelope: Any) -> Any:
    """The event in an envelope."""
    made = message(envelope.event.type_url)
    made.ParseFromString(envelope.event.value)
    return made


def kept(type_url: str, value: bytes | Message = b"") -> Any:
    """An Any with the type URL as it is: containerd's have no prefix."""
    return message("google.protobuf.Any", type_url=type_url, value=_serialise(value))
