"""ttrpc framing without I/O: bytes in, frames out (see PROTOCOL.md). Stdlib only."""

from __future__ import annotations

import struct
from typing import NamedTuple

__all__ = [
    "DATA",
    "MAX_PAYLOAD",
    "NO_DATA",
    "REMOTE_CLOSED",
    "REMOTE_OPEN",
    "REQUEST",
    "RESPONSE",
    "Decoder",
    "Frame",
    "ProtocolError",
    "encode",
]

REQUEST, RESPONSE, DATA = 1, 2, 3
REMOTE_CLOSED, REMOTE_OPEN, NO_DATA = 1, 2, 4
MAX_PAYLOAD = 4 << 20
_HEADER = struct.Struct(">IIBB")


class ProtocolError(Exception):
    """The peer sent what is no ttrpc; the connection cannot go on."""


class Frame(NamedTuple):
    """One message: ``stream`` is odd when a client opened it, ``flags`` or-ed."""

    stream: int
    type: int
    payload: bytes
    flags: int = 0


def encode(frame: Frame) -> bytes:
    """A frame as bytes; ProtocolError above 4 MiB of payload."""
    if len(frame.payload) > MAX_PAYLOAD:
        raise ProtocolError(f"ttrpc message of {len(frame.payload)} bytes: more than {MAX_PAYLOAD}")
    return _HEADER.pack(len(frame.payload), frame.stream, frame.type, frame.flags) + frame.payload


class Decoder:
    """Collects bytes and answers the frames that are whole."""

    def __init__(self) -> None:
        self._data = bytearray()

    @property
    def empty(self) -> bool:
        """Whether no frame is half read."""
        return not self._data

    def feed(self, data: bytes) -> list[Frame]:
        """Take what a read returned; ProtocolError for an oversized frame."""
        self._data += data
        frames: list[Frame] = []
        start, size = 0, _HEADER.size
        while len(self._data) - start >= size:
            length, stream, kind, flags = _HEADER.unpack_from(self._data, start)
            if length > MAX_PAYLOAD:
                raise ProtocolError(f"ttrpc message of {length} bytes: more than {MAX_PAYLOAD}")
            end = start + size + length
            if end > len(self._data):
                break
            frames.append(Frame(stream, kind, bytes(self._data[start + size : end]), flags))
            start = end
        del self._data[:start]
        return frames
