"""cored.workloads.v1.Volumes, typed: directories that outlive containers."""

from __future__ import annotations

from collections.abc import Iterable

from google.protobuf.empty_pb2 import Empty

from cored._pb.cored.workloads.v1 import volumes_pb2 as pb
from cored.client.channel import Channel

__all__ = ["Volumes"]

_SERVICE = "/cored.workloads.v1.Volumes/"


class Volumes:
    """The verbs on a channel that has a namespace. Errors are those of :mod:`cored.errors`."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    def create(self, request: pb.CreateVolumeRequest) -> pb.Volume:
        """Make one, or answer the one that is there."""
        return self._channel.unary(f"{_SERVICE}Create", request, pb.Volume)

    def list(self, filters: Iterable[str] = ()) -> list[pb.Volume]:
        """All that pass docker's filters."""
        request = pb.ListVolumesRequest(filters=filters)
        return list(self._channel.unary(f"{_SERVICE}List", request, pb.ListVolumesResponse).volumes)

    def inspect(self, name: str) -> pb.Volume:
        """Everything about one."""
        request = pb.InspectVolumeRequest(name=name)
        return self._channel.unary(f"{_SERVICE}Inspect", request, pb.Volume)

    def remove(self, name: str, *, force: bool = False) -> None:
        """Remove one that no container has; with ``force`` also one that is not there."""
        request = pb.RemoveVolumeRequest(name=name, force=force)
        self._channel.unary(f"{_SERVICE}Remove", request, Empty)

    def prune(self, filters: Iterable[str] = ()) -> pb.PruneVolumesResponse:
        """Remove those that no container has."""
        request = pb.PruneVolumesRequest(filters=filters)
        return self._channel.unary(f"{_SERVICE}Prune", request, pb.PruneVolumesResponse)
