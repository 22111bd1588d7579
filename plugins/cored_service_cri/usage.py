"""How much disk images and containers take."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any

from cored.abc.snapshots import Usage
from cored.engine.snapshotters import Snapshotters
from cored.errors import InvalidArgument, NotFound

__all__ = ["Filesystem", "by_handler"]

# seconds; a kubelet asks every ten
_FRESH = 8.0


def by_handler(settings: Mapping[str, Any]) -> dict[str, str]:
    """The table ``snapshotters``: ids by runtime handler. InvalidArgument."""
    table = settings.get("snapshotters", {})
    if not isinstance(table, Mapping) or not all(isinstance(id, str) for id in table.values()):
        raise InvalidArgument(
            "plugin cri: snapshotters: must be a table of strings",
            hint='write snapshotters = {runsc = "native"}',
        )
    return dict(table)


class Filesystem:
    """The snapshots of the service's namespace, in the default snapshotter and in ``others``;
    ``place`` is a directory on their filesystem."""

    def __init__(self, snapshotters: Snapshotters, place: str, others: Iterable[str] = ()) -> None:
        self._snapshotters = snapshotters
        self._others = tuple(others)
        self.place = place
        self._asked = 0.0
        self._used = Usage(0, 0)
        self._layers: dict[str, tuple[float, Usage]] = {}

    async def used(self) -> Usage:
        """All of it, not older than a few seconds."""
        if time.monotonic() - self._asked < _FRESH:
            return self._used
        usual, _ = await self._snapshotters.choose()
        size = inodes = 0
        for name in dict.fromkeys((usual, *self._others)):
            _, snapshotter = await self._snapshotters.choose(name)
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
