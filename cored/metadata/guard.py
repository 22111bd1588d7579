"""The truce between requests and garbage collection: many of those, or one of this."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

__all__ = ["Guard"]


class Guard:
    """Requests that make or take away things hold :meth:`using`; a collection :meth:`collecting`.

    ``mutated`` counts what happened, and tells ``on_change`` (mutations, deletions since the last
    collection).
    """

    def __init__(self) -> None:
        self._users = 0
        self._collecting = False
        self._changed = asyncio.Condition()
        self.mutations = 0
        self.deletions = 0
        self.on_change: Callable[[], None] | None = None

    def mutated(self, *, deletion: bool = False) -> None:
        """Take note of a change; ``deletion`` where something may have lost its last reference."""
        self.mutations += 1
        self.deletions += deletion
        if self.on_change is not None:
            self.on_change()

    @asynccontextmanager
    async def using(self) -> AsyncIterator[None]:
        """Held by a request: nothing is collected meanwhile."""
        async with self._changed:
            await self._changed.wait_for(lambda: not self._collecting)
            self._users += 1
        try:
            yield
        finally:
            await asyncio.shield(self._leave())

    @asynccontextmanager
    async def collecting(self) -> AsyncIterator[None]:
        """Held by a collection: no request is under way meanwhile."""
        async with self._changed:
            await self._changed.wait_for(lambda: not self._collecting)
            self._collecting = True
            try:
                await self._changed.wait_for(lambda: self._users == 0)
            except BaseException:
                self._collecting = False
                self._changed.notify_all()
                raise
        self.mutations = self.deletions = 0
        try:
            yield
        finally:
            await asyncio.shield(self._finish())

    async def _leave(self) -> None:
        async with self._changed:
            self._users -= 1
            self._changed.notify_all()

    async def _finish(self) -> None:
        async with self._changed:
            self._collecting = False
            self._changed.notify_all()
