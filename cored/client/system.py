"""cored.workloads.v1.System and containerd's namespaces, typed."""

from __future__ import annotations

from collections.abc import Mapping

from google.protobuf.empty_pb2 import Empty

from cored._pb.containerd.services.namespaces.v1 import namespace_pb2
from cored._pb.cored.workloads.v1 import system_pb2 as pb
from cored.client.channel import Channel

__all__ = ["Namespaces", "System"]

_SERVICE = "/cored.workloads.v1.System/"
_NAMESPACES = "/containerd.services.namespaces.v1.Namespaces/"


class System:
    """The daemon and its host, seen from the channel's namespace."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    def info(self) -> pb.InfoResponse:
        """What there is."""
        return self._channel.unary(f"{_SERVICE}Info", pb.InfoRequest(), pb.InfoResponse)

    def disk_usage(self) -> pb.DiskUsageResponse:
        """What images and volumes take."""
        return self._channel.unary(
            f"{_SERVICE}DiskUsage", pb.DiskUsageRequest(), pb.DiskUsageResponse
        )

    def names(self, kind: str, prefix: str = "", timeout: float | None = None) -> list[str]:
        """Of a kind (see ``system.proto``), those that begin with ``prefix``."""
        request = pb.NamesRequest(kind=kind, prefix=prefix)
        answer = self._channel.unary(f"{_SERVICE}Names", request, pb.NamesResponse, timeout=timeout)
        return list(answer.names)


class Namespaces:
    """All namespaces of the daemon."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    def all(self) -> dict[str, Mapping[str, str]]:
        """Their labels by name."""
        answer = self._channel.unary(
            f"{_NAMESPACES}List",
            namespace_pb2.ListNamespacesRequest(),
            namespace_pb2.ListNamespacesResponse,
        )
        return {one.name: dict(one.labels) for one in answer.namespaces}

    def create(self, name: str, labels: Mapping[str, str]) -> None:
        """Make one. AlreadyExists."""
        request = namespace_pb2.CreateNamespaceRequest(
            namespace=namespace_pb2.Namespace(name=name, labels=labels)
        )
        self._channel.unary(f"{_NAMESPACES}Create", request, namespace_pb2.CreateNamespaceResponse)

    def label(self, name: str, labels: Mapping[str, str]) -> None:
        """Set labels; an empty value takes one away. NotFound."""
        request = namespace_pb2.UpdateNamespaceRequest(
            namespace=namespace_pb2.Namespace(name=name, labels=labels)
        )
        request.update_mask.paths.extend(f"labels.{key}" for key in labels)
        self._channel.unary(f"{_NAMESPACES}Update", request, namespace_pb2.UpdateNamespaceResponse)

    def remove(self, name: str) -> None:
        """FailedPrecondition while there is anything in it."""
        request = namespace_pb2.DeleteNamespaceRequest(name=name)
        self._channel.unary(f"{_NAMESPACES}Delete", request, Empty)
