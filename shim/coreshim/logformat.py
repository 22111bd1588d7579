"""What a log's lines look like: docker's json-file, the CRI's for kubelet, our ``local``."""

from __future__ import annotations

import time
from json.encoder import encode_basestring, encode_basestring_ascii

__all__ = ["LONGEST", "CriLines", "JsonLines", "Lines", "LocalLines"]

# docker and containerd's CRI cut longer lines at this size too
LONGEST = 16 << 10


class Lines:
    """Turns what one stream writes into records; ``rest`` is a line whose end is still to come."""

    def __init__(self, stream: str) -> None:
        self.stream = stream
        self.rest = b""

    def feed(self, data: bytes) -> bytes:
        """The records of all lines that are complete now, or too long."""
        return self.records(self.split(data))

    def finish(self) -> bytes:
        """The record of what is left."""
        return self.records(self.last())

    def split(self, data: bytes) -> list[bytes]:
        """The texts of those records; one that goes on has no line feed at its end."""
        parts = (self.rest + data).split(b"\n")
        rest = parts.pop()
        texts = []
        for part in parts:
            if len(part) <= LONGEST:
                texts.append(part + b"\n")
            else:
                texts += _pieces(part + b"\n")
        while len(rest) > LONGEST:
            end = _end(rest)
            texts.append(rest[:end])
            rest = rest[end:]
        self.rest = rest
        return texts

    def last(self) -> list[bytes]:
        """The text of what is left."""
        rest, self.rest = self.rest, b""
        return [rest] if rest else []

    def records(self, texts: list[bytes]) -> bytes:
        """A record for each text."""
        return self._records(texts) if texts else b""

    def _records(self, texts: list[bytes]) -> bytes:
        raise NotImplementedError


class JsonLines(Lines):
    """``{"log", "stream", "time"}``, an object a line.

    Bytes that are not UTF-8 are lone surrogates (``\\udc80`` to ``\\udcff``), so that a reader who
    knows gets them back; to others they are the character for "unreadable". ``attributes`` are an
    object, as JSON, that each line has as "attrs".
    """

    def __init__(self, stream: str, attributes: str = "") -> None:
        super().__init__(stream)
        self._more = f',"attrs":{attributes}' if attributes else ""

    def _records(self, texts: list[bytes]) -> bytes:
        tail = f',"stream":"{self.stream}"{self._more},"time":"{_now()}"}}\n'
        return "".join([f'{{"log":{_quoted(text)}{tail}' for text in texts]).encode()


class CriLines(Lines):
    """``<RFC 3339> stdout|stderr F|P <text>``: F is a whole line or its end, P goes on."""

    def _records(self, texts: list[bytes]) -> bytes:
        head = f"{_now()} {self.stream} ".encode()
        return b"".join(
            [
                head + (b"F " + text if text.endswith(b"\n") else b"P " + text + b"\n")
                for text in texts
            ]
        )


class LocalLines(Lines):
    """``<ns since the epoch><o|e|O|E><text>``: the letter is stdout or stderr, a capital goes on.

    Bytes are kept as they are.
    """

    def _records(self, texts: list[bytes]) -> bytes:
        stamp = b"%d" % time.time_ns()
        whole = stamp + self.stream[3:4].encode()
        piece = whole.upper()
        return b"".join(
            [whole + text if text.endswith(b"\n") else piece + text + b"\n" for text in texts]
        )


def _quoted(text: bytes) -> str:
    try:
        return encode_basestring(text.decode())
    except UnicodeDecodeError:
        return encode_basestring_ascii(text.decode("utf-8", "surrogateescape"))


def _pieces(line: bytes) -> list[bytes]:
    """A line in pieces of at most :data:`LONGEST` bytes and its line feed."""
    pieces = []
    while len(line) > LONGEST + 1:
        end = _end(line)
        pieces.append(line[:end])
        line = line[end:]
    return [*pieces, line]


def _end(text: bytes) -> int:
    """Where to cut: not inside a character (UTF-8 has at most three bytes after the first)."""
    for end in range(LONGEST, LONGEST - 4, -1):
        if text[end] & 0xC0 != 0x80:
            return end
    return LONGEST


def _now() -> str:
    seconds, rest = divmod(time.time_ns(), 1_000_000_000)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{rest:09d}Z"
