"""A load generator for gRPC over a unix socket that costs next to nothing itself.

Frames are written and read by hand: what is measured is the server. It promises the server all the
flow control windows there are, answers pings, and keeps to the windows that the server gives.
"""

from __future__ import annotations

import socket
import struct
from collections import deque
from collections.abc import Iterator

from hpack import Decoder

__all__ = ["Connection", "Stream"]

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RESET, _SETTINGS, _PING, _GOAWAY, _WINDOW, _MORE = 0, 1, 3, 4, 6, 7, 8, 9
_END_STREAM, _ACK, _END_HEADERS = 1, 1, 4
_INITIAL_WINDOW, _LARGEST_WINDOW, _DEFAULT_WINDOW = 4, (1 << 31) - 1, 65_535
_FRAME = 16_384
_BUFFER = 1 << 20


class Stream:
    """One call: the messages that came back, and whether it has ended."""

    def __init__(self, number: int, window: int) -> None:
        self.number = number
        self.window = window
        self.messages: deque[bytes] = deque()
        self.ended = False
        self._pending = bytearray()

    def take(self, data: memoryview) -> None:
        """Split what came into messages."""
        pending = self._pending
        pending += data
        position = 0
        while len(pending) - position >= 5:
            end = position + 5 + int.from_bytes(pending[position + 1 : position + 5], "big")
            if end > len(pending):
                break
            self.messages.append(bytes(pending[position + 5 : end]))
            position = end
        if position:
            del pending[:position]


