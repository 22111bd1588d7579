"""Ingests: ``<root>/ingest/<hash of ref>/{meta.json,data}``, resumable over restarts."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cored.abc.content import Status, Writer
from cored.abc.values import NO_LABELS, Labels
from cored.errors import AlreadyExists, FailedPrecondition, from_os_error
from cored_content_local.names import blob_path, sync_directory

__all__ = ["LocalWriter", "load_status", "open_ingest", "place_of"]

_DIRECT = 64 << 10
_BLOCK = 4 << 20


def place_of(root: Path, ref: str) -> Path:
    """The directory of an ingest."""
    return root / "ingest" / hashlib.sha256(ref.encode()).hexdigest()


def load_status(place: Path) -> Status:
    """What the files of an ingest say. FileNotFoundError where there is none."""
    meta = json.loads((place / "meta.json").read_text())
    data = (place / "data").stat()
    return Status(
        meta["ref"],
        data.st_size,
        meta["total"],
        meta["expected"],
        meta["started_at"],
        max(meta["started_at"], data.st_mtime_ns),
    )


@dataclass(slots=True)
class _Opened:
    place: Path
    file: int
    status: Status
    hasher: Any


def open_ingest(root: Path, ref: str, size: int, expected: str) -> _Opened:
    """Open or make an ingest; what is there is hashed again. Blocks."""
    place = place_of(root, ref)
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    file = os.open(place / "data", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            status = load_status(place)
        except (FileNotFoundError, json.JSONDecodeError, KeyError):
            status = Status(ref, 0, started_at=time.time_ns())
            os.ftruncate(file, 0)
        status = replace(
            status, ref=ref, total=size or status.total, expected=expected or status.expected
        )
        meta = {
            "ref": ref,
            "total": status.total,
            "expected": status.expected,
            "started_at": status.started_at,
        }
        (place / "meta.json").write_text(json.dumps(meta))
        hasher = _hashed(file, status.expected.partition(":")[0] or "sha256")
    except BaseException:
        os.close(file)
        raise
    return _Opened(place, file, status, hasher)


def _hashed(file: int, algorithm: str) -> Any:
    hasher = hashlib.new(algorithm)
    offset = 0
    while data := os.pread(file, _BLOCK, offset):
        hasher.update(data)
        offset += len(data)
    return hasher


class LocalWriter(Writer):
    """The one open writer of an ingest; ``closed`` is told when it lets go of the ref."""

    def __init__(
        self,
        root: Path,
        opened: _Opened,
        closed: Callable[[], None],
        label: Callable[[str, Labels], None],
    ) -> None:
        self._root = root
        self._place = opened.place
        self._file = opened.file
        self._status = opened.status
        self._hasher = opened.hasher
        self._known: str | None = None
        self._closed: Callable[[], None] | None = closed
        self._label = label

    @property
    def status(self) -> Status:
        return self._status

    @property
    def path(self) -> Path:
        return self._place / "data"

    async def write(self, data: bytes) -> None:
        self._check_open()
        if self._known is not None:
            await self._rehash()
        if len(data) <= _DIRECT:
            self._append(data)
        else:
            await asyncio.shield(asyncio.to_thread(self._append, data))

    def _append(self, data: bytes) -> None:
        offset = self._status.offset
        view = memoryview(data)
        try:
            done = 0
            while done < len(view):
                done += os.pwrite(self._file, view[done:], offset + done)
        except OSError as error:
            os.ftruncate(self._file, offset)
            raise from_os_error(f"content {self._status.ref!r}", error) from error
        self._hasher.update(data)
        self._status = replace(self._status, offset=offset + len(data), updated_at=time.time_ns())

    async def truncate(self, size: int) -> None:
        self._check_open()
        if size == self._status.offset:
            return
        os.ftruncate(self._file, size)
        self._status = replace(self._status, offset=size, updated_at=time.time_ns())
        await self._rehash()

    async def digest(self) -> str:
        return self._known or f"{self._hasher.name}:{self._hasher.hexdigest()}"

    async def advance(self, offset: int, digest: str) -> None:
        self._check_open()
        size = os.fstat(self._file).st_size
        if size != offset:
            raise FailedPrecondition(
                f"content {self._status.ref!r}: has {size} bytes, {offset} were reported"
            )
        self._known = digest
        self._status = replace(self._status, offset=offset, updated_at=time.time_ns())

    async def commit(self, size: int = 0, expected: str = "", labels: Labels = NO_LABELS) -> str:
        self._check_open()
        found = await self._digest_like(expected)
        self._check(found, size, expected)
        target = blob_path(self._root / "blobs", found)
        try:
            await asyncio.shield(asyncio.to_thread(self._publish, target))
        except OSError as error:
            raise from_os_error(f"content {found}", error) from error
        finally:
            if not self._place.exists():
                await self.close()
        if labels:
            self._label(found, labels)
        return found

    async def _digest_like(self, expected: str) -> str:
        """The digest in the algorithm that is asked for."""
        algorithm = expected.partition(":")[0]
        found = await self.digest()
        if expected and algorithm != found.partition(":")[0]:
            blob_path(self._root, expected)
            other = await asyncio.to_thread(_hashed, self._file, algorithm)
            found = f"{algorithm}:{other.hexdigest()}"
        return found

    def _check(self, found: str, size: int, expected: str) -> None:
        what = f"content {self._status.ref!r}"
        if size and size != self._status.offset:
            raise FailedPrecondition(
                f"{what}: has {self._status.offset} bytes, expected {size}",
                hint="it was cut short, or the descriptor is wrong",
            )
        if expected and expected != found:
            raise FailedPrecondition(
                f"{what}: has digest {found}, expected {expected}",
                hint="it was damaged on its way, or the descriptor is wrong",
            )

    def _publish(self, target: Path) -> None:
        """Durable first, then visible. AlreadyExists when somebody was quicker."""
        exists = target.exists()
        if not exists:
            os.fsync(self._file)
            os.fchmod(self._file, 0o444)
            target.parent.mkdir(parents=True, exist_ok=True)
            (self._place / "data").rename(target)
            sync_directory(target.parent)
        shutil.rmtree(self._place)
        if exists:
            raise AlreadyExists(f"content {target.parent.name}:{target.name}: already exists")

    async def close(self) -> None:
        if self._closed is None:
            return
        closed, self._closed = self._closed, None
        os.close(self._file)
        closed()

    async def _rehash(self) -> None:
        algorithm = self._status.expected.partition(":")[0] or "sha256"
        self._known = None
        self._hasher = await asyncio.to_thread(_hashed, self._file, algorithm)

    def _check_open(self) -> None:
        if self._closed is None:
            raise FailedPrecondition(f"content {self._status.ref!r}: its writer is closed")
