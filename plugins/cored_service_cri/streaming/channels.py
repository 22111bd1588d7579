"""What streams look like to who serves them, whatever carries them over the wire."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Collection
from typing import Protocol

__all__ = ["CHUNK", "Channel", "Connection", "Link", "Pair"]

CHUNK = 32 << 10
"""Bytes that go into one frame at most."""

# frames that wait for who reads them; whoever sends more, waits
_AHEAD = 64


class Link(ABC):
    """A connection's bytes, both ways: a socket, or a tunnel inside of WebSocket messages."""

    @abstractmethod
    async def read(self) -> bytes:
        """Some bytes; b'' at the end. OSError."""

    @abstractmethod
    async def write(self, data: bytes) -> None:
        """All of them. OSError."""


class Channel(ABC):
    """One stream of a connection: what the client sends is read, what it is to get written."""

    def __init__(self) -> None:
        self._incoming: asyncio.Queue[bytes] = asyncio.Queue()
        self._room = asyncio.Event()
        self._room.set()
        self._unwanted = False
        self.ended = False
        """Whether the client has said that it sends no more, or is gone."""

    async def arrived(self, data: bytes) -> None:
        """The carrier has something for who reads; b'' is the end. Waits while there is much."""
        if not self.ended and data:
            if self._unwanted:
                return
            self._incoming.put_nowait(data)
            if self._incoming.qsize() >= _AHEAD:
                self._room.clear()
            await self._room.wait()
        elif not self.ended:
            self.end()

    def end(self) -> None:
        """There is no more to come."""
        if not self.ended:
            self.ended = True
            self._incoming.put_nowait(b"")
            self._room.set()

    def discard(self) -> None:
        """Nobody reads it, or does so any longer: the carrier must not wait for that."""
        self._unwanted = True
        self._room.set()

    async def chunks(self) -> AsyncIterator[bytes]:
        """What the client sends, until it says that this was all, or is gone."""
        while data := await self._incoming.get():
            if self._incoming.qsize() < _AHEAD:
                self._room.set()
            yield data

    @abstractmethod
    async def write(self, data: bytes) -> None:
        """Send. OSError when the client is gone."""

    @abstractmethod
    async def close(self) -> None:
        """Send no more."""


class Pair(Protocol):
    """A forwarded port's connection: the bytes, and where a failure is told."""

    port: int
    data: Channel
    error: Channel


class Connection(ABC):
    """A client's connection, upgraded and ready."""

    @abstractmethod
    async def channels(self, names: Collection[str]) -> dict[str, Channel]:
        """The channels of a command: error, stdin, stdout, stderr, resize; those of ``names``.
        DeadlineExceeded when the client does not open them."""

    @abstractmethod
    def pairs(self, ports: Collection[int]) -> AsyncIterator[Pair]:
        """Each connection that the client wants forwarded, until it is gone."""

    @abstractmethod
    async def gone(self) -> None:
        """Return when the client is gone."""

    @property
    def understands_status(self) -> bool:
        """Whether the client reads a Status from the error channel (since version 4)."""
        return True
