"""What differs between two trees, and what an overlay's upper directory changes."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field

from cored.archive.marks import is_opaque, is_whiteout
from cored.archive.tree import joined

__all__ = ["Change", "between", "in_upper"]


@dataclass(frozen=True, slots=True)
class Change:
    """One path that a layer must mention; ``stat`` is None for what is gone.

    ``opaque``: all that lower layers have in this directory is gone.
    """

    path: bytes
    stat: os.stat_result | None
    opaque: bool = False


def in_upper(upper: bytes, path: bytes = b"") -> Iterator[Change]:
    """All that an overlay's upper directory holds, its marks read as what they mean."""
    place = joined(upper, path) if path else upper
    yield Change(path, os.lstat(place), bool(path) and is_opaque(place))
    for name in sorted(os.fsencode(name) for name in os.listdir(place)):
        there = os.lstat(place + b"/" + name)
        inner = joined(path, name)
        if is_whiteout(there):
            yield Change(inner, None)
        elif stat.S_ISDIR(there.st_mode):
            yield from in_upper(upper, inner)
        else:
            yield Change(inner, there)


def between(lower: bytes, upper: bytes) -> list[Change]:
    """The changes from the tree ``lower`` (b'': empty) to ``upper``, parents before children.

    Directories above a change are changes too, and so are the other names of a changed file with
    several: layers can only link to a file that they hold, or else the names would part.
    """
    walk = _Walk(lower, upper)
    root = os.lstat(upper)
    if not lower or not _same(os.lstat(lower), lower, root, upper):
        walk.changes[b""] = root
    walk.directory(b"", bool(lower))
    files = {s.st_ino for s in walk.changes.values() if s and _has_names(s)}
    for number, path, there in walk.names:
        if number in files:
            walk.add(path, there)
    return [Change(path, walk.changes[path]) for path in sorted(walk.changes, key=_order)]


@dataclass(slots=True)
class _Walk:
    lower: bytes
    upper: bytes
    changes: dict[bytes, os.stat_result | None] = field(default_factory=dict)
    names: list[tuple[int, bytes, os.stat_result]] = field(default_factory=list)

    def add(self, path: bytes, there: os.stat_result | None) -> None:
        self.changes[path] = there
        while path:
            path = path.rpartition(b"/")[0]
            if path in self.changes:
                return
            self.changes[path] = os.lstat(joined(self.upper, path) if path else self.upper)

    def directory(self, path: bytes, both: bool) -> None:
        """Compare one directory; ``both``: it is a directory in the lower tree as well."""
        new = _children(joined(self.upper, path) if path else self.upper)
        old = _children(joined(self.lower, path) if path else self.lower) if both else {}
        for name in sorted(old.keys() | new.keys()):
            inner = joined(path, name)
            before, after = old.get(name), new.get(name)
            if after is None:
                self.add(inner, None)
                continue
            below, above = joined(self.lower, inner), joined(self.upper, inner)
            if before is None or not _same(before, below, after, above):
                self.add(inner, after)
            elif _has_names(after):
                self.names.append((after.st_ino, inner, after))
            if stat.S_ISDIR(after.st_mode):
                self.directory(inner, before is not None and stat.S_ISDIR(before.st_mode))


def _children(place: bytes) -> dict[bytes, os.stat_result]:
    with os.scandir(place) as entries:
        return {entry.name: entry.stat(follow_symlinks=False) for entry in entries}


def _has_names(there: os.stat_result) -> bool:
    return there.st_nlink > 1 and not stat.S_ISDIR(there.st_mode)


def _order(path: bytes) -> list[bytes]:
    return path.split(b"/")


def _same(a: os.stat_result, at: bytes, b: os.stat_result, bt: bytes) -> bool:
    """Whether nothing differs that a layer records; directories' times do not count."""
    if (a.st_mode, a.st_uid, a.st_gid) != (b.st_mode, b.st_uid, b.st_gid):
        return False
    if not stat.S_ISDIR(a.st_mode) and a.st_mtime_ns != b.st_mtime_ns:
        return False
    if stat.S_ISLNK(a.st_mode):
        if os.readlink(at) != os.readlink(bt):
            return False
    elif stat.S_ISCHR(a.st_mode) or stat.S_ISBLK(a.st_mode):
        if a.st_rdev != b.st_rdev:
            return False
    elif stat.S_ISREG(a.st_mode):
        if a.st_size != b.st_size:
            return False
        # archives with whole seconds: within one, a file can change without showing it
        if a.st_mtime_ns % 1_000_000_000 == 0 and not _same_content(at, bt):
            return False
    return xattrs_of(at) == xattrs_of(bt)


def _same_content(at: bytes, bt: bytes) -> bool:
    with open(at, "rb", buffering=0) as a, open(bt, "rb", buffering=0) as b:
        if os.path.sameopenfile(a.fileno(), b.fileno()):
            return True
        while True:
            one, other = a.read(1 << 18), b.read(1 << 18)
            if one != other:
                return False
            if not one:
                return True


def xattrs_of(place: bytes) -> dict[bytes, bytes]:
    """The extended attributes that layers carry: capabilities and the users' own."""
    found: dict[bytes, bytes] = {}
    for text in os.listxattr(place, follow_symlinks=False):
        name = os.fsencode(text)
        if name == b"security.capability" or (
            name.startswith(b"user.") and not name.startswith(b"user.overlay.")
        ):
            found[name] = os.getxattr(place, text, follow_symlinks=False)
    return found
