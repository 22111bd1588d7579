"""A pull-style byte stream over chunks: exact reads without needless copies."""

from __future__ import annotations

from collections.abc import Iterator

__all__ = ["Stream"]


class Stream:
    """Bytes from an iterator of chunks; ``offset`` counts what has been taken out.

    A chunk need not last longer than until the next one is asked for.
    """

    def __init__(self, chunks: Iterator[bytes | memoryview]) -> None:
        self._chunks = chunks
        self._chunk = memoryview(b"")
        self._at = 0
        self._before = 0  # bytes in chunks that are gone

    @property
    def offset(self) -> int:
        """How many bytes have been taken."""
        return self._before + self._at

    def _next(self) -> bool:
        """Move to the next chunk that holds something; False at the end."""
        self._before += len(self._chunk)
        self._at = 0
        for chunk in self._chunks:
            if chunk:
                self._chunk = memoryview(chunk)
                return True
        self._chunk = memoryview(b"")
        return False

    def read(self, count: int) -> bytes:
        """``count`` bytes, fewer only at the end of the stream."""
        at, end = self._at, self._at + count
        if end <= len(self._chunk):
            self._at = end
            return self._chunk[at:end].tobytes()
        return b"".join(map(bytes, self.pieces(count)))  # copied one by one: see pieces()

    def view(self, count: int, passed: int = 0) -> memoryview | None:
        """``count`` bytes in one piece, and ``passed`` more are passed over; None, and nothing is
        taken, when they are not at hand so. It is valid until more is taken."""
        at = self._at
        end = at + count
        if end + passed > len(self._chunk):
            return None
        self._at = end + passed
        return self._chunk[at:end]

    def pieces(self, count: int) -> Iterator[memoryview]:
        """``count`` bytes as views, each valid until the next one is asked for."""
        while count > 0:
            have = len(self._chunk) - self._at
            if not have:
                if not self._next():
                    return
                continue
            part = min(have, count)
            at = self._at
            self._at = at + part
            count -= part
            yield self._chunk[at : at + part]

    def skip(self, count: int) -> int:
        """Pass over ``count`` bytes; how many there were."""
        end = self._at + count
        if end <= len(self._chunk):
            self._at = end
            return count
        return sum(map(len, self.pieces(count)))

    def drain(self) -> int:
        """Pass over all that is left; how many bytes that was."""
        before = self.offset
        self._at = len(self._chunk)
        while self._next():
            self._at = len(self._chunk)
        return self.offset - before
