"""Directories below one root by file descriptors: no name, link or race leads out of it."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable

from cored.archive.tar import shown
from cored.errors import InvalidArgument

__all__ = ["Directory", "Tree", "joined", "normal", "remove"]

_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_MOST_OPEN = 256
_MOST_LINKS = 40  # as many as Linux follows
_DEEPEST = 500


class Directory:
    """An open directory and its path below the root, free of links.

    The descriptor is closed with the last reference: one that the tree has dropped from its
    cache while somebody works in it must not become the number of another directory.
    """

    __slots__ = ("fd", "path")

    def __init__(self, path: bytes, fd: int) -> None:
        self.path = path
        self.fd = fd

    def __del__(self) -> None:
        os.close(self.fd)


def normal(name: bytes) -> bytes:
    """A name relative to the root without ``.``, ``..`` and needless slashes; the root is b''.

    A leading slash means the root (as tar and docker have it); InvalidArgument for a name that
    climbs above it.
    """
    if name[:2] == b"./":
        name = name[2:]  # GNU tar's names begin so
    # a dot at the beginning of a part may be that of . or ..
    if b"/." not in name and b"//" not in name and name[:1] != b".":
        return name.strip(b"/")
    parts: list[bytes] = []
    for part in name.split(b"/"):
        if part == b"..":
            if not parts:
                raise InvalidArgument(f"archive: entry {shown(name)!r}: leads out of the root")
            parts.pop()
        elif part and part != b".":
            parts.append(part)
    return b"/".join(parts)


def joined(parent: bytes, name: bytes) -> bytes:
    """The path of ``name`` in ``parent``."""
    return parent + b"/" + name if parent else name


class Tree:
    """Opens directories below ``root``, links resolved as if it were ``/``.

    ``missing`` is asked for a directory that is not there (or where something else is): it
    gets the parent, the name, and what is there instead if anything; it makes the directory or
    raises. Without it such a directory is NotADirectoryError or FileNotFoundError.
    """

    def __init__(self, root: str) -> None:
        self._root = Directory(b"", os.open(root, _FLAGS & ~os.O_NOFOLLOW))
        self._open: dict[bytes, Directory] = {b"": self._root}

    @property
    def root(self) -> Directory:
        """The root itself."""
        return self._root

    def close(self) -> None:
        """Let go of all directories but those that somebody holds."""
        self._open.clear()

    def forget(self, path: bytes) -> None:
        """Take note that the directory or link at ``path`` is gone."""
        below = path + b"/"
        self._open = {
            key: directory
            for key, directory in self._open.items()
            # a key that is not the directory's own path leads through a link, perhaps this one
            if key == directory.path and key != path and not key.startswith(below)
        }

    def directory(self, path: bytes, missing: Missing | None = None) -> Directory:
        """The directory at ``path`` (normal)."""
        found = self._open.get(path)
        if found is None:
            if path.count(b"/") > _DEEPEST:
                raise InvalidArgument(f"archive: path {shown(path[:60])!r}...: too deep")
            if len(self._open) >= _MOST_OPEN:
                self._open = {b"": self._root}
            found = self._walk(path, missing, [_MOST_LINKS])
        return found

    def _walk(self, path: bytes, missing: Missing | None, links: list[int]) -> Directory:
        found = self._open.get(path)
        if found is not None:
            return found
        above, _, name = path.rpartition(b"/")
        parent = self._walk(above, missing, links)
        try:
            fd = os.open(name, _FLAGS, dir_fd=parent.fd)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                raise
            there = _looked_at(parent.fd, name)
            if there is not None and stat.S_ISLNK(there.st_mode):
                return self._follow(path, parent, name, missing, links)
            if missing is None:
                raise
            missing(parent, name, there)
            fd = os.open(name, _FLAGS, dir_fd=parent.fd)
        found = Directory(joined(parent.path, name), fd)
        self._open[path] = self._open[found.path] = found
        return found

    def _follow(
        self, path: bytes, parent: Directory, name: bytes, missing: Missing | None, links: list[int]
    ) -> Directory:
        links[0] -= 1
        if links[0] < 0:
            raise InvalidArgument(f"archive: path {shown(path)!r}: too many links")
        goal = os.readlink(name, dir_fd=parent.fd)
        found = self._step(parent.path if goal[:1] != b"/" else b"", goal, missing, links)
        self._open[path] = found
        return found

    def _step(self, at: bytes, goal: bytes, missing: Missing | None, links: list[int]) -> Directory:
        """``goal`` from ``at`` part by part, as the kernel would below a chroot."""
        found = self._walk(at, missing, links)
        for part in goal.split(b"/"):
            if part == b"..":
                found = self._walk(found.path.rpartition(b"/")[0], missing, links)
            elif part and part != b".":
                found = self._walk(joined(found.path, part), missing, links)
        return found


Missing = Callable[[Directory, bytes, os.stat_result | None], None]


def _looked_at(fd: int, name: bytes) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=fd, follow_symlinks=False)
    except FileNotFoundError:
        return None


def remove(fd: int, name: bytes) -> None:
    """Remove whatever ``name`` in the directory ``fd`` is, with all below it."""
    try:
        os.unlink(name, dir_fd=fd)
    except IsADirectoryError:
        _empty(fd, name)
        os.rmdir(name, dir_fd=fd)


def _empty(fd: int, name: bytes) -> None:
    inner = os.open(name, _FLAGS, dir_fd=fd)
    try:
        for child in os.listdir(inner):
            remove(inner, os.fsencode(child))
    finally:
        os.close(inner)
