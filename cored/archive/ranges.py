"""One blob over several connections, where one alone is slow: parts in memory, handed on in order.

Many registries and clouds give each connection only so much. A connection that the unpacking has
to wait for is seen as slow (:class:`Pace`); several that bring no more are given up again.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Event

from cored.archive.routes import Routes
from cored.errors import Unavailable

__all__ = ["PART", "Pace", "in_parts"]

PART = 4 << 20
"""Bytes of one part: so many for each connection are in memory at a time."""

_PIECE = 256 << 10
_LEAST = 4 * PART  # what must be left for parts to pay
_TRIAL = 0.5  # seconds until a connection's pace is judged
_WAITING = 0.7  # of the time spent waiting for the network
_FAST = 100 << 20  # bytes a second that nobody needs to better
_GAIN = 1.3  # over one connection


class Pace:
    """How quickly the bytes of one connection come."""

    def __init__(self) -> None:
        self._start = time.monotonic()
        self._waited = 0.0
        self._bytes = 0

    def paced(self, pieces: Iterator[bytes]) -> Iterator[bytes]:
        """The same pieces, with the waiting for each of them measured."""
        while True:
            before = time.monotonic()
            piece = next(pieces, b"")
            self._waited += time.monotonic() - before
            if not piece:
                return
            self._bytes += len(piece)
            yield piece

    @property
    def rate(self) -> float:
        """Bytes a second of waiting."""
        return self._bytes / max(self._waited, 1e-6)

    def slow(self, left: int) -> bool:
        """Whether the ``left`` bytes are worth several connections."""
        if left < _LEAST or self.rate > _FAST:
            return False
        elapsed = time.monotonic() - self._start
        return elapsed > _TRIAL and self._waited > _WAITING * elapsed


def in_parts(routes: Routes, start: int, size: int, single: float) -> Iterator[bytes]:
    """The blob's bytes from ``start``, up to ``size`` or until it turns out to be no quicker.

    ``single`` is the rate of one connection. Raises what :meth:`Routes.open` does.
    """
    connections = routes.connections
    executor = ThreadPoolExecutor(connections, thread_name_prefix="part")
    parts: deque[Future[bytes]] = deque()
    stop = Event()
    begun, came = time.monotonic(), 0
    waited = 0.0
    at = start
    try:
        while at < size or parts:
            while at < size and len(parts) < connections:
                end = min(at + PART, size)
                parts.append(executor.submit(_part, routes, at, end, stop))
                at = end
            before = time.monotonic()
            piece = parts.popleft().result()
            waited += time.monotonic() - before
            came += len(piece)
            yield piece
            if len(parts) < connections - 1 or came < 2 * connections * PART:
                continue
            elapsed = time.monotonic() - begun
            if waited > _WAITING * elapsed and came / elapsed < _GAIN * single:
                size = at  # take what is under way; one connection does the rest
                routes.connections = 1
    finally:
        stop.set()
        # waited for: a part may have a question for the daemon on its lips
        executor.shutdown(cancel_futures=True)


def _part(routes: Routes, start: int, end: int, stop: Event) -> bytes:
    opened = routes.open(start, end)
    data = bytearray()
    for piece in opened.pieces(_PIECE):
        data += piece
        if stop.is_set():
            break
    if len(data) != end - start:
        opened.response.close()
        raise Unavailable(f"bytes {start}-{end - 1}: {len(data)} came")
    opened.response.release_conn()
    return bytes(data)
