"""Log services for tests: a journal's socket, and syslog servers of every kind."""

from __future__ import annotations

import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

__all__ = ["Journal", "Server", "journal", "server"]


class Server:
    """What has come so far; streams as they came, joined."""

    def __init__(self, listener: socket.socket, context: ssl.SSLContext | None = None) -> None:
        self.messages: list[bytes] = []
        self.connections = 0
        self._streams: list[bytearray] = []
        self._listener = listener
        self._context = context
        self._open: list[socket.socket] = []
        self._paused = threading.Event()
        self._paused.set()
        stream = listener.type == socket.SOCK_STREAM
        self._threads = [self._begin(self._accept if stream else self._receive)]

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    @property
    def lines(self) -> list[str]:
        """All messages, a line each."""
        data = b"".join(self.messages) + b"".join(map(bytes, self._streams))
        return data.decode().splitlines()

    @property
    def stream(self) -> bytes:
        return b"".join(map(bytes, self._streams))

    def pause(self) -> None:
        """Read no more for now."""
        self._paused.clear()

    def resume(self) -> None:
        self._paused.set()

    def hang_up(self) -> None:
        """Close the connections."""
        for connection in self._open:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._open.clear()

    def close(self) -> None:
        self.resume()
        for each in (self._listener, *self._open):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(60)
        self._listener.close()

    def _begin(self, work: Callable[[], None]) -> threading.Thread:
        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        return thread

    def _receive(self) -> None:
        with suppress(OSError):
            while data := self._listener.recv(1 << 20):
                self._paused.wait()
                self.messages.append(data)

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self.connections += 1
                received = bytearray()
                self._streams.append(received)
                self._open.append(connection)
                self._threads.append(
                    self._begin(lambda c=connection, r=received: self._serve(c, r))  # type: ignore[misc]
                )

    def _serve(self, plain: socket.socket, received: bytearray) -> None:
        with suppress(OSError):
            connection = plain
            if self._context is not None:
                connection = self._context.wrap_socket(plain, server_side=True)
            with connection:
                while data := connection.recv(1 << 16):
                    received += data
                    self._paused.wait()
        plain.close()


@contextmanager
def server(
    kind: str, place: Path | int = 0, context: ssl.SSLContext | None = None
) -> Iterator[Server]:
    """Of a kind: unix, unixgram at a path; udp, tcp, and tcp with a context at a port."""
    stream = kind in ("unix", "tcp")
    family = socket.AF_UNIX if kind.startswith("unix") else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM if stream else socket.SOCK_DGRAM)
    if family == socket.AF_INET:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", place))
    else:
        listener.bind(str(place))
    if stream:
        listener.listen()
    running = Server(listener, context)
    try:
        yield running
    finally:
        running.close()


class Journal(Server):
    """Entries as journald would have them."""

    @property
    def entries(self) -> list[dict[str, bytes]]:
        return [_entry(message) for message in list(self.messages)]


@contextmanager
def journal(path: Path) -> Iterator[Journal]:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    listener.bind(str(path))
    running = Journal(listener)
    try:
        yield running
    finally:
        running.close()


def _entry(data: bytes) -> dict[str, bytes]:
    fields: dict[str, bytes] = {}
    while data:
        line, _, rest = data.partition(b"\n")
        name, equals, value = line.partition(b"=")
        if equals:
            fields[name.decode()] = value
        else:
            (size,) = struct.unpack_from("<Q", rest)
            fields[name.decode()] = rest[8 : 8 + size]
            rest = rest[8 + size + 1 :]
        data = rest
    return fields
