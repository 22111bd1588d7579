"""The systemd journal's native protocol, with docker's fields.

https://systemd.io/JOURNAL_NATIVE_PROTOCOL: a datagram of ``NAME=value`` lines; a value with line
feeds is ``NAME``, its length (64 bits, little-endian) and the value. Options: ``socket``, and
``fields``, an object, as JSON, of what every message has.
"""

from __future__ import annotations

import json
import os
import socket
import struct
from collections.abc import Mapping

from coreshim.hibernation import Luggage, State
from coreshim.outlets import Outlet

__all__ = ["Journald"]

_SOCKET = "/run/systemd/journal/socket"
# syslog(3): info, err
_PRIORITY = {"stdout": b"6", "stderr": b"3"}


class Journald(Outlet):
    """``CONTAINER_PARTIAL_*`` tell the pieces of a line that was too long."""

    def __init__(self, stream: str, options: Mapping[str, str]) -> None:
        super().__init__(stream, options)
        self._path = options.get("socket") or _SOCKET
        given = json.loads(options.get("fields") or "{}")
        fields = [_field(name, value.encode()) for name, value in given.items()]
        self._fields = b"".join(fields) + _field("PRIORITY", _PRIORITY[stream])
        self._partial, self._ordinal = "", 0
        self._socket: socket.socket | None = None

    def open(self) -> None:
        try:
            self.connect()
        except OSError as error:
            self.disconnect()
            raise OSError(error.errno, f"no journal at {self._path}: {error.strerror}") from error

    def connect(self) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self.fd = self._socket.fileno()
        self._socket.connect(self._path)

    def disconnect(self) -> None:
        if self._socket is not None:
            self._socket.close()
        self._socket, self.fd = None, -1

    def pack(self, luggage: Luggage) -> State:
        partial = {"partial": self._partial, "ordinal": self._ordinal}
        return {**super().pack(luggage), **partial}

    def unpack(self, state: State, luggage: Luggage) -> None:
        super().unpack(state, luggage)
        self._partial, self._ordinal = state["partial"], state["ordinal"]
        if self.fd >= 0:
            self._socket = socket.socket(fileno=self.fd)
            self._socket.setblocking(False)

    def message(self, text: bytes) -> bytes:
        whole = text.endswith(b"\n")
        line = text[:-1] if whole else text
        return self._fields + self._piece(last=whole) + _field("MESSAGE", line)

    def send(self, message: bytes) -> int:
        assert self._socket is not None
        return self._socket.send(message)

    def _piece(self, *, last: bool) -> bytes:
        if last and not self._partial:
            return b""
        self._partial = self._partial or os.urandom(32).hex()
        self._ordinal += 1
        fields = {
            "CONTAINER_PARTIAL_ID": self._partial,
            "CONTAINER_PARTIAL_ORDINAL": str(self._ordinal),
            "CONTAINER_PARTIAL_LAST": "true" if last else "false",
        }
        if last:
            self._partial, self._ordinal = "", 0
        else:
            fields["CONTAINER_PARTIAL_MESSAGE"] = "true"
        return b"".join(_field(name, value.encode()) for name, value in fields.items())


def _field(name: str, value: bytes) -> bytes:
    if b"\n" in value:
        return name.encode() + b"\n" + struct.pack("<Q", len(value)) + value + b"\n"
    return name.encode() + b"=" + value + b"\n"
