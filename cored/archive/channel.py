"""A bounded queue between two threads that ends cleanly from either side."""

from __future__ import annotations

from collections.abc import Iterator
from queue import SimpleQueue
from typing import Generic, NamedTuple, TypeVar

__all__ = ["Channel"]

Chunk = TypeVar("Chunk", bytes, memoryview, bytes | memoryview)


class _End(NamedTuple):
    """What comes behind the last chunk."""

    error: BaseException | None


class Channel(Generic[Chunk]):
    """Bytes from one producer to one consumer, at most ``depth`` chunks under way.

    The one that the consumer is busy with counts among them. ``put`` answers False once the
    consumer has lost interest. The consumer iterates, once; the error that the producer finished
    with is raised there.
    """

    def __init__(self, depth: int) -> None:
        self._chunks: SimpleQueue[Chunk | _End] = SimpleQueue()
        # an item for each chunk that may be put: queues in C cost a tenth of a Condition's time
        self._room: SimpleQueue[None] = SimpleQueue()
        for _ in range(depth):
            self._room.put(None)
        self._abandoned = False

    def put(self, chunk: Chunk) -> bool:
        """Hand over a chunk, wait for room; False when nobody wants it any more."""
        if not self._abandoned:
            self._room.get()
        if self._abandoned:
            return False
        self._chunks.put(chunk)
        return True

    def finish(self, error: BaseException | None = None) -> None:
        """No more chunks will come; ``error`` is why, if it is not the end."""
        self._chunks.put(_End(error))

    def abandon(self) -> None:
        """The consumer wants no more."""
        self._abandoned = True
        self._room.put(None)

    def __iter__(self) -> Iterator[Chunk]:
        while not isinstance(chunk := self._chunks.get(), _End):
            yield chunk
            self._room.put(None)
        if chunk.error is not None:
            raise chunk.error
