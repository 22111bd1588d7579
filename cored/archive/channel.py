"""A bounded queue between two threads that ends cleanly from either side."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from threading import Condition
from typing import Generic, TypeVar

__all__ = ["Channel"]

Chunk = TypeVar("Chunk", bytes, memoryview, bytes | memoryview)


class Channel(Generic[Chunk]):
    """Bytes from one producer to one consumer, at most ``depth`` chunks under way.

    ``put`` answers False once the consumer has lost interest. The consumer iterates; the error
    that the producer finished with is raised there.
    """

    def __init__(self, depth: int) -> None:
        self._depth = depth
        self._chunks: deque[Chunk] = deque()
        self._changed = Condition()
        self._finished = False
        self._abandoned = False
        self._error: BaseException | None = None

    def put(self, chunk: Chunk) -> bool:
        """Hand over a chunk, wait for room; False when nobody wants it any more."""
        with self._changed:
            while len(self._chunks) >= self._depth and not self._abandoned:
                self._changed.wait()
            if self._abandoned:
                return False
            self._chunks.append(chunk)
            self._changed.notify_all()
            return True

    def finish(self, error: BaseException | None = None) -> None:
        """No more chunks will come; ``error`` is why, if it is not the end."""
        with self._changed:
            self._finished, self._error = True, error
            self._changed.notify_all()

    def abandon(self) -> None:
        """The consumer wants no more."""
        with self._changed:
            self._abandoned = True
            self._chunks.clear()
            self._changed.notify_all()

    def __iter__(self) -> Iterator[Chunk]:
        while True:
            with self._changed:
                while not self._chunks and not self._finished:
                    self._changed.wait()
                if not self._chunks:
                    if self._error is not None:
                        raise self._error
                    return
                chunk = self._chunks.popleft()
                self._changed.notify_all()
            yield chunk
