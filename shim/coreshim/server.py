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
from coreshim.hibernation import Luggage, State, bytes_of, text_of
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


# asking these once more makes no difference: who asked has not been answered yet
_REPEATABLE = frozenset(("Wait", "WaitSandbox"))


class Server:
    """Listens on ``path`` and dispatches ``/service/method``."""

    def __init__(
        self,
        loop: Loop,
        path: str,
        listener: socket.socket,
        methods: Mapping[tuple[str, str], Method],
        inode: int = 0,
    ) -> None:
        self._loop = loop
        self._path = path
        self._methods = methods
        self._connections: set[_Connection] = set()
        self._socket = listener
        # somebody may have put another there while we slept
        self._inode = inode or os.stat(path).st_ino
        self._socket.setblocking(False)
        loop.watch(self._socket.fileno(), READ, self._accept)

    @classmethod
    def listening(cls, loop: Loop, path: str, methods: Mapping[tuple[str, str], Method]) -> Server:
        """A server on a new socket at ``path``. OSError."""
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        previous = os.umask(0o177)
        try:
            listener.bind(path)
        finally:
            os.umask(previous)
        listener.listen(64)
        return cls(loop, path, listener, methods)

    @property
    def connections(self) -> int:
        """How many clients there are."""
        return sum(connection.open for connection in self._connections)

    @property
    def waits(self) -> int:
        """How many requests are under way; all of them can be asked once more while quiet."""
        return sum(len(connection.under_way) for connection in self._connections)

    @property
    def quiet(self) -> bool:
        """Whether no request is half read, no answer half sent, and nobody waits but for ends."""
        return all(connection.quiet for connection in self._connections)

    def pack(self, luggage: Luggage) -> State:
        """What :meth:`unpack` needs; only while :attr:`quiet`."""
        return {
            "path": self._path,
            "inode": self._inode,
            "listener": luggage.pack(self._socket.fileno()),
            "connections": [each.pack(luggage) for each in self._connections if each.open],
        }

    @classmethod
    def unpacked(
        cls,
        loop: Loop,
        state: State,
        luggage: Luggage,
        methods: Mapping[tuple[str, str], Method],
    ) -> Server:
        """The server that an earlier worker was, with its connections and who waits on them."""
        listener = socket.socket(fileno=luggage.unpack(state["listener"]))
        server = cls(loop, state["path"], listener, methods, state["inode"])
        for connection in state["connections"]:
            channel = socket.socket(fileno=luggage.unpack(connection["channel"]))
            server._connect(channel).unpack(connection)
        return server

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
        self._connect(connection)

    def _connect(self, channel: socket.socket) -> _Connection:
        connection = _Connection(self, channel)
        self._connections.add(connection)
        return connection

    def over(self, connection: _Connection) -> None:
        """A connection has ended, and so has what was asked over it."""
        self._connections.discard(connection)

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
        self.open = True
        # payloads of the requests that have no answer yet, by stream
        self.under_way: dict[int, bytes] = {}
        self._loop.watch(channel.fileno(), READ, self._ready)

    @property
    def quiet(self) -> bool:
        return not self._out and self._decoder.empty and all(
            decode("Request", payload)["method"] in _REPEATABLE
            for payload in self.under_way.values()
        )  # fmt: skip

    def pack(self, luggage: Luggage) -> State:
        waits = [[stream, text_of(payload)] for stream, payload in self.under_way.items()]
        return {"channel": luggage.pack(self._channel.fileno()), "waits": waits}

    def unpack(self, state: State) -> None:
        for stream, payload in state["waits"]:
            self._loop.spawn(self._serve(Frame(stream, REQUEST, bytes_of(payload))))

    def _ready(self, events: int) -> None:
        if events & WRITE:
            self._flush()
        if self.open and events & ~WRITE:
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
        self.under_way[frame.stream] = frame.payload
        try:
            payload = await self._server.answer(frame.payload)
        finally:
            del self.under_way[frame.stream]
            self._end()
        if self.open:
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
        if self.open:
            self.open = False
            self._loop.unwatch(self._channel.fileno())
            self._channel.close()
            self._end()

    def _end(self) -> None:
        if not self.open and not self.under_way:
            self._server.over(self)
