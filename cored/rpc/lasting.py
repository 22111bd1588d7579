"""Calls that go on until something happens: a daemon that stops has no time to wait for that."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing, contextmanager
from typing import Any

from cored.errors import Unavailable

__all__ = ["Lasting"]


class Lasting:
    """The lasting calls under way; ``end`` makes them UNAVAILABLE, on which clients try again."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()
        self._over = False

    def end(self) -> None:
        """End them all; calls of others go on."""
        self._over = True
        for task in self._tasks:
            task.cancel()

    def unary(self, implementation: Callable[..., Any]) -> Callable[..., Any]:
        """``implementation`` as a lasting call."""

        async def call(request: Any) -> Any:
            with self._call():
                return await implementation(request)

        return call

    def streaming(self, implementation: Callable[..., Any]) -> Callable[..., Any]:
        """The same for one that answers a stream."""

        async def call(request: Any) -> AsyncIterator[Any]:
            with self._call():
                async with aclosing(implementation(request)) as answers:
                    async for message in answers:
                        yield message

        return call

    @contextmanager
    def _call(self) -> Iterator[None]:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            yield
        except asyncio.CancelledError:
            if not self._over:
                raise  # the client's doing
            task.uncancel()
            raise Unavailable("the daemon is stopping", hint="ask again when it is back") from None
        finally:
            self._tasks.discard(task)
