"""A client's WebSocket connection: channels by the first byte of each message (RFC 6455)."""

from __future__ import annotations

import asyncio
import base64
import binascii
import struct
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass

from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Event,
    Message,
    Ping,
    Request,
)
from wsproto.utilities import LocalProtocolError, ProtocolError

from cored_service_cri.streaming.channels import CHUNK, Channel, Connection, Link, Pair

__all__ = ["COMMANDS", "FORWARDING", "TUNNEL", "Tunnel", "WebSocket", "WebSocketConnection"]

COMMANDS = (
    "v5.channel.k8s.io", "v4.channel.k8s.io", "v4.base64.channel.k8s.io", "channel.k8s.io",
    "base64.channel.k8s.io",
)  # fmt: skip
FORWARDING = ("v4.channel.k8s.io", "v4.base64.channel.k8s.io")
TUNNEL = "SPDY/3.1+portforward.k8s.io"
_NAMES = ("stdin", "stdout", "stderr", "error", "resize")
_CLOSE = 255
_MOST = 4 << 20


class WebSocket:
    """Messages over a link; made from the bytes of the request that asked for it."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._wire = WSConnection(ConnectionType.SERVER)
        self._events: list[Event] = []
        self._sending = asyncio.Lock()
        self.offered: Sequence[str] = ()

    async def begin(self, request: bytes) -> None:
        """Read the handshake. ProtocolError."""
        self._wire.receive_data(request)
        for event in self._wire.events():
            if isinstance(event, Request):
                self.offered = event.subprotocols
            else:
                self._events.append(event)

    async def accept(self, subprotocol: str | None) -> None:
        """Answer the handshake."""
        await self._send(AcceptConnection(subprotocol=subprotocol))

    async def messages(self) -> AsyncIterator[bytes]:
        """Each message whole, until the client is gone. OSError."""
        parts: list[bytes] = []
        while True:
            for event in self._events:
                match event:
                    case Message():
                        data = event.data
                        parts.append(data.encode() if isinstance(data, str) else bytes(data))
                        if sum(map(len, parts)) > _MOST:
                            return
                        if event.message_finished:
                            yield b"".join(parts)
                            parts = []
                    case Ping():
                        await self._send(event.response())
                    case CloseConnection():
                        with suppress(OSError):
                            await self._send(event.response())
                        return
                    case _:
                        pass
            data = await self._link.read()
            if not data:
                return
            try:
                self._wire.receive_data(data)
                self._events = list(self._wire.events())
            except ProtocolError:
                return

    async def send(self, data: bytes) -> None:
        """One binary message. OSError."""
        await self._send(BytesMessage(data=data))

    async def close(self) -> None:
        """Say goodbye; fine when nobody hears it."""
        with suppress(OSError, ProtocolError):
            await self._send(CloseConnection(code=1000))

    async def _send(self, event: Event) -> None:
        async with self._sending:
            try:
                data = self._wire.send(event)
            except LocalProtocolError as error:
                raise ConnectionResetError("the client has closed the connection") from error
            await self._link.write(data)


class Tunnel(Link):
    """A link inside of a WebSocket: each message some of its bytes (Kubernetes' KEP 4006)."""

    def __init__(self, socket: WebSocket) -> None:
        self._socket = socket
        self._messages = socket.messages()

    async def read(self) -> bytes:
        async for message in self._messages:
            if message:
                return message
        return b""

    async def write(self, data: bytes) -> None:
        await self._socket.send(data)


class _Numbered(Channel):
    def __init__(self, owner: WebSocketConnection, number: int) -> None:
        super().__init__()
        self._owner = owner
        self._number = number

    async def write(self, data: bytes) -> None:
        for start in range(0, max(1, len(data)), CHUNK):
            await self._owner.send(self._number, data[start : start + CHUNK])

    async def close(self) -> None:
        await self._owner.close_channel(self._number)


@dataclass(slots=True)
class _Pair:
    port: int
    data: Channel
    error: Channel


class WebSocketConnection(Connection):
    """Use :meth:`serve` beside whatever uses the channels."""

    def __init__(self, socket: WebSocket, subprotocol: str) -> None:
        self._socket = socket
        self._base64 = "base64" in subprotocol
        self._version = int(subprotocol[1]) if subprotocol.startswith("v") else 1
        self._channels: dict[int, _Numbered] = {}
        self._gone = asyncio.Event()

    @property
    def understands_status(self) -> bool:
        return self._version >= 4

    async def serve(self) -> None:
        """Take what comes until the client is gone."""
        try:
            async for message in self._socket.messages():
                await self._take(message)
        except OSError:
            return  # as if it had said goodbye
        finally:
            self._gone.set()
            for channel in self._channels.values():
                channel.end()

    async def gone(self) -> None:
        await self._gone.wait()

    async def send(self, number: int, data: bytes) -> None:
        """Some bytes of one channel."""
        if self._base64:
            await self._socket.send(str(number).encode() + base64.b64encode(data))
        else:
            await self._socket.send(bytes((number,)) + data)

    async def close_channel(self, number: int) -> None:
        """Version 5 has a word for it."""
        if self._version >= 5:
            await self._socket.send(bytes((_CLOSE, number)))

    async def channels(self, names: Collection[str]) -> dict[str, Channel]:
        found: dict[str, Channel] = {}
        for number, name in enumerate(_NAMES):
            if name in names:
                found[name] = self._channels[number] = _Numbered(self, number)
        # an empty message says that the other side is there
        first = next((n for n in ("stdout", "stderr", "error") if n in found), "error")
        await found[first].write(b"")
        return found

    async def pairs(self, ports: Collection[int]) -> AsyncIterator[Pair]:
        for index, port in enumerate(ports):
            pair = []
            for number in (2 * index, 2 * index + 1):
                channel = self._channels[number] = _Numbered(self, number)
                # the first message of each is the port's number, the little end first
                await channel.write(struct.pack("<H", port))
                pair.append(channel)
            yield _Pair(port, pair[0], pair[1])
        await self._gone.wait()

    async def _take(self, message: bytes) -> None:
        if not message:
            return
        number, data = message[0], message[1:]
        if self._base64:
            number = number - ord("0")
            try:
                data = base64.b64decode(data)
            except binascii.Error:
                return
        if self._version >= 5 and number == _CLOSE:
            channel = self._channels.get(data[0]) if data else None
            if channel is not None:
                await channel.arrived(b"")
            return
        channel = self._channels.get(number)
        if channel is not None and data:
            await channel.arrived(data)
