"""The daemon itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from google.protobuf.empty_pb2 import Empty

from cored._pb.containerd.services.introspection.v1 import introspection_pb2
from cored._pb.containerd.services.version.v1 import version_pb2
from cored._pb.cored.workloads.v1 import processes_pb2
from cored.client import system
from cored.client.api import conversion
from cored.client.api.values import DiskUsage, Event, Info, Plugin, Version

if TYPE_CHECKING:
    from cored.client.client import Client

__all__ = ["System"]


class System:
    """What it is, and what happens."""

    def __init__(self, client: Client) -> None:
        self._channel = client.channel
        self._calls = client.workloads

    def version(self) -> Version:
        """The daemon's."""
        answer = self._channel.unary(
            "/containerd.services.version.v1.Version/Version", Empty(), version_pb2.VersionResponse
        )
        return conversion.value(Version, answer)

    def info(self) -> Info:
        """What there is, and on which host.

        >>> client.system.info().cgroup_version in (1, 2)
        True
        """
        return conversion.value(Info, system.System(self._channel).info())

    def disk_usage(self) -> DiskUsage:
        """What images and volumes take, in bytes."""
        return conversion.value(DiskUsage, system.System(self._channel).disk_usage())

    def plugins(self, filters: Sequence[str] = ()) -> list[Plugin]:
        """What is loaded; ``filters`` are containerd's: ``type==io.containerd.snapshotter.v1``."""
        answer = self._channel.unary(
            "/containerd.services.introspection.v1.Introspection/Plugins",
            introspection_pb2.PluginsRequest(filters=filters),
            introspection_pb2.PluginsResponse,
        )
        return [
            Plugin(
                one.type,
                one.id,
                tuple(one.capabilities),
                one.init_err.message if one.HasField("init_err") else "",
            )
            for one in answer.plugins
        ]

    def events(
        self,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        filters: Sequence[str] = (),
    ) -> Iterator[Event]:
        """What happens from now on, or has since then; without ``until`` it does not end.

        >>> from datetime import datetime
        >>> begun = datetime.now()
        >>> _ = client.volumes.create("seen")
        >>> [event.action for event in client.system.events(
        ...     since=begun, until=datetime.now(), filters=["volume=seen"])]
        ['create']
        >>> client.volumes.remove("seen")
        """
        request = processes_pb2.EventsRequest(
            since=conversion.stamp(since), until=conversion.stamp(until), filters=filters
        )
        for one in self._calls.events(request):
            yield conversion.value(Event, one)
