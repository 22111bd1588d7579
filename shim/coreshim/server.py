"""ttrpc on the shim's socket: requests to coroutines, answers back in any order."""

from __future__ import annotations

import os
import socket
import traceback
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from cored.rpc.ttrpc import REQUEST, RESPONSE, Decoder, Frame, ProtocolError
from cored.rpc.ttrpc import encode as encode_frame
from coreshim.codec import DecodeError, decode, encode
from coreshim.loop import READ, WRITE, Loop

__all__ = ["Failure", "Method", "Server"]

INVALID, NOT_FOUND, EXISTS, PRECONDITION, UNIMPLEMENTED, UNKNOWN = 3, 5, 6, 9, 12, 2


class Failure(Exception):
    """An answer that is an error: a numeric gRPC status and a message."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


Method = tuple[str, str, Callable[[dict[str, Any]], Awaitable[dict[str, Any] | None]]]
"""Names of the request and response messages, and the handler."""


class Server:
    """Listens on ``path`` and dispatches ``/service/method``."""

    def __init__(self, loop: Loop, path: str, methods: Mapping[tuple[str, str], Method]) -> None:
        self._loop = loop
        self._path = path
        self._methods = methods
        self.connections = 0
        previous = os.umask(0o177)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._socket.bind(path)
        finally:
            os.umask(previous)
        self._inode = os.stat(path).st_ino
        self._socket.listen(64)
        self._socket.setblocking(False)
        loop.watch(self._socket.fileno(), READ, self._accept)

    def close(self) -> None:
        """Stop listening and remove the socket, unless it is the next shim's of the same id."""
        self._loop.unwatch(self._socket.fileno())
        self._socket.close()
        try:
            if os.stat(self._path).st_ino == self._inode:
                os.unlink(self._path)
        except FileNotFoundError:
            return  # the manager has cleaned up already

    def _accept(self, events: int) -> None:
        try:
            connection, _ = self._socket.accept()
        except BlockingIOError:
            return
        connection.setblocking(False)
        self.connections += 1
        _Connection(self, connection)

    def closed(self) -> None:
        """A connection has ended."""
        self.connections -= 1

    async def answer(self, payload: bytes) -> bytes:
        """One request to one response."""
        try:
            request = decode("Request", payload)
            method = self._methods.get((request["service"], request["method"]))
            if method is None:
                name = f"{request['service']}/{request['method']}"
                raise Failure(UNIMPLEMENTED, f"shim: {name} is not implemented")
            asked, answered, handler = method
            values = await handler(decode(asked, request["payload"]))
        except Failure as failure:
            status = {"code": failure.code, "message": str(failure)}
            return encode("Response", {"status": status})
        except DecodeError as error:
            return encode("Response", {"status": {"code": INVALID, "message": f"shim: {error}"}})
        except Exception as error:
            traceback.print_exc()
            message = f"shim: {type(error).__name__}: {error}"
            return encode("Response", {"status": {"code": UNKNOWN, "message": message}})
        return encode("Response", {"payload": encode(answered, values or {})})

    @property
    def loop(self) -> Loop:
        return self._loop


class _Connection:
    """One client."""

    def __init__(self, server: Server, channel: socket.socket) -> None:
        self._server = server
        self._loop = server.loop
        self._channel = channel
        self._decoder = Decoder()
        self._out = bytearray()
        self._open = True
        self._loop.watch(channel.fileno(), READ, self._ready)

    def _ready(self, events: int) -> None:
        if events & WRITE:
            self._flush()
        if self._open and events & ~WRITE:
            self._receive()

    def _receive(self) -> None:
        try:
            data = self._channel.recv(16 << 10)
            frames = self._decoder.feed(data)
        except BlockingIOError:
            return
        except (OSError, ProtocolError):
            data, frames = b"", []
        if not data:
            self._close()
            return
        for frame in frames:
            if frame.type == REQUEST:
                self._loop.spawn(self._serve(frame))

    async def _serve(self, frame: Frame) -> None:
        payload = await self._server.answer(frame.payload)
        if self._open:
            self._out += encode_frame(Frame(frame.stream, RESPONSE, payload))
            self._flush()

    def _flush(self) -> None:
        try:
            while self._out:
                sent = self._channel.send(self._out)
                del self._out[:sent]
        except BlockingIOError:
            self._loop.watch(self._channel.fileno(), READ | WRITE, self._ready)
            return
        except OSError:
            self._close()
            return
        self._loop.watch(self._channel.fileno(), READ, self._ready)

    def _close(self) -> None:
        if self._open:
            self._open = False
            self._loop.unwatch(self._channel.fileno())
            self._channel.close()
            self._server.closed()
