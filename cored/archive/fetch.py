"""A blob's bytes in order, from a local file or over HTTP into an ingest's file."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from cored.archive.jobs import Refusal, Route, Source
from cored.archive.routes import LONGEST_WAIT, Ask, Routes
from cored.errors import CoredError, FailedPrecondition, PermissionDenied, Unavailable

if TYPE_CHECKING:
    from cored.archive.http import Connections

__all__ = ["Fetcher"]

_CHUNK = 128 << 10


def _nobody(refusal: Refusal) -> Route:
    raise PermissionDenied("registry: wants other credentials", hint=refusal.challenge[:100])


class Fetcher:
    """Fetches blobs one after the other; keeps its connections in between."""

    def __init__(self, ask: Ask = _nobody) -> None:
        self._ask = ask
        self._open: Connections | None = None

    def fetched(self, source: Source, size: int, what: str) -> Iterator[bytes]:
        """All bytes of the blob ``what`` of ``size`` bytes (0: unknown), also put into the file.

        NotFound, PermissionDenied (401, 403) and Unavailable are the last server's; a
        FailedPrecondition when there is more or less than ``size``. What came stays in the file,
        always its beginning and whole, for the next attempt.
        """
        if not source.routes:
            yield from _local(source.path, size, what)
            return
        fd = os.open(source.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            at = min(source.offset, os.fstat(fd).st_size)
            os.ftruncate(fd, at)
            for start in range(0, at, _CHUNK):
                yield os.pread(fd, min(_CHUNK, at - start), start)
            os.lseek(fd, at, os.SEEK_SET)
            for chunk in self._remote(source, at, size, what):
                _write(fd, chunk)
                yield chunk
        finally:
            os.close(fd)

    def _remote(self, source: Source, at: int, size: int, what: str) -> Iterator[bytes]:
        from urllib3.exceptions import HTTPError

        routes = Routes(source, size, what, self._connections(), self._ask)
        failures = 0
        while not size or at < size:
            before = at
            try:
                for chunk in _bytes(routes, at, size):
                    at += len(chunk)
                    if size and at > size:
                        raise FailedPrecondition(
                            f"{what}: the server sends more than the {size} bytes announced"
                        )
                    yield chunk
                if not size or at == size:
                    return
                error: Exception = EOFError("the server ended early")
            except (HTTPError, CoredError) as caught:
                error = caught
            failures = 0 if at > before else failures + 1
            if not size or at > size or not _goes_on(error, routes, failures, source.attempts):
                raise _last(error, what, at, size) from error

    def _connections(self) -> Connections:
        if self._open is None:
            from cored.archive.http import Connections

            self._open = Connections()
        return self._open


def _bytes(routes: Routes, at: int, size: int) -> Iterator[bytes]:
    """What one answer brings; the rest over several connections when it comes slowly."""
    from cored.archive.ranges import Pace, in_parts

    opened = routes.open(at)
    pace = Pace()
    whole = False
    try:
        for chunk in pace.paced(opened.pieces(_CHUNK)):
            at += len(chunk)
            yield chunk
            if routes.connections > 1 and opened.ranges and pace.slow(size - at):
                break
        else:
            whole = True
    finally:
        if whole:
            opened.response.release_conn()
        else:
            opened.response.close()
    if not whole:
        yield from in_parts(routes, at, size, pace.rate)


def _goes_on(error: Exception, routes: Routes, failures: int, most: int) -> bool:
    """Whether there is another try, after the wait that it takes."""
    if not failures and not isinstance(error, CoredError):
        return True
    if routes.advance():
        return True
    if isinstance(error, CoredError) and not isinstance(error, Unavailable):
        return False
    if failures >= most:
        return False
    time.sleep(min(routes.wait or 0.3 * 2**failures, LONGEST_WAIT))
    return True


def _last(error: Exception, what: str, at: int, size: int) -> Exception:
    from cored.archive.http import reason

    if isinstance(error, CoredError) and not isinstance(error, Unavailable):
        if error.message.startswith(what):
            return error
        return type(error)(f"{what}: {error.message}", hint=error.hint)
    told = error.message if isinstance(error, CoredError) else reason(error)
    return Unavailable(
        f"{what}: {at} of {size} bytes came: {told.removeprefix(f'{what}: ')}",
        hint="try again: what came is kept",
    )


def _local(path: str, size: int, what: str) -> Iterator[bytes]:
    total = 0
    with open(path, "rb", buffering=0) as blob:
        while chunk := blob.read(_CHUNK):
            total += len(chunk)
            yield chunk
    if size and total != size:
        raise FailedPrecondition(f"{what}: {total} bytes, the descriptor says {size}")


def _write(fd: int, chunk: bytes) -> None:
    data = memoryview(chunk)
    while (written := os.write(fd, data)) < len(data):
        data = data[written:]
