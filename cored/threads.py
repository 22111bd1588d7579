"""Blocking work in threads for callers who may be cancelled: a thread cannot be.

What it makes would stay for ever when the caller, who went away, had undone it too soon.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, asynccontextmanager, suppress
from typing import Any, TypeVar

__all__ = ["entered", "finished"]

T = TypeVar("T")


async def finished(work: Callable[..., T], *arguments: Any) -> T:
    """``asyncio.to_thread``, which has come to its end also when the caller is cancelled."""
    thread = asyncio.ensure_future(asyncio.to_thread(work, *arguments))
    try:
        return await asyncio.shield(thread)
    except asyncio.CancelledError:
        while not thread.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait([thread])
        if not thread.cancelled():
            thread.exception()  # nobody hears it
        raise


@asynccontextmanager
async def entered(manager: AbstractContextManager[T]) -> AsyncIterator[T]:
    """A context manager whose two ends block; who is cancelled at its beginning leaves it, too."""
    inside = False

    def enter() -> T:
        nonlocal inside
        value = manager.__enter__()
        inside = True
        return value

    try:
        yield await finished(enter)
    finally:
        if inside:
            await finished(manager.__exit__, None, None, None)
