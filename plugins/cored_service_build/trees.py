"""Trees of files that somebody else made: paths in them, digests, and what a pattern selects."""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cored.errors import InvalidArgument, NotFound
from cored_service_build.dockerfile.ignore import Ignore, glob

__all__ = ["Digests", "Selected", "located", "resolved", "selected"]

_LINKS = 255
# files whose digests are known: some 100 bytes each
_MOST = 200_000


def resolved(root: Path, path: str, *, follow_last: bool = True) -> Path:
    """``path`` as a process with the root ``root`` would find it; what is not there is kept.

    InvalidArgument for links in a circle.
    """
    pending = [part for part in reversed(path.split("/")) if part not in ("", ".")]
    current: list[str] = []
    links = 0
    while pending:
        part = pending.pop()
        if part == "..":
            current = current[:-1]
            continue
        place = root.joinpath(*current, part)
        if place.is_symlink() and (pending or follow_last):
            links += 1
            if links > _LINKS:
                raise InvalidArgument(f"path {path!r}: too many symbolic links")
            target = os.readlink(place)
            if target.startswith("/"):
                current = []
            pending += [p for p in reversed(target.split("/")) if p not in ("", ".")]
            continue
        current.append(part)
    return root.joinpath(*current)


def located(root: Path, path: str) -> str:
    """:func:`resolved` below ``root``, as a relative path ('' is the root itself)."""
    found = os.fspath(resolved(root, path).relative_to(root))
    return "" if found == "." else found


@dataclass(frozen=True, slots=True)
class Selected:
    """One source of a copy: where it is, and what it is called there; what in it is left out."""

    place: Path
    name: str
    exclude: Ignore | None = None

    def walk(self) -> Iterator[tuple[str, str, os.stat_result]]:
        """Everything in it: its path from it ('' is itself), where it is, and what lstat says.

        Parents first, by name.
        """
        place, status = os.fspath(self.place), os.lstat(self.place)
        yield "", place, status
        if stat.S_ISDIR(status.st_mode):
            yield from self._inside("", place)

    def _left_out(self, inner: str) -> bool:
        """By its name in the source, or in the context."""
        if self.exclude is None:
            return False
        whole = f"{self.name}/{inner}" if self.name else inner
        return self.exclude.ignored(inner) or self.exclude.ignored(whole)

    def _inside(self, path: str, place: str) -> Iterator[tuple[str, str, os.stat_result]]:
        with os.scandir(place) as listed:
            entries = sorted(listed, key=lambda entry: entry.name)
        for entry in entries:
            inner = f"{path}/{entry.name}" if path else entry.name
            left_out = self._left_out(inner)
            status = entry.stat(follow_symlinks=False)
            if not left_out:
                yield inner, entry.path, status
            if stat.S_ISDIR(status.st_mode) and not (
                left_out and self.exclude and self.exclude.prunable(inner)
            ):
                yield from self._inside(inner, entry.path)


def selected(root: Path, pattern: str, exclude: Sequence[str] = ()) -> list[Selected]:
    """What ``pattern`` names below ``root``. NotFound."""
    try:
        ignore = Ignore.of(p.lstrip("/") for p in exclude) if exclude else None
        cleaned = os.path.normpath("/" + pattern).lstrip("/")
        if re.search(r"[*?\[]", cleaned):
            expression = re.compile(glob(cleaned))
        else:
            place = resolved(root, cleaned)
            if not os.path.lexists(place):
                raise NotFound(f"{pattern!r}: not found")
            return [Selected(place, cleaned, ignore)]
    except ValueError as error:
        raise InvalidArgument(str(error)) from error
    depth = cleaned.count("/") + 1
    found = [
        Selected(resolved(root, path), path, ignore)
        for path in _paths(root, "", None if "**" in cleaned else depth)
        if expression.fullmatch(path) and not (ignore and ignore.ignored(path))
    ]
    if not found:
        raise NotFound(f"{pattern!r}: fits no file")
    return found


def _paths(root: Path, path: str, depth: int | None) -> Iterator[str]:
    place = root / path
    for name in sorted(os.listdir(place)):
        inner = f"{path}/{name}" if path else name
        yield inner
        entry = root / inner
        if entry.is_dir() and not entry.is_symlink() and (depth is None or depth > 1):
            yield from _paths(root, inner, None if depth is None else depth - 1)


@dataclass(slots=True)
class Digests:
    """Digests of what files are, without their times; one that nobody wrote to is read once."""

    known: dict[tuple[int, ...], str] = field(default_factory=dict)

    def of(self, sources: Sequence[Selected], *, owners: bool) -> Mapping[str, str]:
        """By path. ``owners``: who they belong to counts too. Blocks."""
        found = {}
        for source in sources:
            for path, place, status in source.walk():
                name = "/".join(part for part in (source.name, path) if part)
                found[name or "."] = self._one(place, status, owners)
        return found

    def _one(self, place: str, there: os.stat_result, owners: bool) -> str:
        mark = f"{stat.S_IFMT(there.st_mode):o} {stat.S_IMODE(there.st_mode):o}"
        if owners:
            mark += f" {there.st_uid}:{there.st_gid}"
        if stat.S_ISLNK(there.st_mode):
            return f"{mark} {os.readlink(place)}"
        if not stat.S_ISREG(there.st_mode):
            return mark
        key = (there.st_dev, there.st_ino, there.st_ctime_ns, there.st_size)
        digest = self.known.get(key)
        if digest is None:
            if len(self.known) >= _MOST:
                self.known.clear()
            digest = self.known[key] = _file_digest(place)
        return f"{mark} {digest}"


def _file_digest(place: str) -> str:
    with open(place, "rb", buffering=0) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
