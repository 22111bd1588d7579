"""Streams: channels that a client opens by name and another of its calls then uses."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

from cored import scope
from cored.abc.values import Typed
from cored.errors import AlreadyExists, InvalidArgument, NotFound, Unavailable

__all__ = ["Stream", "Streams"]

# messages on their way to a client that does not take them: whoever sends more, waits
_AHEAD = 16
# seconds
_FAREWELL = 0.02


class Stream:
    """One open stream of typed messages, as the daemon's side sees it."""

    def __init__(self, id: str, incoming: AsyncIterator[Typed]) -> None:
        self.id = id
        self._incoming = incoming
        self._outgoing: asyncio.Queue[Typed] = asyncio.Queue(_AHEAD)
        self._closed = asyncio.Event()

    async def send(self, message: Typed) -> None:
        """Send; waits for a slow client. Unavailable when the stream has ended."""
        put = asyncio.ensure_future(self._outgoing.put(message))
        end = asyncio.ensure_future(self._closed.wait())
        try:
            await asyncio.wait((put, end), return_when=asyncio.FIRST_COMPLETED)
            if not put.done() or self._closed.is_set():
                raise Unavailable(f"stream {self.id!r}: has ended")
        finally:
            put.cancel()
            end.cancel()

    def offer(self, message: Typed) -> bool:
        """Send without waiting; False when the client is behind, or gone."""
        if self._closed.is_set() or self._outgoing.full():
            return False
        self._outgoing.put_nowait(message)
        return True

    async def receive(self) -> Typed | None:
        """The next message; None when the client has said its last. Unavailable when it left."""
        take = asyncio.ensure_future(anext(self._incoming, None))
        end = asyncio.ensure_future(self._closed.wait())
        try:
            await asyncio.wait((take, end), return_when=asyncio.FIRST_COMPLETED)
            if take.done() and take.result() is not None:
                return take.result()
            # a client that leaves looks at first like one that has said its last
            await asyncio.wait((end,), timeout=_FAREWELL)
            if end.done():
                raise Unavailable(f"stream {self.id!r}: has ended")
            return None
        finally:
            take.cancel()
            end.cancel()

    def close(self) -> None:
        """End the stream once what was sent has gone. May be called twice."""
        self._closed.set()

    async def outgoing(self) -> AsyncIterator[Typed]:
        """What is to be sent, until the stream is closed: for the one who carries it."""
        while True:
            take = asyncio.ensure_future(self._outgoing.get())
            end = asyncio.ensure_future(self._closed.wait())
            try:
                await asyncio.wait((take, end), return_when=asyncio.FIRST_COMPLETED)
                if not take.done():
                    break
                message = take.result()
            finally:
                take.cancel()
                end.cancel()
            yield message
        while not self._outgoing.empty():
            yield self._outgoing.get_nowait()


class Streams:
    """The open streams of all namespaces."""

    def __init__(self) -> None:
        self._open: dict[tuple[str, str], Stream] = {}

    @contextmanager
    def registered(self, id: str, incoming: AsyncIterator[Typed]) -> Iterator[Stream]:
        """A stream that others find by its id while the body runs. AlreadyExists."""
        if not id:
            raise InvalidArgument("stream: needs an id")
        key = (scope.namespace(), id)
        if key in self._open:
            raise AlreadyExists(f"stream {id!r}: already exists")
        stream = self._open[key] = Stream(id, incoming)
        try:
            yield stream
        finally:
            del self._open[key]
            stream.close()

    def get(self, id: str) -> Stream:
        """An open stream of the namespace. NotFound."""
        try:
            return self._open[scope.namespace(), id]
        except KeyError:
            raise NotFound(
                f"stream {id!r}: not found", hint="open it before the call that uses it"
            ) from None
