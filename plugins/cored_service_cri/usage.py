"""How much disk images and containers take."""

from __future__ import annotations

import time

from cored.abc.snapshots import Usage
from cored.engine.snapshotters import Snapshotters
from cored.errors import NotFound

__all__ = ["Filesystem"]

# seconds; a kubelet asks every ten
_FRESH = 8.0


class Filesystem:
    """The snapshots of the service's namespace; ``place`` is a directory on their filesystem."""

    def __init__(self, snapshotters: Snapshotters, place: str) -> None:
        self._snapshotters = snapshotters
        self.place = place
        self._asked = 0.0
        self._used = Usage(0, 0)
        self._layers: dict[str, tuple[float, Usage]] = {}

    async def used(self) -> Usage:
        """All of it, not older than a few seconds."""
        if time.monotonic() - self._asked < _FRESH:
            return self._used
        _, snapshotter = await self._snapshotters.choose()
        size = inodes = 0
        async for snapshot in snapshotter.walk():
            try:
                found = await snapshotter.usage(snapshot.name)
            except NotFound:
                continue  # removed since
            size, inodes = size + found.size, inodes + found.inodes
        self._asked, self._used = time.monotonic(), Usage(size, inodes)
        return self._used

    async def layer(self, snapshotter: str, key: str) -> Usage:
        """What a container has written. NotFound."""
        now = time.monotonic()
        asked, known = self._layers.get(key, (0.0, Usage(0, 0)))
        if asked and now - asked < _FRESH:
            return known
        _, chosen = await self._snapshotters.choose(snapshotter)
        found = await chosen.usage(key)
        self._layers = {k: v for k, v in self._layers.items() if now - v[0] < 10 * _FRESH}
        self._layers[key] = (now, found)
        return found
