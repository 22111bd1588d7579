"""Copies files into a root filesystem the way COPY does."""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from cored.errors import FailedPrecondition, InvalidArgument
from cored_service_build.trees import Selected, resolved

__all__ = ["Copying", "changed_mode"]

# bytes that are read at once before the kernel is asked to copy by itself
_SMALL = 128 << 10
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL
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

    def write(self, data: bytes | Path, target: str, name: str, mtime: int = 0) -> None:
        """A file of these bytes, or that file's, at ``target``; called ``name`` in a directory.

        InvalidArgument for a name that would lead elsewhere: URLs and Dockerfiles are anybody's.
        """
        place = resolved(self.root, target)
        if target.endswith("/") or place.is_dir():
            if "/" in name or "\0" in name or name in ("", ".", ".."):
                raise InvalidArgument(f"{name!r}: is no file's name", hint="name one in the target")
            place = self.directory(target) / name
        else:
            self.directory(os.path.dirname(target))
        self._clear(place)
        if isinstance(data, bytes):
            place.write_bytes(data)
        else:
            with _opened(os.fspath(data), os.O_RDONLY) as old, _opened(str(place), _NEW) as new:
                _written(old, new)
        os.chown(place, *(self.owner or (0, 0)))
        os.chmod(place, changed_mode(self.mode, 0o644))
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
        """What is in a directory; most of it into directories that are made here, where nothing can
        be in the way, so that little has to be asked."""
        homes, made, times = {"": os.fspath(target)}, set[str](), []
        if not os.listdir(target):
            made.add("")
        for path, place, status in source.walk():
            if not path:
                continue
            above, _, name = path.rpartition("/")
            home = homes.get(above)
            if home is None:  # what is in it was not left out, it was
                inside = os.path.relpath(target, self.root)
                home = homes[above] = os.fspath(self.directory(f"{inside}/{above}"))
            there = f"{home}/{name}"
            if not stat.S_ISDIR(status.st_mode):
                self._file(place, there, status, empty=above in made)
                continue
            homes[path] = there
            if above in made:
                os.mkdir(there)
                made.add(path)
            else:
                homes[path], new = self._directory(Path(there))
                if new:
                    made.add(path)
            self._described(homes[path], status)
            times.append((homes[path], status))
        for there, status in reversed(times):
            os.utime(there, ns=(status.st_atime_ns, status.st_mtime_ns))

    def _entry(self, source: Path, place: Path) -> None:
        status = os.lstat(source)
        if stat.S_ISDIR(status.st_mode):
            real, _ = self._directory(place)
            self._described(real, status)
        else:
            self._file(os.fspath(source), os.fspath(place), status)

    def _directory(self, place: Path) -> tuple[str, bool]:
        """A directory at ``place``, or where a link there leads; whether it is new."""
        real = place
        if place.is_symlink():
            real = resolved(self.root, os.fspath(place.relative_to(self.root)))
        if real.is_dir():
            return os.fspath(real), False
        self._clear(real)
        real.mkdir()
        return os.fspath(real), True

    def _file(
        self, source: str, place: str, status: os.stat_result, *, empty: bool = False
    ) -> None:
        """Anything but a directory. ``empty``: nothing is there."""
        if not empty:
            self._clear(Path(place))
        kind = stat.S_IFMT(status.st_mode)
        if kind == stat.S_IFREG:
            with _opened(source, os.O_RDONLY) as old, _opened(place, _NEW) as new:
                _written(old, new)
                self._finished(old, new, status)
            return
        if kind == stat.S_IFLNK:
            os.symlink(os.readlink(source), place)
        elif kind == stat.S_IFSOCK:
            return
        else:
            os.mknod(place, kind | 0o600, status.st_rdev)
        self._finished(source, place, status)

    def _finished(self, old: str | int, new: str | int, status: os.stat_result) -> None:
        """A file is there: what describes it, its times last; paths of what is no regular file."""
        self._described(new, status)
        if self.owner is None:
            _attributes(old, new)
        times, opened = (status.st_atime_ns, status.st_mtime_ns), isinstance(new, int)
        with suppress(NotImplementedError):
            os.utime(new, ns=times, follow_symlinks=opened)

    def _clear(self, place: Path) -> None:
        if place.is_dir() and not place.is_symlink():
            raise FailedPrecondition(
                f"cannot copy a file over the directory /{place.relative_to(self.root)}"
            )
        with suppress(FileNotFoundError):
            place.unlink()

    def _described(self, place: str | int, status: os.stat_result) -> None:
        """Owner and mode, from those of the source."""
        uid, gid = self.owner or (status.st_uid, status.st_gid)
        if isinstance(place, int):
            os.fchown(place, uid, gid)
        else:
            os.chown(place, uid, gid, follow_symlinks=False)
        if not stat.S_ISLNK(status.st_mode):
            mode, directory = stat.S_IMODE(status.st_mode), stat.S_ISDIR(status.st_mode)
            os.chmod(place, changed_mode(self.mode, mode, directory=directory))


@contextmanager
def _opened(path: str, flags: int) -> Iterator[int]:
    file = os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        yield file
    finally:
        os.close(file)


def _written(reading: int, writing: int) -> None:
    """All bytes of one file into another, which is new."""
    data = os.read(reading, _SMALL)
    while data:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(writing, rest) :]
        if len(data) < _SMALL:
            break
        if not _sent(reading, writing):
            break
        data = os.read(reading, _SMALL)


def _sent(reading: int, writing: int) -> bool:
    """All the rest by the kernel alone; True when there may be more that it does not copy."""
    try:
        while os.copy_file_range(reading, writing, 1 << 30):
            pass
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EFBIG):
            raise
        return True
    return False


def _attributes(source: str | int, place: str | int) -> None:
    """Extended attributes of files in images: capabilities. Both are open files, or both paths."""
    opened = isinstance(source, int)
    for name in os.listxattr(source, follow_symlinks=opened):
        with suppress(OSError):  # one that this file system does not have
            value = os.getxattr(source, name, follow_symlinks=opened)
            os.setxattr(place, name, value, follow_symlinks=opened)


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
