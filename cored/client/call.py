"""One gRPC call on a connection: messages in frames, deadline, status."""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from h2.errors import ErrorCodes
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
)

from cored.client.disconnected import Disconnected
from cored.errors import Cancelled, CoredError, Internal, ResourceExhausted, Unavailable, by_code

if TYPE_CHECKING:
    from cored.client.connection import Connection

__all__ = ["Call"]

_PREFIX = struct.Struct(">BI")
_RESETS: Mapping[int, type[CoredError]] = {
    ErrorCodes.CANCEL: Cancelled,
    ErrorCodes.REFUSED_STREAM: Unavailable,
    ErrorCodes.ENHANCE_YOUR_CALM: ResourceExhausted,
}


class Call:
    """A stream of the connection from its request headers to its status.

    ``path`` is /package.Service/Method; ``deadline`` is of time.monotonic(). ``ended`` tells that
    the daemon has said all it will, ``clean`` that we have, too: then the connection is free again.
    """

    def __init__(
        self,
        connection: Connection,
        path: str,
        metadata: Iterable[tuple[str, str]],
        deadline: float | None,
    ) -> None:
        self._connection = connection
        self._path = path
        self._deadline = deadline
        self._stream = connection.http.get_next_available_stream_id()
        self._data = bytearray()
        self._messages: deque[bytes] = deque()
        self._headers: dict[str, str] = {}
        self._reset: int | None = None
        self.ended = self.clean = False
        self._finished = False
        # whether bytes are acknowledged only by :meth:`acknowledge`, and how many are not yet
        self.hold = False
        self._owed = 0
        connection.http.send_headers(
            self._stream,
            [
                (":method", "POST"),
                (":scheme", "http"),
                (":path", path),
                (":authority", "localhost"),
                ("te", "trailers"),
                ("content-type", "application/grpc"),
                ("user-agent", "cored-client"),
                *metadata,
            ],
        )

    def send(self, message: bytes) -> None:
        """Queue a serialised message; waits while the daemon's window is full.

        Returns early when the daemon has ended the call: its status says why.
        """
        rest = memoryview(_PREFIX.pack(0, len(message)) + message)
        http = self._connection.http
        while rest and not self.ended:
            size = min(
                len(rest),
                http.local_flow_control_window(self._stream),
                http.max_outbound_frame_size,
            )
            if size > 0:
                http.send_data(self._stream, rest[:size].tobytes())
                rest = rest[size:]
            else:
                self._take(self._connection.exchange(self._deadline))

    def room(self) -> int:
        """The size of a message that :meth:`send` would not wait with."""
        window = self._connection.http.local_flow_control_window(self._stream)
        return max(0, window - _PREFIX.size)

    def acknowledge(self) -> None:
        """Let the daemon send as much as has arrived until now, where ``hold`` is set."""
        if self._owed and not self.ended:
            self._connection.http.acknowledge_received_data(self._owed, self._stream)
            self._connection.flush()
        self._owed = 0

    def check(self) -> None:
        """Raise what the end of the call stands for, unless it is success."""
        if self.ended:
            self._check()

    def finish(self) -> None:
        """No more messages follow; sends all that is queued, as far as the socket takes it."""
        if not self.ended:
            self._connection.http.end_stream(self._stream)
            self._finished = True
            self._connection.flush()

    def arrived(self) -> list[bytes]:
        """Messages that are here already; waits for nothing."""
        if not self.ended:
            self._take(self._connection.received())
        found = list(self._messages)
        self._messages.clear()
        return found

    def receive(self) -> bytes | None:
        """The next message, or None after the last of a call that succeeded.

        Raises what the status stands for otherwise: see :mod:`cored.errors`.
        """
        while not self._messages:
            if self.ended:
                self._check()
                return None
            self._take(self._connection.exchange(self._deadline))
        return self._messages.popleft()

    def _take(self, events: list[Event]) -> None:
        for event in events:
            match event:
                case ConnectionTerminated():
                    raise Disconnected(f"{self._path}: the daemon closed the connection")
                case DataReceived(data=bytes(data), flow_controlled_length=int(length)):
                    self._data += data
                    if length and self.hold:
                        self._owed += length
                    elif length:
                        self._connection.http.acknowledge_received_data(length, self._stream)
                    self._split()
                case ResponseReceived(headers=headers) | TrailersReceived(headers=headers):
                    self._headers.update((str(k), str(v)) for k, v in headers or ())
                case StreamEnded():
                    self.ended, self.clean = True, self._finished
                case StreamReset(error_code=code):
                    self._reset, self.ended = int(code or 0), True
                case _:
                    continue
        self._connection.flush()

    def _split(self) -> None:
        while len(self._data) >= _PREFIX.size:
            compressed, length = _PREFIX.unpack_from(self._data)
            end = _PREFIX.size + length
            if compressed:
                raise Internal(f"{self._path}: the answer is compressed, which nobody asked for")
            if len(self._data) < end:
                return
            self._messages.append(bytes(self._data[_PREFIX.size : end]))
            del self._data[:end]

    def _check(self) -> None:
        """Raise what the end of the call stands for, unless it is success."""
        code, message = self._headers.get("grpc-status"), self._headers.get("grpc-message", "")
        if code == "0":
            return
        if code is not None and code.isdecimal():
            # needed for failures only
            from urllib.parse import unquote

            raise by_code(int(code))(unquote(message) or f"{self._path}: status {code}")
        if self._reset is not None:
            kind = _RESETS.get(self._reset, Internal)
            raise kind(f"{self._path}: the daemon reset the call (HTTP/2 error {self._reset})")
        status = self._headers.get(":status", "none")
        raise Internal(f"{self._path}: no gRPC status in the answer (HTTP status {status})")
