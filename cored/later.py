"""A value that is still to come, for those who are there before it."""

from __future__ import annotations

import asyncio
from typing import Generic, TypeVar

__all__ = ["Later"]

T = TypeVar("T")


class Later(Generic[T]):
    """``await later.get()`` waits for what somebody will :meth:`set`, once."""

    def __init__(self) -> None:
        self._there = asyncio.Event()
        self._value: T | None = None

    def set(self, value: T) -> None:
        """It is there: all who wait go on."""
        self._value = value
        self._there.set()

    async def get(self) -> T:
        """The value, as soon as it is there."""
        await self._there.wait()
        assert self._value is not None
        return self._value
