"""Copies files into a root filesystem the way COPY does."""

from __future__ import annotations

import os
import re
import shutil
import stat
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from cored.errors import FailedPrecondition, InvalidArgument
from cored_service_build.trees import Selected, resolved

__all__ = ["Copying", "changed_mode"]

_SYMBOLIC = re.compile(r"([ugoa]*)([-+=])([rwxXst]*)")


@dataclass(slots=True)
class Copying:
    """One COPY's manner: ``owner`` None keeps that of each file; ``mode`` is chmod(1)'s, '' keeps.

    All methods block.
    """

    root: Path
    owner: tuple[int, int] | None = (0, 0)
    mode: str = ""
    epoch: int | None = None

    def copy(self, sources: Sequence[Selected], target: str, *, parents: bool = False) -> None:
        """Put ``sources`` at ``target``, a directory when it ends with / or they are several."""
        into = target.endswith(("/", "/.")) or len(sources) > 1 or parents
        if len(sources) > 1 and not target.endswith(("/", "/.")) and not parents:
            place = resolved(self.root, target)
            if not place.is_dir():
                raise InvalidArgument(
                    f"target {target!r}: must end with /, the sources are several"
                )
        for source in sources:
            if parents:
                self._parents(source, target)
            elif source.place.is_dir():
                self._tree(source, self.directory(target))
            else:
                place = resolved(self.root, target)
                if into or place.is_dir():
                    place = self.directory(target) / Path(source.name).name
                else:
                    self.directory(os.path.dirname(target))
                self._entry(source.place, place)

    def write(self, data: bytes, target: str, name: str, mtime: int = 0) -> None:
        """A file of these bytes at ``target``, called ``name`` where that is a directory."""
        place = resolved(self.root, target)
        if target.endswith("/") or place.is_dir():
            place = self.directory(target) / name
        else:
            self.directory(os.path.dirname(target))
        self._clear(place)
        place.write_bytes(data)
        os.chmod(place, 0o644)
        self._described(place, 0o644)
        os.utime(place, (mtime, mtime), follow_symlinks=False)

    def directory(self, path: str) -> Path:
        """The directory ``path``, made with those above it where it is not there."""
        place = resolved(self.root, path)
        missing = []
        while not os.path.lexists(place):
            missing.append(place)
            place = place.parent
        if not place.is_dir():
            raise FailedPrecondition(f"target {path!r}: {place.name!r} is not a directory")
        for each in reversed(missing):
            each.mkdir()
            os.chmod(each, 0o755)
            os.chown(each, *(self.owner or (0, 0)))
        return resolved(self.root, path)

    def _parents(self, source: Selected, target: str) -> None:
        """Below ``target`` with the directories that the source's name has, after a pivot /./."""
        above = os.path.dirname(source.name)
        inner = self.directory(os.path.join(target, above))
        if source.place.is_dir():
            place = inner / os.path.basename(source.name)
            self._entry(source.place, place)
            self._tree(source, place)
        else:
            self._entry(source.place, inner / os.path.basename(source.name))

    def _tree(self, source: Selected, target: Path) -> None:
        times = []
        for path, place in source.walk():
            if not path:
                continue
            there = target / path
            there = resolved(self.root, os.fspath(there.parent.relative_to(self.root))) / there.name
            if not there.parent.exists():
                self.directory(os.fspath(there.parent.relative_to(self.root)))
            self._entry(place, there)
            if place.is_dir() and not place.is_symlink():
                times.append((there, os.lstat(place)))
        for there, status in reversed(times):
            os.utime(there, ns=(status.st_atime_ns, status.st_mtime_ns))

    def _entry(self, source: Path, place: Path) -> None:
        status = os.lstat(source)
        kind = stat.S_IFMT(status.st_mode)
        if kind == stat.S_IFDIR:
            real = place
            if place.is_symlink():
                real = resolved(self.root, os.fspath(place.relative_to(self.root)))
            if not real.is_dir():
                self._clear(real)
                real.mkdir()
            self._described(real, stat.S_IMODE(status.st_mode), status)
            return
        self._clear(place)
        if kind == stat.S_IFREG:
            shutil.copyfile(source, place, follow_symlinks=False)
        elif kind == stat.S_IFLNK:
            os.symlink(os.readlink(source), place)
        elif kind == stat.S_IFSOCK:
            return
        else:
            os.mknod(place, kind | 0o600, status.st_rdev)
        self._described(place, stat.S_IMODE(status.st_mode), status)
        with suppress(NotImplementedError):
            os.utime(place, ns=(status.st_atime_ns, status.st_mtime_ns), follow_symlinks=False)

    def _clear(self, place: Path) -> None:
        if place.is_dir() and not place.is_symlink():
            raise FailedPrecondition(
                f"cannot copy a file over the directory /{place.relative_to(self.root)}"
            )
        with suppress(FileNotFoundError):
            place.unlink()

    def _described(self, place: Path, mode: int, status: os.stat_result | None = None) -> None:
        owner = self.owner
        if owner is None and status is not None:
            owner = status.st_uid, status.st_gid
        os.chown(place, *(owner or (0, 0)), follow_symlinks=False)
        if not place.is_symlink():
            os.chmod(place, changed_mode(self.mode, mode, directory=place.is_dir()))


def changed_mode(text: str, mode: int, *, directory: bool = False) -> int:
    """``mode`` after chmod(1) ``text``: octal, or symbols such as u=rwX,go-w. InvalidArgument."""
    if not text:
        return mode
    if text.isdecimal():
        return int(text, 8)
    for part in text.split(","):
        match = _SYMBOLIC.fullmatch(part)
        if match is None:
            raise InvalidArgument(f"mode {text!r}: invalid", hint="755, or u=rwX,go=rX")
        who, operator, what = match.groups()
        who = "ugo" if not who or "a" in who else who
        bits = 0
        for letter in what:
            execute = letter == "x" or (letter == "X" and (directory or mode & 0o111))
            digit = {"r": 4, "w": 2}.get(letter, 1 if execute else 0)
            for each in who:
                bits |= digit << {"u": 6, "g": 3, "o": 0}[each]
            if letter == "s":
                bits |= (0o4000 if "u" in who else 0) | (0o2000 if "g" in who else 0)
            if letter == "t":
                bits |= 0o1000
        mask = sum(7 << {"u": 6, "g": 3, "o": 0}[each] for each in set(who))
        if operator == "=":
            mode = (mode & ~mask) | bits
        else:
            mode = mode | bits if operator == "+" else mode & ~bits
    return mode
