"""What containers say, do and use."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

from cored._pb.cored.workloads.v1 import processes_pb2
from cored._pb.cored.workloads.v1 import workloads_pb2 as pb
from cored.client import diagnosis
from cored.client.api import conversion
from cored.client.api.values import LogLine, Processes, Stats, Why
from cored.client.workloads import Workloads

__all__ = ["WatchingVerbs"]


class WatchingVerbs:
    """Of :class:`Containers`."""

    _calls: Workloads

    def logs(
        self,
        container: str,
        *,
        follow: bool = False,
        tail: int = -1,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> Iterator[LogLine]:
        """What it wrote, the oldest first: the last ``tail`` lines; with ``follow`` all to come.

        >>> container = client.containers.create("busybox", ["echo", "kept"])
        >>> client.containers.start(container.id)
        >>> [line.data for line in client.containers.logs(container.id, follow=True)]
        [b'kept\\n']
        >>> client.containers.remove(container.id)
        """
        request = pb.LogsRequest(
            container=container,
            follow=follow,
            tail=tail,
            since=conversion.stamp(since),
            until=conversion.stamp(until),
        )
        for record in self._calls.logs(request):
            yield conversion.value(LogLine, record)

    def why(self, container: str) -> Why:
        """What happened to it: why it ended, or could not start; also of one just gone.

        >>> container = client.containers.create("busybox", ["sh", "-c", "echo lost; exit 3"])
        >>> client.containers.start(container.id)
        >>> client.containers.wait(container.id)
        3
        >>> client.containers.why(container.id).lines
        ('lost',)
        >>> client.containers.remove(container.id)
        """
        return conversion.value(Why, diagnosis.why(self._calls.channel, container))

    def top(self, container: str, arguments: Sequence[str] = ()) -> Processes:
        """Its processes, as ps(1) shows them."""
        found = self._calls.top(container, arguments)
        return Processes(tuple(found.titles), tuple(tuple(row.cells) for row in found.rows))

    def stats(self, containers: Sequence[str] = (), *, all: bool = False) -> list[Stats]:
        """What they use now; takes a second. Without names those that run, or all."""
        request = processes_pb2.StatsRequest(containers=containers, all=all)
        return [conversion.value(Stats, one) for one in next(self._calls.stats(request)).containers]

    def watch_stats(self, containers: Sequence[str] = ()) -> Iterator[list[Stats]]:
        """The same, once a second until the iterator is closed."""
        request = processes_pb2.StatsRequest(containers=containers, stream=True)
        for answer in self._calls.stats(request):
            yield [conversion.value(Stats, one) for one in answer.containers]
