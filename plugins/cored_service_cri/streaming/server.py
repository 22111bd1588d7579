"""The HTTP server that streams are opened at: one upgrade for each connection, and its token."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any

import h11
from wsproto.utilities import ProtocolError

from cored import log
from cored.errors import CoredError, FailedPrecondition, InvalidArgument, NotFound
from cored_service_cri.streaming.channels import CHUNK, Connection, Link
from cored_service_cri.streaming.spdy import SpdyConnection
from cored_service_cri.streaming.tokens import Session, Tokens
from cored_service_cri.streaming.websocket import (
    COMMANDS,
    FORWARDING,
    TUNNEL,
    Tunnel,
    WebSocket,
    WebSocketConnection,
)

__all__ = ["Server"]

_MOST_HEADER = 32 << 10
_SPDY_COMMANDS = (*(f"v{n}.channel.k8s.io" for n in (4, 3, 2)), "channel.k8s.io")
_SPDY_FORWARDING = ("portforward.k8s.io",)
_HANDSHAKE = 30.0
_VERBS = ("exec", "attach", "portforward")


class _Socket(Link):
    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, idle: float
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._idle = idle

    async def read(self) -> bytes:
        async with asyncio.timeout(self._idle):
            return await self._reader.read(CHUNK)

    async def write(self, data: bytes) -> None:
        if self._writer.is_closing():
            raise ConnectionResetError("the client has closed the connection")
        self._writer.write(data)
        await self._writer.drain()


class Server:
    """Serves what ``tokens`` were issued for; ``idle`` is how many seconds without a byte end a
    connection."""

    def __init__(self, tokens: Tokens, idle: float) -> None:
        self._tokens = tokens
        self._idle = idle
        self._connections: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def listening(
        self, address: str, port: int, tls: ssl.SSLContext | None
    ) -> AsyncIterator[int]:
        """Serve while the body runs; the port. FailedPrecondition when it cannot be had."""
        try:
            server = await asyncio.start_server(self._accept, address, port, ssl=tls)
        except OSError as error:
            raise FailedPrecondition(f"streams at {address}:{port}: {error.strerror}") from error
        try:
            async with server:
                yield server.sockets[0].getsockname()[1]
        finally:
            for connection in self._connections:
                connection.cancel()
            await asyncio.gather(*self._connections, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            await self._serve(reader, writer)
        except (OSError, TimeoutError) as error:
            log.get("cri").debug("a stream's connection broke", error=str(error))
        except Exception as error:  # the edge: nobody above would see it
            log.get("cri").error("a stream's connection failed", exc_info=error)
        finally:
            self._connections.discard(task)
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = _Socket(reader, writer, self._idle)
        try:
            async with asyncio.timeout(_HANDSHAKE):
                head = await reader.readuntil(b"\r\n\r\n")
            verb, token, headers = _parsed(head)
            upgrade = headers.get("upgrade", "").lower()
            if upgrade not in ("websocket", "spdy/3.1"):
                raise InvalidArgument("stream: the connection must be upgraded")
            session = self._tokens.redeem(token)
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            return
        except CoredError as error:
            await link.write(_refusal(error))
            return
        if upgrade == "websocket":
            await _web(link, head, verb, session)
        else:
            await _spdy(link, verb, headers, session)


async def _web(link: Link, head: bytes, verb: str, session: Session) -> None:
    socket = WebSocket(link)
    try:
        await socket.begin(head)
    except ProtocolError as error:
        await link.write(_refusal(InvalidArgument(f"stream: {error}")))
        return
    if verb == "portforward" and TUNNEL in socket.offered:
        await socket.accept(TUNNEL)
        tunnelled = SpdyConnection(Tunnel(socket))
        await _together(tunnelled, tunnelled.serve, session)
    else:
        known = FORWARDING if verb == "portforward" else COMMANDS
        chosen = next((one for one in known if one in socket.offered), None)
        if chosen is None and socket.offered:
            await link.write(_refusal(InvalidArgument("stream: no subprotocol in common")))
            return
        await socket.accept(chosen)
        connection = WebSocketConnection(socket, chosen or "channel.k8s.io")
        await _together(connection, connection.serve, session)
    await socket.close()


async def _spdy(link: Link, verb: str, headers: Mapping[str, str], session: Session) -> None:
    offered = [one.strip() for one in headers.get("x-stream-protocol-version", "").split(",")]
    known = _SPDY_FORWARDING if verb == "portforward" else _SPDY_COMMANDS
    chosen = next((one for one in known if one in offered), None)
    if chosen is None and offered != [""]:
        await link.write(_refusal(InvalidArgument("stream: no protocol version in common")))
        return
    answer = ["HTTP/1.1 101 Switching Protocols", "Connection: Upgrade", "Upgrade: SPDY/3.1"]
    if chosen:
        answer.append(f"X-Stream-Protocol-Version: {chosen}")
    await link.write(("\r\n".join(answer) + "\r\n\r\n").encode())
    version = int(chosen[1]) if chosen and chosen.startswith("v") else 1
    connection = SpdyConnection(link, version=version)
    await _together(connection, connection.serve, session)


async def _together(
    connection: Connection, serve: Callable[[], Coroutine[Any, Any, None]], session: Session
) -> None:
    """The session, and the connection's own reading beside it."""
    reading = asyncio.create_task(serve())
    try:
        await session(connection)
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)


def _parsed(head: bytes) -> tuple[str, str, dict[str, str]]:
    """(verb, token, headers). InvalidArgument, NotFound."""
    wire = h11.Connection(h11.SERVER, max_incomplete_event_size=_MOST_HEADER)
    try:
        wire.receive_data(head)
        request = wire.next_event()
    except h11.RemoteProtocolError as error:
        raise InvalidArgument(f"stream: {error}") from error
    if not isinstance(request, h11.Request):
        raise InvalidArgument("stream: no request")
    headers: dict[str, str] = {}
    for name, value in request.headers:
        key, text = name.decode().lower(), value.decode("latin-1")
        headers[key] = f"{headers[key]}, {text}" if key in headers else text
    _, verb, token, *rest = [*request.target.decode().partition("?")[0].split("/"), "", ""]
    if verb not in _VERBS or not token or rest[:1] not in ([], [""]):
        raise NotFound("stream: there is nothing at this path")
    return verb, token, headers


def _refusal(error: CoredError) -> bytes:
    status = "404 Not Found" if isinstance(error, NotFound) else "400 Bad Request"
    body = f"{error}\n".encode()
    head = f"HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body
