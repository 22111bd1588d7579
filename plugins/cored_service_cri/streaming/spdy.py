"""A client's SPDY connection: its streams are the channels of a command, or forwarded ports."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection
from dataclasses import dataclass

from cored.errors import CoredError, DeadlineExceeded
from cored_service_cri.streaming.channels import CHUNK, Channel, Connection, Link, Pair
from cored_service_cri.streaming.spdyframes import (
    Data,
    Decoder,
    Encoder,
    Frame,
    GoAway,
    Ping,
    Reset,
    Syn,
)

__all__ = ["SpdyConnection"]

# seconds for the client to open what it has announced
_PATIENCE = 30.0
_REFUSED = 3


class _Stream(Channel):
    def __init__(self, owner: SpdyConnection, number: int, headers: dict[str, str]) -> None:
        super().__init__()
        self.number = number
        self.headers = headers
        self._owner = owner
        self._closed = False

    async def write(self, data: bytes) -> None:
        for start in range(0, len(data), CHUNK):
            piece = data[start : start + CHUNK]
            await self._owner.send(self._owner.encoder.data(self.number, piece))

    async def close(self) -> None:
        if not self._closed:
            self._closed = True
            if self.ended:
                self._owner.forget(self.number)
            await self._owner.send(self._owner.encoder.data(self.number, b"", fin=True))

    def end(self) -> None:
        super().end()
        if self._closed:
            self._owner.forget(self.number)


@dataclass(slots=True)
class _Pair:
    port: int
    data: Channel
    error: Channel


class SpdyConnection(Connection):
    """Use :meth:`serve` beside whatever uses the channels."""

    def __init__(self, link: Link, *, version: int = 4) -> None:
        self.encoder = Encoder()
        self._decoder = Decoder()
        self._link = link
        self._version = version
        self._streams: dict[int, _Stream] = {}
        self._opened: asyncio.Queue[_Stream | None] = asyncio.Queue()
        self._gone = asyncio.Event()
        self._sending = asyncio.Lock()

    @property
    def understands_status(self) -> bool:
        return self._version >= 4

    async def serve(self) -> None:
        """Take what comes until the client is gone."""
        try:
            while data := await self._link.read():
                for frame in self._decoder.feed(data):
                    await self._take(frame)
        except (OSError, CoredError):
            return  # it ends as if the client had gone: there is nobody to tell
        finally:
            self._gone.set()
            self._opened.put_nowait(None)
            for stream in self._streams.values():
                stream.end()

    async def send(self, data: bytes) -> None:
        """Whole frames, in order."""
        async with self._sending:
            await self._link.write(data)

    def forget(self, number: int) -> None:
        """Neither side has more to say on a stream: one connection may forward many."""
        if not self._gone.is_set():
            self._streams.pop(number, None)

    async def gone(self) -> None:
        await self._gone.wait()

    async def channels(self, names: Collection[str]) -> dict[str, Channel]:
        found: dict[str, Channel] = {}
        try:
            async with asyncio.timeout(_PATIENCE):
                while len(found) < len(names):
                    stream = await self._opened.get()
                    if stream is None:
                        raise DeadlineExceeded("streams: the client has gone")
                    kind = stream.headers.get("streamtype", "")
                    if kind in names:
                        found[kind] = stream
        except TimeoutError as error:
            missing = ", ".join(sorted(set(names) - set(found)))
            raise DeadlineExceeded(f"streams: the client does not open {missing}") from error
        return found

    async def pairs(self, ports: Collection[int]) -> AsyncIterator[Pair]:
        errors: dict[str, _Stream] = {}
        datas: dict[str, _Stream] = {}
        while (stream := await self._opened.get()) is not None:
            number = stream.headers.get("requestid") or stream.headers.get("port", "")
            table = errors if stream.headers.get("streamtype") == "error" else datas
            table[number] = stream
            if number in errors and number in datas:
                data, error = datas.pop(number), errors.pop(number)
                port = data.headers.get("port", "")
                yield _Pair(int(port) if port.isdecimal() else 0, data, error)

    async def _take(self, frame: Frame) -> None:
        match frame:
            case Syn():
                stream = _Stream(self, frame.stream, dict(frame.headers))
                self._streams[frame.stream] = stream
                async with self._sending:
                    # compression is in the order of the wire
                    await self._link.write(self.encoder.reply(frame.stream))
                if frame.fin:
                    await stream.arrived(b"")
                self._opened.put_nowait(stream)
            case Data():
                found = self._streams.get(frame.stream)
                if found is None:
                    await self.send(self.encoder.reset(frame.stream, _REFUSED))
                    return
                if frame.payload:
                    await found.arrived(frame.payload)
                if frame.fin:
                    await found.arrived(b"")
            case Reset():
                found = self._streams.pop(frame.stream, None)
                if found is not None:
                    await found.arrived(b"")
            case Ping():
                await self.send(self.encoder.ping(frame.stream))
            case GoAway():
                pass  # what is open goes on
            case _:
                pass
