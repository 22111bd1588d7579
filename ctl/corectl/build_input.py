"""Standard input as ``corectl build`` takes it: a Dockerfile, or a context's tar archive."""

from __future__ import annotations

import sys
from collections.abc import Iterator

__all__ = ["Input"]

_CHUNK = 256 << 10
_PACKED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ\x00")


class Input:
    """Read once, and not before somebody asks."""

    def __init__(self) -> None:
        self._head: bytes | None = None
        self._text: str | None = None

    @property
    def archived(self) -> bool:
        """Whether it begins as a tar archive does, packed or not."""
        if self._head is None:
            self._head = sys.stdin.buffer.read(512)
        return self._head.startswith(_PACKED) or self._head[257:262] == b"ustar"

    @property
    def text(self) -> str:
        """All of it, as a Dockerfile."""
        if self._text is None:
            head = self._head or b""
            self._text = (head + sys.stdin.buffer.read()).decode(errors="surrogateescape")
        return self._text

    def pieces(self) -> Iterator[bytes]:
        """All of it, as an archive."""
        if self._head:
            yield self._head
        while data := sys.stdin.buffer.read(_CHUNK):
            yield data
