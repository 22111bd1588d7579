"""One HTTP/2 connection, on a unix socket or TLS, that carries one call at a time."""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import time
from typing import TYPE_CHECKING

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import Event
from h2.exceptions import ProtocolError
from h2.settings import SettingCodes, Settings

from cored.client.disconnected import Disconnected
from cored.errors import DeadlineExceeded, PermissionDenied

if TYPE_CHECKING:
    from cored.client.secure import SecureSocket
    from cored.client.tls import TLS

__all__ = ["Connection", "Disconnected"]

_WINDOW = 4 << 20
_READ = 256 << 10
_FRAME_HEADER = 9
_GOAWAY = 7
_GREETING = 15.0


class Connection:
    """A socket with HTTP/2 on it; ``http`` is the sans-I/O state of the protocol.

    ``retired`` tells that the daemon takes no more calls here (it shuts down); a call that is
    under way may still end well. Not for use from several threads at once.
    """

    def __init__(self, address: str, tls: TLS | None = None) -> None:
        """Connect to a unix socket or ``tcp://host:port``; Disconnected, PermissionDenied.

        InvalidArgument and NotFound for the files of ``tls``, which the network needs.
        """
        self._address = address
        self._socket: socket.socket | SecureSocket
        self._secure: SecureSocket | None = None
        if "://" in address:
            # imported here: ssl is slow to load
            from cored.client.secure import connect

            self._socket = self._secure = connect(address, tls)
        else:
            self._socket = _connect(address)
        self.http = H2Connection(
            H2Configuration(
                header_encoding="utf-8",
                validate_outbound_headers=False,
                normalize_outbound_headers=False,
            )
        )
        self.http.local_settings = Settings(
            initial_values={
                SettingCodes.ENABLE_PUSH: 0,
                SettingCodes.INITIAL_WINDOW_SIZE: _WINDOW,
            }
        )
        self.http.initiate_connection()
        self.http.increment_flow_control_window(_WINDOW)
        self._out = bytearray()
        self._in = bytearray()
        self.retired = False
        if self._secure is not None:
            self._greeted()

    def close(self) -> None:
        """Close the socket; a call that is under way is cancelled in the daemon."""
        self.retired = True
        self._socket.close()

    def fileno(self) -> int:
        """The socket's descriptor, for polls of several things."""
        return self._socket.fileno()

    @property
    def backlog(self) -> int:
        """Bytes that the socket has not taken yet."""
        return len(self._out)

    @property
    def pending(self) -> bool:
        """Whether something can be read, though the descriptor may not show it."""
        return self._secure is not None and self._secure.pending() > 0

    def interrupt(self) -> None:
        """Break the connection under the thread that uses it, which raises Disconnected."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def idle(self) -> bool:
        """Whether another call can begin here: answers pings and notices a daemon that left."""
        try:
            while not self.retired and self._ready(select.POLLIN, 0):
                self._read()
            self._write()
        except Disconnected:
            return False
        return not self.retired

    def flush(self) -> None:
        """Send what is queued, as far as the socket takes it now."""
        self._out += self.http.data_to_send()
        self._write()

    def exchange(self, deadline: float | None) -> list[Event]:
        """Send what is queued, wait until something comes, and return it as events.

        ``deadline`` is of time.monotonic(). DeadlineExceeded, Disconnected.
        """
        while True:
            self.flush()
            interest = select.POLLIN | (select.POLLOUT if self._out else 0)
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            ready = self._ready(interest, left)
            if not ready:
                raise DeadlineExceeded(f"daemon at {self._address}: no answer in time")
            if ready & ~select.POLLOUT:
                return self._read()

    def received(self) -> list[Event]:
        """Events of what is here already; waits for nothing. Disconnected."""
        self.flush()
        return self._read() if self._ready(select.POLLIN, 0) else []

    def _greeted(self) -> None:
        """Wait for the daemon's first words: until then it may not have seen our certificate."""
        try:
            self.exchange(time.monotonic() + _GREETING)
        except Disconnected as error:
            self.close()
            # gRPC's servers hang up without a word
            raise PermissionDenied(
                f"daemon at {self._address}: does not accept our certificate",
                hint="it must be one that the daemon's tcp.ca has signed, and not expired",
            ) from error
        except DeadlineExceeded as error:
            self.close()
            raise Disconnected(f"daemon at {self._address}: says nothing") from error
        except BaseException:
            self.close()
            raise

    def _ready(self, interest: int, timeout: float | None) -> int:
        if interest & select.POLLIN and self.pending:
            return select.POLLIN
        poll = select.poll()
        poll.register(self._socket, interest)
        found = poll.poll(None if timeout is None else timeout * 1000)
        return found[0][1] if found else 0

    def _write(self) -> None:
        try:
            while self._out:
                del self._out[: self._socket.send(self._out)]
        except BlockingIOError:
            return
        except OSError:
            # the answer, or why there is none, may still be readable
            self._out.clear()

    def _read(self) -> list[Event]:
        try:
            data = self._socket.recv(_READ)
        except BlockingIOError:
            return []
        except OSError as error:
            raise self._lost() from error
        if not data:
            self.retired = True
            raise self._lost()
        try:
            events = self.http.receive_data(self._without_goaway(data))
        except ProtocolError as error:
            self.retired = True
            raise Disconnected(f"daemon at {self._address}: talks no gRPC: {error}") from error
        self.flush()
        return events

    def _lost(self) -> Disconnected:
        return Disconnected(
            f"daemon at {self._address}: connection lost", hint="see what it logged"
        )

    def _without_goaway(self, data: bytes) -> bytes:
        """Take a graceful GOAWAY out of the frames: h2 would refuse all that follows it.

        A daemon that shuts down announces it with GOAWAY and then lets calls in flight finish.
        """
        self._in += data
        passed = bytearray()
        start = 0
        while len(self._in) - start >= _FRAME_HEADER:
            length = int.from_bytes(self._in[start : start + 3], "big")
            end = start + _FRAME_HEADER + length
            if end > len(self._in):
                break
            frame = self._in[start:end]
            if frame[3] == _GOAWAY and length >= 8:
                self.retired = True
                (code,) = struct.unpack_from(">I", frame, _FRAME_HEADER + 4)
                if code != ErrorCodes.NO_ERROR:
                    passed += frame
            else:
                passed += frame
            start = end
        del self._in[:start]
        return bytes(passed)


def _connect(address: str) -> socket.socket:
    peer = socket.socket(socket.AF_UNIX)
    try:
        peer.connect(address)
    except OSError as error:
        peer.close()
        if isinstance(error, PermissionError):
            raise PermissionDenied(
                f"daemon at {address}: permission denied", hint="run as root, or in its group"
            ) from error
        if isinstance(error, FileNotFoundError | ConnectionRefusedError):
            raise Disconnected(
                f"daemon at {address}: not running", hint="start it with: cored"
            ) from error
        raise Disconnected(f"daemon at {address}: {error.strerror or error}") from error
    peer.setblocking(False)
    return peer
