"""Directories of clients, received file by file, and kept so that the next time less is sent."""

from __future__ import annotations

import json
import os
import shutil
import stat
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import astuple, dataclass, field
from io import FileIO
from pathlib import Path
from typing import Any

from cored import scope
from cored.errors import InvalidArgument

__all__ = ["Entry", "Kept", "Receiving"]

_TREES = 64


@dataclass(frozen=True, slots=True)
class Entry:
    """A file: ``mode`` is st_mode, ``modified`` in ns, ``stamp`` another when it was written to."""

    path: str
    mode: int
    size: int = 0
    modified: int = 0
    link: str = ""
    stamp: str = ""

    @property
    def directory(self) -> bool:
        return stat.S_ISDIR(self.mode)


@dataclass(frozen=True, slots=True)
class Kept:
    """Trees by namespace and key below ``root``, the least recently used gone when all have more
    than ``most`` bytes. One build has a tree at a time; another begins with none."""

    root: Path
    most: int

    def take(self, key: str, place: Path) -> dict[str, Entry]:
        """Move a tree to ``place``, which is empty when there is none; what is in it. Blocks."""
        aside = place.with_suffix(".kept")
        try:
            (self.root / scope.namespace() / key).rename(aside)
        except FileNotFoundError:
            place.mkdir()
            return {}
        document = _index(aside)
        if document is None:  # not all of it was on the disk when the machine went down
            shutil.rmtree(aside)
            place.mkdir()
            return {}
        (aside / "tree").rename(place)
        found = {entry[0]: Entry(*entry) for entry in document["entries"]}
        if document.get("boot") == _boot():
            return found
        (aside / "index").unlink()
        return _whole(place, found)

    def put(self, key: str, place: Path, entries: Sequence[Entry], *, changed: bool = True) -> None:
        """Take the tree at ``place``; not ``changed``: it is what :meth:`take` found. Blocks."""
        aside, home = place.with_suffix(".kept"), self.root / scope.namespace()
        index = aside / "index"
        if changed or not index.exists():
            aside.mkdir(mode=0o700, exist_ok=True)
            head = {"size": sum(entry.size for entry in entries), "boot": _boot()}
            listed = [astuple(entry) for entry in entries]
            index.write_text(f"{json.dumps(head)}\n{json.dumps(listed)}")
        else:
            os.utime(index)
        place.rename(aside / "tree")
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._drop(home / key)  # another build's, at the same time
        try:
            aside.rename(home / key)
        except OSError:  # and again
            shutil.rmtree(aside)
        self._limit(home)

    def prune(self, unused_for: float = 0.0) -> int:
        """Drop those of the namespace that were not used for so long (s); how many. Blocks."""
        import time

        limit = time.time() - unused_for
        old = [path for used, _, path in self._all(self.root / scope.namespace()) if used <= limit]
        for path in old:
            self._drop(path)
        return len(old)

    def _all(self, home: Path) -> list[tuple[float, int, Path]]:
        """When used, bytes, where; the latest used first."""
        found = []
        for path in home.iterdir() if home.is_dir() else ():
            head = _head(path)
            if head is None:
                self._drop(path)
                continue
            found.append(((path / "index").stat().st_mtime, int(head["size"]), path))
        return sorted(found, reverse=True)

    def _limit(self, home: Path) -> None:
        total = 0
        for number, (_, size, path) in enumerate(self._all(home)):
            total += size
            if total > self.most or number >= _TREES:
                self._drop(path)

    def _drop(self, path: Path) -> None:
        trash = self.root.parent / "spool" / f"gone-{uuid.uuid4().hex}"
        try:
            path.rename(trash)
        except FileNotFoundError:
            return
        shutil.rmtree(trash)


def _head(place: Path) -> dict[str, Any] | None:
    """What is known of a whole tree, the first line: it is asked for of all trees at each build."""
    try:
        with (place / "index").open() as file:
            head = json.loads(file.readline(1024))
    except (FileNotFoundError, ValueError):
        return None
    return head if isinstance(head, dict) and "size" in head else None


def _index(place: Path) -> dict[str, Any] | None:
    """The same with its entries; None where that is damaged."""
    head = _head(place)
    if head is None:
        return None
    try:
        _, _, listed = (place / "index").read_text().partition("\n")
        return {**head, "entries": json.loads(listed)}
    except ValueError:
        return None


def _whole(place: Path, entries: Mapping[str, Entry]) -> dict[str, Entry]:
    """Those of a tree that a power cut has left as they were: nothing of it was synced.

    A file whose data never came to the disk is shorter there; it is removed, and sent anew.
    """
    found = {}
    for path, entry in entries.items():
        try:
            there = (place / path).lstat()
        except FileNotFoundError:
            continue
        if stat.S_ISREG(entry.mode) and there.st_size != entry.size:
            (place / path).unlink()
            continue
        found[path] = entry
    return found


