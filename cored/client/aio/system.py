"""The daemon itself.

Awaited; written by tests/surfaces.py.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import datetime

from cored.client.aio.verbs import Verbs, iteration
from cored.client.api import system as api
from cored.client.api.values import DiskUsage, Event, Info, Plugin, Version

__all__ = ["System"]


class System(Verbs):
    """What it is, and what happens."""

    _inner: api.System

    async def version(self) -> Version:
        """The daemon's."""
        return await self._call(self._inner.version)

    async def info(self) -> Info:
        """What there is, and on which host."""
        return await self._call(self._inner.info)

    async def disk_usage(self) -> DiskUsage:
        """What images and volumes take, in bytes."""
        return await self._call(self._inner.disk_usage)

    async def plugins(self, filters: Sequence[str] = ()) -> list[Plugin]:
        """What is loaded; ``filters`` are containerd's: ``type==io.containerd.snapshotter.v1``."""
        return await self._call(self._inner.plugins, filters)

    def events(
        self,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        filters: Sequence[str] = (),
    ) -> AsyncIterator[Event]:
        """What happens from now on, or has since then; without ``until`` it does not end."""
        return iteration(lambda: self._inner.events(since=since, until=until, filters=filters))