class Connection:
    """One connection, used by one thread."""

    def __init__(self, address: str, namespace: str) -> None:
        self._namespace = namespace
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(60)
        self.socket.connect(address)
        self._next = 1
        self._window = self._initial = _DEFAULT_WINDOW
        self._streams: dict[int, Stream] = {}
        self._heads: dict[str, bytes] = {}
        self._headers: list[bytes] = []
        """Header blocks that nobody has read: only a failure makes them interesting."""
        self._rest = b""
        self._buffer = bytearray(_BUFFER)
        settings = struct.pack(">HI", _INITIAL_WINDOW, _LARGEST_WINDOW)
        update = struct.pack(">I", _LARGEST_WINDOW - _DEFAULT_WINDOW)
        self.socket.sendall(
            _PREFACE + _frame(_SETTINGS, 0, 0, settings) + _frame(_WINDOW, 0, 0, update)
        )

    def close(self) -> None:
        self.socket.close()

    def open(self, path: str) -> Stream:
        """Begin a call."""
        stream, head = self._opened(path)
        self.socket.sendall(head)
        return stream

    def unary(self, path: str, request: bytes) -> bytes:
        """Send one message, answer the one that comes back."""
        stream = self.begin(path, request)
        while not stream.ended:
            self.receive()
        return self.only(stream)

    def begin(self, path: str, request: bytes) -> Stream:
        """Send one small message and no more; the answer is for :meth:`receive`."""
        stream, head = self._opened(path)
        message = struct.pack(">BI", 0, len(request)) + request
        if len(message) > min(_FRAME, self._window):
            self.socket.sendall(head)
            self.send(stream, request, last=True)
        else:
            self._window -= len(message)
            self.socket.sendall(head + _frame(_DATA, _END_STREAM, stream.number, message))
        return stream

    def send(self, stream: Stream, request: bytes, *, last: bool = False) -> None:
        """Send one message of a stream, as the server's windows allow."""
        rest = memoryview(struct.pack(">BI", 0, len(request)) + request)
        while rest and not stream.ended:
            parts: list[bytes | memoryview] = []
            while rest and (size := min(len(rest), _FRAME, self._window, stream.window)) > 0:
                flags = _END_STREAM if last and size == len(rest) else 0
                parts += [_head(size, _DATA, flags, stream.number), rest[:size]]
                rest = rest[size:]
                self._window -= size
                stream.window -= size
            if parts:
                self.socket.sendall(b"".join(parts))
            if rest:
                self.receive()

    def next(self, stream: Stream) -> bytes | None:
        """The next message of a stream; None at its end."""
        while not stream.messages and not stream.ended:
            self.receive()
        return stream.messages.popleft() if stream.messages else None

    def all(self, stream: Stream) -> Iterator[bytes]:
        while (message := self.next(stream)) is not None:
            yield message

    def only(self, stream: Stream) -> bytes:
        """The answer of a unary call that has ended."""
        if len(stream.messages) != 1:
            raise RuntimeError(f"call failed: {self.status()}")
        return stream.messages.popleft()

    def receive(self) -> None:
        """Read once from the socket, and sort what came."""
        count = self.socket.recv_into(self._buffer)
        if count == 0:
            raise RuntimeError("the server closed the connection")
        data = memoryview(self._rest + self._buffer[:count] if self._rest else self._buffer)
        end = len(self._rest) + count
        position = 0
        while end - position >= 9:
            size = int.from_bytes(data[position : position + 3], "big")
            after = position + 9 + size
            if after > end:
                break
            kind, flags = data[position + 3], data[position + 4]
            number = int.from_bytes(data[position + 5 : position + 9], "big")
            self._sort(kind, flags, number, data[position + 9 : after])
            position = after
        self._rest = bytes(data[position:end])

    def status(self) -> dict[str, str]:
        """All headers that came since the last time, the later over the earlier."""
        decoder, found = Decoder(), {}
        for block in self._headers:
            found.update({str(k): str(v) for k, v in decoder.decode(block)})
        return found

    def _opened(self, path: str) -> tuple[Stream, bytes]:
        stream = Stream(self._next, self._initial)
        self._next += 2
        self._streams[stream.number] = stream
        block = self._heads.get(path)
        if block is None:
            block = self._heads[path] = _block(path, self._namespace)
        return stream, _frame(_HEADERS, _END_HEADERS, stream.number, block)

    def _sort(self, kind: int, flags: int, number: int, data: memoryview) -> None:
        stream = self._streams.get(number)
        if kind == _DATA and stream is not None:
            stream.take(data)
        elif kind in (_HEADERS, _MORE):
            self._headers.append(bytes(data))
        elif kind == _SETTINGS and not flags & _ACK:
            for name, value in struct.iter_unpack(">HI", data):
                if name == _INITIAL_WINDOW:
                    for open_stream in self._streams.values():
                        open_stream.window += value - self._initial
                    self._initial = value
            self.socket.sendall(_frame(_SETTINGS, _ACK, 0, b""))
        elif kind == _PING and not flags & _ACK:
            self.socket.sendall(_frame(_PING, _ACK, 0, bytes(data)))
        elif kind == _WINDOW:
            more = int.from_bytes(data, "big")
            if stream is not None:
                stream.window += more
            elif number == 0:
                self._window += more
        elif kind == _GOAWAY:
            raise RuntimeError(f"the server goes away: {bytes(data)!r}")
        if stream is not None and (
            kind == _RESET or (kind in (_DATA, _HEADERS) and flags & _END_STREAM)
        ):
            stream.ended = True
            del self._streams[number]


def _head(size: int, kind: int, flags: int, number: int) -> bytes:
    return struct.pack(">BHBBI", size >> 16, size & 0xFFFF, kind, flags, number)


def _frame(kind: int, flags: int, number: int, data: bytes) -> bytes:
    return _head(len(data), kind, flags, number) + data


def _block(path: str, namespace: str) -> bytes:
    """Request headers, all of them literals that nobody has to remember."""
    headers = {
        ":method": "POST",
        ":scheme": "http",
        ":path": path,
        ":authority": "localhost",
        "te": "trailers",
        "content-type": "application/grpc",
        "user-agent": "bench",
        "containerd-namespace": namespace,
    }
    return b"".join(b"\0" + _text(name) + _text(value) for name, value in headers.items())


def _text(text: str) -> bytes:
    data = text.encode()
    assert len(data) < 127, text
    return bytes([len(data)]) + data
