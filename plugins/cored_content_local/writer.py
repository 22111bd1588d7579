"""The one open writer of an ingest."""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from cored.abc.content import Status, Writer
from cored.abc.values import NO_LABELS, Labels
from cored.errors import AlreadyExists, FailedPrecondition, OutOfRange, from_os_error
from cored_content_local.blobs import Blobs
from cored_content_local.ingest import OpenIngest, hashed
from cored_content_local.names import checked_digest

__all__ = ["LocalWriter"]

T = TypeVar("T")
_DIRECT = 64 << 10


class LocalWriter(Writer):
    """Appends to an ingest's file; ``closed`` is called when it lets go of the ref.

    A thread that works on the file is never left behind: whatever comes next, close included,
    waits for it, so a cancelled caller cannot make it write through a descriptor that is someone
    else's by then.
    """

    def __init__(self, ingest: OpenIngest, blobs: Blobs, closed: Callable[[], None]) -> None:
        self._ingest = ingest
        self._blobs = blobs
        self._closed: Callable[[], None] | None = closed
        self._thread: asyncio.Future[Any] | None = None
        self._reported: str | None = None
        """The digest that a helper process found; the hasher has not seen its bytes."""

    @property
    def status(self) -> Status:
        return self._ingest.status

    @property
    def path(self) -> Path:
        return self._ingest.place / "data"

    async def write(self, data: bytes) -> None:
        await self._ready()
        if self._reported is not None:
            await self._rehash()
        if len(data) <= _DIRECT:
            try:
                self._append(data)
            except OSError as error:
                raise self._translated(error) from error
        else:
            await self._aside(lambda: self._append(data))

    async def truncate(self, size: int) -> None:
        await self._ready()
        if not 0 <= size <= self.status.offset:
            raise OutOfRange(
                f"ingest {self.status.ref!r}: has {self.status.offset} bytes,"
                f" cannot be cut to {size}"
            )
        before = self.status.offset
        # also when nothing changes: a helper that failed may have left bytes it never reported
        await self._aside(lambda: os.ftruncate(self._ingest.file, size))
        if size != before:
            self._moved(size)
            await self._rehash()

    async def digest(self) -> str:
        await self._ready()
        if self._reported is not None:
            return self._reported
        return f"{self._ingest.hasher.name}:{self._ingest.hasher.hexdigest()}"

    async def advance(self, offset: int, digest: str) -> None:
        await self._ready()
        checked_digest(digest)
        size = os.fstat(self._ingest.file).st_size
        if size != offset:
            raise FailedPrecondition(
                f"ingest {self.status.ref!r}: has {size} bytes, {offset} were reported"
            )
        self._reported = digest
        self._moved(offset)

    async def commit(self, size: int = 0, expected: str = "", labels: Labels = NO_LABELS) -> str:
        found = await self._digest_like(expected)
        self._check(found, size, expected)
        fresh = await self._aside(lambda: self._publish(found, labels))
        await self.close()
        if not fresh:
            raise AlreadyExists(f"content {found}: already exists")
        return found

    async def close(self) -> None:
        if self._closed is None:
            return
        closed, self._closed = self._closed, None

        def release(_: object = None) -> None:
            self._ingest.close()
            closed()

        if self._thread is None or self._thread.done():
            release()
        else:
            self._thread.add_done_callback(release)
            await asyncio.wait([self._thread])

    async def _digest_like(self, expected: str) -> str:
        """The digest in the algorithm of ``expected``."""
        found = await self.digest()
        if not expected:
            return found
        algorithm, _ = checked_digest(expected)
        if algorithm == found.partition(":")[0]:
            return found
        other = await self._aside(lambda: hashed(self._ingest.file, algorithm))
        return f"{algorithm}:{other.hexdigest()}"

    def _check(self, found: str, size: int, expected: str) -> None:
        what = f"ingest {self.status.ref!r}"
        if size and size != self.status.offset:
            raise FailedPrecondition(
                f"{what}: has {self.status.offset} bytes, expected {size}",
                hint="it was cut short, or the descriptor is wrong",
            )
        if expected and expected != found:
            raise FailedPrecondition(
                f"{what}: has digest {found}, expected {expected}",
                hint="it was damaged on its way, or the descriptor is wrong",
            )

    def _append(self, data: bytes) -> None:
        file, offset = self._ingest.file, self.status.offset
        view = memoryview(data)
        try:
            done = 0
            while done < len(view):
                done += os.pwrite(file, view[done:], offset + done)
        except OSError:
            os.ftruncate(file, offset)
            raise
        self._ingest.hasher.update(data)
        self._moved(offset + len(data))

    def _publish(self, digest: str, labels: Labels) -> bool:
        """Durable first, then visible. False when somebody was quicker."""
        file = self._ingest.file
        if os.fstat(file).st_size != self.status.offset:  # bytes that nobody reported
            os.ftruncate(file, self.status.offset)
        os.fchmod(file, 0o444)
        os.fsync(file)
        fresh = self._blobs.publish(self.path, digest, labels)
        shutil.rmtree(self._ingest.place)
        return fresh

    async def _rehash(self) -> None:
        def work() -> None:
            self._ingest.hasher = hashed(self._ingest.file, self._ingest.algorithm)
            self._reported = None

        await self._aside(work)

    def _moved(self, offset: int) -> None:
        self._ingest.status = replace(self.status, offset=offset, updated_at=time.time_ns())

    async def _ready(self) -> None:
        """Wait for what a cancelled call left running. FailedPrecondition after close."""
        while self._thread is not None and not self._thread.done():
            await asyncio.wait([self._thread])
        if self._closed is None:
            raise FailedPrecondition(f"ingest {self.status.ref!r}: its writer is closed")

    async def _aside(self, work: Callable[[], T]) -> T:
        """Run ``work`` in a thread, to its end even when the caller leaves."""
        await self._ready()
        thread = asyncio.ensure_future(asyncio.to_thread(work))
        self._thread = thread
        try:
            return await asyncio.shield(thread)
        except OSError as error:
            raise self._translated(error) from error

    def _translated(self, error: OSError) -> Exception:
        return from_os_error(f"ingest {self.status.ref!r}", error)
