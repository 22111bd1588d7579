"""SPDY/3.1 frames (draft-mbelshe-httpbis-spdy-00, section 2), without I/O."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from cored.errors import InvalidArgument
from cored_service_cri.streaming.dictionary import DICTIONARY

__all__ = ["Data", "Decoder", "Encoder", "Frame", "GoAway", "Headers", "Ping", "Reset", "Syn"]

_SYN_STREAM, _SYN_REPLY, _RST_STREAM, _PING, _GOAWAY = 1, 2, 3, 6, 7
_CONTROL = 0x80000000 | 3 << 16
_FIN = 1
# of a header block, inflated, and of a frame
_MOST_HEADERS, _MOST_FRAME = 64 << 10, 1 << 20


@dataclass(frozen=True, slots=True)
class Frame:
    stream: int = 0
    fin: bool = False


@dataclass(frozen=True, slots=True)
class Data(Frame):
    payload: bytes = b""


@dataclass(frozen=True, slots=True)
class Syn(Frame):
    """SYN_STREAM: the other side opens a stream."""

    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Headers(Frame):
    """SYN_REPLY or HEADERS."""

    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Reset(Frame):
    status: int = 0


@dataclass(frozen=True, slots=True)
class Ping(Frame):
    """``stream`` is the ping's own number."""


@dataclass(frozen=True, slots=True)
class GoAway(Frame):
    pass


class Decoder:
    """Bytes in, frames out. InvalidArgument for what is no SPDY."""

    def __init__(self) -> None:
        self._rest = b""
        self._inflate = zlib.decompressobj(zdict=DICTIONARY)

    def feed(self, data: bytes) -> Iterator[Frame]:
        """The frames that are complete now."""
        buffer = self._rest + data
        place = 0
        while len(buffer) - place >= 8:
            word, flags_length = struct.unpack_from(">II", buffer, place)
            flags, length = flags_length >> 24, flags_length & 0xFFFFFF
            if length > _MOST_FRAME:
                raise InvalidArgument(f"SPDY: a frame of {length} bytes")
            end = place + 8 + length
            if len(buffer) < end:
                break
            frame = self._frame(word, flags, buffer[place + 8 : end])
            place = end
            if frame is not None:
                yield frame
        self._rest = buffer[place:]

    def _frame(self, word: int, flags: int, body: bytes) -> Frame | None:
        fin = bool(flags & _FIN)
        if not word & 0x80000000:
            return Data(word, fin, body)
        if word >> 16 != 0x8003:
            raise InvalidArgument(f"SPDY: version {word >> 16 & 0x7FFF}, not 3")
        try:
            match word & 0xFFFF:
                case 1:
                    return Syn(_number(body), fin, self._headers(body[10:]))
                case 2 | 8:
                    return Headers(_number(body), fin, self._headers(body[4:]))
                case 3:
                    return Reset(_number(body), False, _number(body[4:]))
                case 6:
                    return Ping(struct.unpack(">I", body)[0])
                case 7:
                    return GoAway()
                case _:
                    return None  # settings, windows: nothing here depends on them
        except (struct.error, zlib.error, UnicodeDecodeError) as error:
            raise InvalidArgument(f"SPDY: a frame that cannot be read: {error}") from error

    def _headers(self, block: bytes) -> dict[str, str]:
        text = self._inflate.decompress(block, _MOST_HEADERS)
        if self._inflate.unconsumed_tail:
            raise InvalidArgument("SPDY: headers that are too long")
        (count,) = struct.unpack_from(">I", text)
        place, found = 4, {}
        for _ in range(count):
            name, place = _string(text, place)
            value, place = _string(text, place)
            found[name.lower()] = value
        return found


class Encoder:
    """Frames in, bytes out; the order is the order of the wire."""

    def __init__(self) -> None:
        self._deflate = zlib.compressobj(zdict=DICTIONARY)

    def data(self, stream: int, payload: bytes, *, fin: bool = False) -> bytes:
        return struct.pack(">II", stream, fin << 24 | len(payload)) + payload

    def syn(self, stream: int, headers: Mapping[str, str]) -> bytes:
        """Open a stream (for clients; tests are one)."""
        body = struct.pack(">IIH", stream, 0, 0) + self._headers(headers)
        return _control(_SYN_STREAM, body)

    def reply(self, stream: int) -> bytes:
        """Accept a stream."""
        return _control(_SYN_REPLY, struct.pack(">I", stream) + self._headers({}))

    def reset(self, stream: int, status: int) -> bytes:
        return _control(_RST_STREAM, struct.pack(">II", stream, status))

    def ping(self, number: int) -> bytes:
        return _control(_PING, struct.pack(">I", number))

    def go_away(self, last: int) -> bytes:
        return _control(_GOAWAY, struct.pack(">II", last, 0))

    def _headers(self, headers: Mapping[str, str]) -> bytes:
        text = struct.pack(">I", len(headers))
        for name, value in headers.items():
            for part in (name.lower().encode(), value.encode()):
                text += struct.pack(">I", len(part)) + part
        return self._deflate.compress(text) + self._deflate.flush(zlib.Z_SYNC_FLUSH)


def _control(kind: int, body: bytes) -> bytes:
    return struct.pack(">II", _CONTROL | kind, len(body)) + body


def _number(body: bytes) -> int:
    return int(struct.unpack_from(">I", body)[0]) & 0x7FFFFFFF


def _string(text: bytes, place: int) -> tuple[str, int]:
    (length,) = struct.unpack_from(">I", text, place)
    end = place + 4 + length
    if end > len(text):
        raise InvalidArgument("SPDY: a header that is cut off")
    return text[place + 4 : end].decode(), end
