"""Where files come from: contexts, stages and images, as directories while somebody looks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from cored_service_build.layers import Layers
from cored_service_build.trees import Digests, selected

__all__ = ["Memory", "Place"]

_MOST = 512


@dataclass(slots=True)
class Memory:
    """What files of snapshots, which never change, were found to be, the oldest goes first; and
    digests of contexts' files."""

    known: dict[tuple[object, ...], Mapping[str, str]] = field(default_factory=dict)
    digests: Digests = field(default_factory=Digests)

    def put(self, key: tuple[object, ...], value: Mapping[str, str]) -> None:
        while len(self.known) >= _MOST:
            self.known.pop(next(iter(self.known)))
        self.known[key] = value


@dataclass(slots=True)
class Place:
    """A directory, or the files of a snapshot; whose owners count where it is one.

    A snapshot that was looked at once stays open as long as ``views``.
    """

    layers: Layers
    memory: Memory
    directory: Path | None = None
    chain_id: str = ""
    views: AsyncExitStack | None = None
    _root: Path | None = None
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def owned(self) -> bool:
        return self.directory is None

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Path]:
        if self.directory is not None:
            yield self.directory
            return
        if self.views is None:
            async with self.layers.viewed(self.chain_id) as place:
                yield place
            return
        async with self._lock:
            if self._root is None:
                view = self.layers.viewed(self.chain_id)
                self._root = await self.views.enter_async_context(view)
        yield self._root

    async def files(self, patterns: Sequence[str], exclude: Sequence[str]) -> Mapping[str, str]:
        """Digests by path of all that the patterns name. NotFound."""
        key = (self.layers.id, self.chain_id, tuple(patterns), tuple(exclude))
        known = self.memory.known.get(key) if self.owned else None
        if known is not None:
            return known

        def look(root: Path) -> Mapping[str, str]:
            sources = [s for pattern in patterns for s in selected(root, pattern, exclude)]
            digests = Digests() if self.owned else self.memory.digests
            return digests.of(sources, owners=self.owned)

        async with self.opened() as root:
            found = await asyncio.to_thread(look, root)
        if self.owned:
            self.memory.put(key, found)
        return found
