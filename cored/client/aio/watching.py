"""What containers say, do and use.

Awaited; written by tests/surfaces.py.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import datetime

from cored.client.aio.verbs import Verbs, iteration
from cored.client.api import watching as api
from cored.client.api.values import LogLine, Processes, Stats, Why

__all__ = ["WatchingVerbs"]


class WatchingVerbs(Verbs):
    """Of :class:`Containers`."""

    _inner: api.WatchingVerbs

    def logs(
        self,
        container: str,
        *,
        follow: bool = False,
        tail: int = -1,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> AsyncIterator[LogLine]:
        """What it wrote, the oldest first: the last ``tail`` lines; with ``follow`` all to come."""
        return iteration(
            lambda: self._inner.logs(container, follow=follow, tail=tail, since=since, until=until)
        )

    async def why(self, container: str) -> Why:
        """What happened to it: why it ended, or could not start; also of one just gone."""
        return await self._call(self._inner.why, container)

    async def top(self, container: str, arguments: Sequence[str] = ()) -> Processes:
        """Its processes, as ps(1) shows them."""
        return await self._call(self._inner.top, container, arguments)

    async def stats(self, containers: Sequence[str] = (), *, all: bool = False) -> list[Stats]:
        """What they use now; takes a second. Without names those that run, or all."""
        return await self._call(self._inner.stats, containers, all=all)

    def watch_stats(self, containers: Sequence[str] = ()) -> AsyncIterator[list[Stats]]:
        """The same, once a second until the iterator is closed."""
        return iteration(lambda: self._inner.watch_stats(containers))