def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


@dataclass(slots=True)
class Receiving:
    """One directory on its way to ``place``; all methods block, OSError is the caller's."""

    place: Path
    key: str
    listed: Sequence[Entry]
    _entries: dict[str, Entry] = field(default_factory=dict)
    _old: Mapping[str, Entry] = field(default_factory=dict)
    _pending: list[Entry] = field(default_factory=list)
    _file: FileIO | None = None
    _left: int = 0

    def begin(self, kept: Kept) -> list[int]:
        """Make all but files' contents; which of those listed are wanted. InvalidArgument."""
        self._entries = _checked(self.listed)
        old = self._old = kept.take(_plain(self.key), self.place)
        _removed(self.place, old, self._entries)
        for path, entry in self._entries.items():
            there = self.place / path
            if entry.directory:
                if path not in old or not old[path].directory:
                    there.mkdir()
                if old.get(path) != entry:
                    there.chmod(stat.S_IMODE(entry.mode))
            elif old.get(path) != entry and stat.S_ISLNK(entry.mode):
                there.symlink_to(entry.link)
                os.utime(there, ns=(entry.modified, entry.modified), follow_symlinks=False)
        wanted = [
            number
            for number, entry in enumerate(self.listed)
            if stat.S_ISREG(entry.mode) and old.get(entry.path) != entry
        ]
        self._pending = [self.listed[number] for number in reversed(wanted)]
        self._next()
        return wanted

    def write(self, data: bytes) -> None:
        """The next bytes of those that were wanted. InvalidArgument when they are too many."""
        rest = memoryview(data)
        while rest:
            if self._file is None:
                raise InvalidArgument("build context: more data than its files have")
            written = self._file.write(rest[: self._left])
            self._left -= written
            rest = rest[written:]
            if not self._left:
                self._finish()
                self._next()

    def _next(self) -> None:
        """Open the next file that has a content; make those before it, which have none."""
        while self._file is None and self._pending:
            entry = self._pending[-1]
            self._file = FileIO(f"{self.place}/{entry.path}", "xb")
            self._left = entry.size
            if not entry.size:
                self._finish()

    def _finish(self) -> None:
        assert self._file is not None
        entry = self._pending.pop()
        os.fchmod(self._file.fileno(), stat.S_IMODE(entry.mode))
        os.utime(self._file.fileno(), ns=(entry.modified, entry.modified))
        self._file.close()
        self._file = None

    def end(self) -> None:
        """InvalidArgument when something is missing."""
        if self._pending:
            raise InvalidArgument(f"build context: ended within {self._pending[-1].path!r}")
        for path, entry in reversed(list(self._entries.items())):
            if entry.directory and entry.modified:
                os.utime(self.place / path, ns=(entry.modified, entry.modified))

    def close(self) -> None:
        """Let go of a file that is half written."""
        if self._file is not None:
            with suppress(OSError):  # what was not written does not fit: that has been told
                self._file.close()

    def keep(self, kept: Kept) -> None:
        """For the next time."""
        entries, changed = list(self._entries.values()), self._entries != self._old
        kept.put(_plain(self.key), self.place, entries, changed=changed)


def _plain(key: str) -> str:
    if not key.isalnum() or len(key) > 100:
        raise InvalidArgument(f"build context: key {key!r} is not made of letters and digits")
    return key


def _checked(listed: Sequence[Entry]) -> dict[str, Entry]:
    """By path, with directories that were not listed themselves. InvalidArgument."""
    found: dict[str, Entry] = {}
    for entry in listed:
        parts = entry.path.split("/")
        if {"", ".", ".."} & {*parts} or "\0" in entry.path or entry.path in found:
            raise InvalidArgument(f"build context: path {entry.path!r}: invalid, or there twice")
        if stat.S_IFMT(entry.mode) not in (stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK):
            raise InvalidArgument(f"build context: {entry.path!r}: of a type that images have not")
        for depth in range(1, len(parts)):
            above = "/".join(parts[:depth])
            if not found.setdefault(above, Entry(above, stat.S_IFDIR | 0o755)).directory:
                raise InvalidArgument(f"build context: {entry.path!r}: is in no directory")
        found[entry.path] = entry
    return found


def _removed(place: Path, old: Mapping[str, Entry], new: Mapping[str, Entry]) -> None:
    """Take away what is no more, or another: what is within directories first."""
    for path, entry in reversed(list(old.items())):
        after = new.get(path)
        if after == entry or (after is not None and after.directory and entry.directory):
            continue
        if entry.directory:
            (place / path).rmdir()
        else:
            (place / path).unlink()
