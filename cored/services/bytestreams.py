"""Bytes over streams of messages, with windows: nobody sends more than the other has asked for
(containerd.types.transfer: Data, WindowUpdate)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TypeVar

from google.protobuf.message import DecodeError, Message

from cored._pb.containerd.types.transfer import streaming_pb2 as pb
from cored.abc.values import Typed
from cored.engine.streams import Stream
from cored.errors import InvalidArgument, Unavailable

__all__ = ["received", "sent"]

_M = TypeVar("_M", bound=Message)
_DATA = pb.Data.DESCRIPTOR.full_name
_UPDATE = pb.WindowUpdate.DESCRIPTOR.full_name
# clients of Go's library send 32 KiB in a message; some of those may be under way
_WINDOW = 1 << 20
_LARGEST = 256 << 10


async def received(stream: Stream) -> AsyncIterator[bytes]:
    """What the client sends, to its end."""
    window = 0
    while True:
        if window <= _WINDOW // 2:
            # a client that has sent its last does not take updates any more
            update = pb.WindowUpdate(update=_WINDOW)
            if stream.offer(Typed(_UPDATE, update.SerializeToString())):
                window += _WINDOW
        message = await stream.receive()
        if message is None:
            return
        if message.type_url.rpartition("/")[2] != _DATA:
            continue
        data = _parsed(stream, pb.Data, message).data
        window -= len(data)
        yield data


async def sent(stream: Stream, pieces: AsyncIterator[bytes]) -> None:
    """Send all pieces as the client asks for them, and end the stream."""
    window = _Window(stream)
    reader = asyncio.create_task(window.follow(), name=f"stream {stream.id}")
    try:
        async for piece in pieces:
            rest = memoryview(piece)
            while rest:
                count = min(await window.room(), _LARGEST, len(rest))
                window.left -= count
                message = pb.Data(data=bytes(rest[:count]))
                await stream.send(Typed(_DATA, message.SerializeToString()))
                rest = rest[count:]
    finally:
        reader.cancel()
        await asyncio.wait([reader])
        stream.close()


class _Window:
    """How many bytes a client still takes."""

    def __init__(self, stream: Stream) -> None:
        self.left = 0
        self._stream = stream
        self._more = asyncio.Event()
        self._ended = False

    async def follow(self) -> None:
        """Take updates, until the client leaves."""
        try:
            while (message := await self._stream.receive()) is not None:
                if message.type_url.rpartition("/")[2] == _UPDATE:
                    self.left += _parsed(self._stream, pb.WindowUpdate, message).update
                    self._more.set()
        finally:
            self._ended = True
            self._more.set()

    async def room(self) -> int:
        """How much may be sent now, as soon as that is something."""
        while self.left <= 0:
            if self._ended:
                raise Unavailable(f"stream {self._stream.id!r}: its client has left")
            self._more.clear()
            await self._more.wait()
        return self.left


def _parsed(stream: Stream, kind: type[_M], message: Typed) -> _M:
    try:
        parsed: _M = kind.FromString(message.value)
    except DecodeError as error:
        raise InvalidArgument(f"stream {stream.id!r}: a message is damaged: {error}") from error
    return parsed
