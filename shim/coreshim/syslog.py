"""syslog: RFC 3164 and RFC 5424 over unix sockets, UDP, TCP, and TLS, with docker's options.

``address`` is ``unix:///p``, ``unixgram:///p``, ``udp://h:p``, ``tcp://h:p``, ``tcp+tls://h:p``, or
empty for the host's own; ``facility`` a number; ``format`` is ``rfc3164``, ``rfc5424``,
``rfc5424micro``, or empty for the host's own format, which has no host name; ``tag``; and
``tls-ca-cert tls-cert tls-key tls-skip-verify``.
"""

from __future__ import annotations

import errno
import os
import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from coreshim.hibernation import Luggage, State
from coreshim.loop import READ, WRITE
from coreshim.outlets import Outlet

if TYPE_CHECKING:
    import ssl

__all__ = ["Syslog"]

_LOCAL = ("/dev/log", "/var/run/syslog", "/var/run/log")
_PORT = 514
_PATIENCE = 10.0
# info, err
_SEVERITY = {"stdout": 6, "stderr": 3}
_MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
_Place = tuple[int, int, Any]


class Syslog(Outlet):
    """One stream's messages; each stream has a connection of its own."""

    def __init__(self, stream: str, options: Mapping[str, str]) -> None:
        super().__init__(stream, options)
        self._options = options
        url = urlsplit(options.get("address", ""))
        self._kind = url.scheme
        self._host, self._path = url.hostname or "", url.path
        self._port = url.port or _PORT
        self._priority = int(options.get("facility") or 3) * 8 + _SEVERITY[stream]
        self._format = options.get("format", "")
        self._tag = options.get("tag", "")
        # of whoever began: its successors are the same program to the reader
        self._pid = os.getpid()
        # family, kind, address of what the name has turned out to be
        self._places: list[_Place] = []
        self._socket: socket.socket | None = None
        self._tls: ssl.SSLSocket | None = None
        self._stream_socket = self._shaking = False

    def open(self) -> None:
        self._places = self._found()
        failed: OSError | None = None
        for place in list(self._places):
            try:
                made = self._begin(place, _PATIENCE)
                if self._kind == "tcp+tls":
                    made = self._secured(made)
                    made.do_handshake()
                    self._shaking = False
                made.setblocking(False)
                self._places = [place]
                return
            except OSError as error:  # ssl's are, too
                failed = error
                self.disconnect()
        where = self._options.get("address") or " ".join(_LOCAL)
        why = "there is no such socket" if failed is None else failed.strerror or failed
        raise OSError(failed.errno if failed else errno.ENOENT, f"{where}: {why}") from failed

    def connect(self) -> None:
        self._begin(self._places[0], 0.0)

    def disconnect(self) -> None:
        for each in (self._tls, self._socket):
            if each is not None:
                each.close()
        self._socket = self._tls = None
        self.fd, self._shaking = -1, False

    def pack(self, luggage: Luggage) -> State:
        if self._tls is not None:
            self.disconnect()  # its keys are this process's
        places = [[family, kind, address] for family, kind, address in self._places]
        return {**super().pack(luggage), "places": places, "pid": self._pid}

    def unpack(self, state: State, luggage: Luggage) -> None:
        super().unpack(state, luggage)
        self._pid = state["pid"]
        self._places = [
            (family, kind, tuple(address) if isinstance(address, list) else address)
            for family, kind, address in state["places"]
        ]
        if self.fd >= 0:
            self._socket = socket.socket(fileno=self.fd)
            self._socket.setblocking(False)
            self._stream_socket = self._socket.type == socket.SOCK_STREAM

    def message(self, text: bytes) -> bytes:
        line = text[:-1] if text.endswith(b"\n") else text
        data = self._head().encode() + line
        if self._format.startswith("rfc5424") and self._kind == "tcp+tls":
            return b"%d " % len(data) + data  # RFC 5425, 4.3
        return data + b"\n"

    def send(self, message: bytes) -> int:
        if self._kind == "tcp+tls":
            return self._send_secured(message)
        assert self._socket is not None
        if self._stream_socket:
            # noticed before a message is lost to it
            with suppress(BlockingIOError):
                _alive(self._socket.recv(1, socket.MSG_PEEK))
        return self._socket.send(message)

    def _send_secured(self, message: bytes) -> int:
        import ssl

        try:
            if self._tls is None:
                assert self._socket is not None
                if error := self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                    raise OSError(error, os.strerror(error))
                self._socket.getpeername()
                self._secured(self._socket)
            assert self._tls is not None
            if self._shaking:
                self._tls.do_handshake()
                self._shaking = False
            with suppress(ssl.SSLWantReadError):
                _alive(self._tls.recv(1))
            return self._tls.send(message)
        except ssl.SSLWantReadError:
            self.wants = READ
        except ssl.SSLWantWriteError:
            self.wants = WRITE
        except OSError as error:
            if error.errno != errno.ENOTCONN:
                raise
            self.wants = WRITE  # the connection is still on its way
        raise BlockingIOError

    def _found(self) -> list[_Place]:
        match self._kind:
            case "":
                paths = [path for path in _LOCAL if os.path.exists(path)]
                kinds = (socket.SOCK_DGRAM, socket.SOCK_STREAM)
                return [(socket.AF_UNIX, kind, path) for path in paths for kind in kinds]
            case "unixgram":
                return [(socket.AF_UNIX, socket.SOCK_DGRAM, self._path)]
            case "unix":
                kinds = (socket.SOCK_STREAM, socket.SOCK_DGRAM)
                return [(socket.AF_UNIX, kind, self._path) for kind in kinds]
            case kind:
                wanted = socket.SOCK_DGRAM if kind == "udp" else socket.SOCK_STREAM
                found = socket.getaddrinfo(self._host, self._port, type=wanted)
                return [(family, type, address) for family, type, _, _, address in found]

    def _begin(self, place: _Place, seconds: float) -> socket.socket:
        """Connect; with no ``seconds`` to wait it may still be under way afterwards."""
        family, kind, address = place
        self._socket = made = socket.socket(family, kind)
        self._stream_socket = kind == socket.SOCK_STREAM
        made.settimeout(seconds)
        self.fd = made.fileno()
        # EINPROGRESS: what is sent tells how it went
        with suppress(BlockingIOError):
            made.connect(address)
        return made

    def _secured(self, connection: socket.socket) -> ssl.SSLSocket:
        self._tls = self._context().wrap_socket(
            connection, server_hostname=self._host, do_handshake_on_connect=False
        )
        self._socket, self._shaking = None, True
        return self._tls

    def _context(self) -> ssl.SSLContext:
        import ssl

        given = self._options.get
        context = ssl.create_default_context(cafile=given("tls-ca-cert") or None)
        if given("tls-skip-verify"):
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if given("tls-cert"):
            context.load_cert_chain(str(given("tls-cert")), given("tls-key") or None)
        return context

    def _head(self) -> str:
        now, host = time.time(), os.uname().nodename
        local = time.localtime(now)
        if self._format.startswith("rfc5424"):
            stamp = time.strftime("%Y-%m-%dT%H:%M:%S", local)
            if self._format == "rfc5424micro":
                stamp += f".{int(now % 1 * 1_000_000):06d}"
            zone = time.strftime("%z", local)
            head = f"<{self._priority}>1 {stamp}{zone[:3]}:{zone[3:]} {host}"
            return f"{head} {self._tag} {self._pid} {self._tag} - "
        stamp = f"{_MONTHS[local.tm_mon - 1]} {local.tm_mday:2d} {time.strftime('%H:%M:%S', local)}"
        where = f"{host} " if self._format == "rfc3164" else ""
        return f"<{self._priority}>{stamp} {where}{self._tag}[{self._pid}]: "


def _alive(data: bytes) -> None:
    """ConnectionResetError when that was the end: a syslog server has nothing else to say."""
    if not data:
        raise ConnectionResetError(errno.ECONNRESET, "the server has closed the connection")
