"""Copies of whole trees: owners, modes, times, xattrs, hard links, devices, holes."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from pathlib import Path

__all__ = ["copy_tree"]

_FICLONE = 0x40049409  # ioctl_ficlone(2)
_CHUNK = 64 << 20


def copy_tree(source: Path, target: Path) -> None:
    """Make the directory ``target``, which is there and empty, a copy of ``source``. OSError."""
    _Copy().directory(os.fspath(source), os.fspath(target))


class _Copy:
    """One copy; ``_links`` maps files with several names to the first copy."""

    def __init__(self) -> None:
        self._links: dict[tuple[int, int], str] = {}

    def directory(self, source: str, target: str) -> None:
        with os.scandir(source) as entries:
            for entry in entries:
                self._entry(entry.path, os.path.join(target, entry.name))
        _attributes(source, target, os.lstat(source))

    def _entry(self, source: str, target: str) -> None:
        status = os.lstat(source)
        mode = status.st_mode
        if stat.S_ISDIR(mode):
            os.mkdir(target)
            self.directory(source, target)
            return
        if status.st_nlink > 1:
            first = self._links.setdefault((status.st_dev, status.st_ino), target)
            if first != target:
                os.link(first, target, follow_symlinks=False)
                return
        if stat.S_ISREG(mode):
            _file(source, target, status.st_size)
        elif stat.S_ISLNK(mode):
            os.symlink(os.readlink(source), target)
        elif not stat.S_ISSOCK(mode):
            os.mknod(target, mode, status.st_rdev)
        else:
            return  # a socket without its process is nothing
        _attributes(source, target, status)


def _file(source: str, target: str, size: int) -> None:
    """A file's data: shared by the filesystem where it can, else copied without its holes."""
    with open(source, "rb", buffering=0) as old, open(target, "xb", buffering=0) as new:
        try:
            fcntl.ioctl(new, _FICLONE, old.fileno())
            return
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.EXDEV, errno.ENOTTY):
                raise
        os.ftruncate(new.fileno(), size)
        start = 0
        while start < size:
            try:
                start = os.lseek(old.fileno(), start, os.SEEK_DATA)
            except OSError as error:
                if error.errno == errno.ENXIO:  # only a hole is left
                    break
                raise
            end = os.lseek(old.fileno(), start, os.SEEK_HOLE)
            _range(old.fileno(), new.fileno(), start, end)
            start = end


def _range(old: int, new: int, start: int, end: int) -> None:
    while start < end:
        count = min(end - start, _CHUNK)
        done = os.copy_file_range(old, new, count, start, start)
        if done == 0:
            return
        start += done


def _attributes(source: str, target: str, status: os.stat_result) -> None:
    os.chown(target, status.st_uid, status.st_gid, follow_symlinks=False)
    if not stat.S_ISLNK(status.st_mode):
        os.chmod(target, stat.S_IMODE(status.st_mode))
    for name in os.listxattr(source, follow_symlinks=False):
        value = os.getxattr(source, name, follow_symlinks=False)
        os.setxattr(target, name, value, follow_symlinks=False)
    os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns), follow_symlinks=False)
