"""Blocking calls awaited: each has a thread while it lasts, and gives up when its task does."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from queue import SimpleQueue
from typing import Any, Generic, Self, TypeVar

from cored.client import interruption

__all__ = ["Iteration", "call"]

_Answer = TypeVar("_Answer")
_Item = TypeVar("_Item")
_END = object()


async def call(function: Callable[..., _Answer], *args: Any, **kwargs: Any) -> _Answer:
    """What ``function`` answers, in a thread; a task that is cancelled breaks its connection."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[_Answer] = loop.create_future()
    scope = interruption.Scope()

    def run() -> None:
        with scope:
            try:
                found = function(*args, **kwargs)
            except BaseException as error:
                _tell(loop, answer, error=error)
            else:
                _tell(loop, answer, found)

    threading.Thread(target=run, daemon=True, name="cored call").start()
    try:
        return await answer
    except asyncio.CancelledError:
        scope.interrupt()
        raise


class Iteration(Generic[_Item]):
    """An iterator of a blocking generator: one thread, which goes no faster than it is asked."""

    def __init__(self, make: Callable[[], Iterator[_Item]]) -> None:
        self._make = make
        self._asked: SimpleQueue[asyncio.Future[Any] | None] = SimpleQueue()
        self._scope = interruption.Scope()
        self._thread: threading.Thread | None = None
        self._over = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> _Item:
        if self._over:
            raise StopAsyncIteration
        loop = asyncio.get_running_loop()
        if self._thread is None:
            self._thread = threading.Thread(
                target=self._run, args=(loop,), daemon=True, name="cored stream"
            )
            self._thread.start()
        answer: asyncio.Future[Any] = loop.create_future()
        self._asked.put(answer)
        try:
            found = await answer
        except BaseException:
            await self.aclose()
            raise
        if found is _END:
            self._over = True
            raise StopAsyncIteration
        item: _Item = found
        return item

    async def aclose(self) -> None:
        """End the call."""
        self._over = True
        self._asked.put(None)
        self._scope.interrupt()

    def __del__(self) -> None:
        self._asked.put(None)

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        asked, make = self._asked, self._make
        with self._scope:
            items = iter(make())
            try:
                while (answer := asked.get()) is not None:
                    try:
                        found = next(items, _END)
                    except BaseException as error:
                        _tell(loop, answer, error=error)
                        return
                    _tell(loop, answer, found)
                    if found is _END:
                        return
            finally:
                close = getattr(items, "close", None)
                if close is not None:
                    close()


def _tell(
    loop: asyncio.AbstractEventLoop,
    answer: asyncio.Future[Any],
    found: Any = None,
    error: BaseException | None = None,
) -> None:
    def settle() -> None:
        if answer.done():
            return
        if error is not None:
            answer.set_exception(error)
        else:
            answer.set_result(found)

    try:
        loop.call_soon_threadsafe(settle)
    except RuntimeError:
        return  # the loop is closed: nobody waits any more
