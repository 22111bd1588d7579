"""Ingests on the disk: ``<root>/ingest/<hash of ref>/{meta.json,data}``. Everything here blocks."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cored.abc.content import Status
from cored.errors import NotFound, Unavailable
from cored_content_local.names import replace_file

__all__ = ["Ingests", "OpenIngest", "hashed"]

_BLOCK = 4 << 20


@dataclass(slots=True)
class OpenIngest:
    """An ingest whose lock we hold; ``hasher`` has seen what the file holds."""

    place: Path
    file: int
    status: Status
    hasher: Any

    @property
    def algorithm(self) -> str:
        """What the ingest is hashed with: what is expected of it, else sha256."""
        return self.status.expected.partition(":")[0] or "sha256"

    def close(self) -> None:
        """Let go of the lock and the file."""
        # said aloud: a process that was forked meanwhile may share the file and would keep it
        fcntl.flock(self.file, fcntl.LOCK_UN)
        os.close(self.file)


class Ingests:
    """The ingests below one directory; what a crash left half-begun is removed at once."""

    def __init__(self, root: Path) -> None:
        self._root = root
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        for place in root.iterdir():
            if _load(place) is None:
                shutil.rmtree(place)

    def find(self, ref: str) -> Status | None:
        """Where an ingest stands."""
        return _load(self._place(ref))

    def all(self) -> list[Status]:
        """All ingests, by the hash of their refs."""
        return [found for place in sorted(self._root.iterdir()) if (found := _load(place))]

    def open(self, ref: str, *, size: int, expected: str) -> OpenIngest:
        """Open or make an ingest and hash what it holds. Unavailable while somebody has it."""
        place = self._place(ref)
        place.mkdir(mode=0o700, exist_ok=True)
        file = os.open(place / "data", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            _lock(file, place, ref)
            return _prepared(place, file, ref, size, expected)
        except BaseException:
            os.close(file)
            raise

    def remove(self, ref: str) -> None:
        """Throw an ingest away. NotFound; Unavailable while somebody has it."""
        place = self._place(ref)
        try:
            file = os.open(place / "data", os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError as error:
            raise NotFound(f"ingest {ref!r}: not found") from error
        try:
            _lock(file, place, ref)
            shutil.rmtree(place)
        finally:
            os.close(file)

    def _place(self, ref: str) -> Path:
        return self._root / hashlib.sha256(ref.encode()).hexdigest()


def _prepared(place: Path, file: int, ref: str, size: int, expected: str) -> OpenIngest:
    old = _load(place)
    try:
        known = old or Status(ref, 0, started_at=time.time_ns())
        known = replace(known, total=size or known.total, expected=expected or known.expected)
        if old is None:
            os.ftruncate(file, 0)
        if known != old:
            _save(place, known)
        ingest = OpenIngest(place, file, known, None)
        ingest.hasher = hashed(file, ingest.algorithm)
    except BaseException:
        if old is None:
            shutil.rmtree(place)
        raise
    return ingest


def hashed(file: int, algorithm: str) -> Any:
    """A hasher that has seen all of ``file``."""
    hasher = hashlib.new(algorithm)
    offset = 0
    while data := os.pread(file, _BLOCK, offset):
        hasher.update(data)
        offset += len(data)
    return hasher


def _lock(file: int, place: Path, ref: str) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise Unavailable(
            f"ingest {ref!r}: another process has it open", hint="try again"
        ) from error
    try:
        same = os.path.samestat(os.fstat(file), (place / "data").stat())
    except FileNotFoundError:
        same = False
    if not same:  # committed or aborted between our open and our lock: the file is a blob, or gone
        raise Unavailable(f"ingest {ref!r}: has just ended", hint="try again")


def _save(place: Path, status: Status) -> None:
    meta = {
        "ref": status.ref,
        "total": status.total,
        "expected": status.expected,
        "started_at": status.started_at,
    }
    # not durable: an ingest that a power cut damages begins anew
    replace_file(place / "meta.json", json.dumps(meta), durable=False)


def _load(place: Path) -> Status | None:
    """What the files of an ingest say; None where they are not whole."""
    try:
        meta = json.loads((place / "meta.json").read_text(encoding="utf-8"))
        data = (place / "data").stat()
        return Status(
            meta["ref"],
            data.st_size,
            meta["total"],
            meta["expected"],
            meta["started_at"],
            max(meta["started_at"], data.st_mtime_ns),
        )
    except (FileNotFoundError, NotADirectoryError, ValueError, KeyError, TypeError):
        return None
