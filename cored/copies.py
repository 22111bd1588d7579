"""Copies of whole trees: owners, modes, times, xattrs, hard links, devices, holes."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from pathlib import Path

from cored.trees import opened_directory

__all__ = ["copy_tree"]

_FICLONE = 0x40049409  # ioctl_ficlone(2)
_CHUNK = 64 << 20
_NO_CLONES = (errno.EOPNOTSUPP, errno.EINVAL, errno.EXDEV, errno.ENOTTY, errno.EBADF)
_NO_COPIES = (errno.EOPNOTSUPP, errno.EINVAL, errno.EXDEV, errno.ENOSYS)


def copy_tree(source: Path, target: Path) -> None:
    """Make the directory ``target``, which is there and empty, a copy of ``source``. OSError."""
    old = os.open(source, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        new = os.open(target, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            _Copy(old, new).run()
        finally:
            os.close(new)
    finally:
        os.close(old)


class _Copy:
    """One copy, directory by directory; paths are relative to the two open tops."""

    def __init__(self, old: int, new: int) -> None:
        self._old = old
        self._new = new
        self._pending = [""]
        self._links: dict[tuple[int, int], tuple[str, str]] = {}
        """Files with several names: directory and name of the first copy."""

    def run(self) -> None:
        while self._pending:
            inside = self._pending.pop()
            with opened_directory(self._old, inside) as old:
                with opened_directory(self._new, inside) as new:
                    self._directory(inside, old, new)

    def _directory(self, inside: str, old: int, new: int) -> None:
        # xattrs have no calls relative to a directory; this path is one
        source, target = f"/proc/self/fd/{old}", f"/proc/self/fd/{new}"
        with os.scandir(old) as entries:
            for entry in entries:
                status = entry.stat(follow_symlinks=False)
                if stat.S_ISDIR(status.st_mode):
                    os.mkdir(entry.name, 0o700, dir_fd=new)
                    self._pending.append(f"{inside}/{entry.name}" if inside else entry.name)
                elif not self._linked(inside, entry.name, new, status):
                    _entry(f"{source}/{entry.name}", f"{target}/{entry.name}", status)
        # all that it holds is made, so its times stay
        _attributes(f"{source}/.", f"{target}/.", os.fstat(old))

    def _linked(self, inside: str, name: str, new: int, status: os.stat_result) -> bool:
        """Make ``name`` a link to the copy that another name of the file has got already."""
        if status.st_nlink == 1 or stat.S_ISSOCK(status.st_mode):
            return False
        first = self._links.setdefault((status.st_dev, status.st_ino), (inside, name))
        if first == (inside, name):
            return False
        with opened_directory(self._new, first[0]) as there:
            os.link(first[1], name, src_dir_fd=there, dst_dir_fd=new, follow_symlinks=False)
        return True


def _entry(source: str, target: str, status: os.stat_result) -> None:
    mode = status.st_mode
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
            if error.errno not in _NO_CLONES:
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
        try:
            done = os.copy_file_range(old, new, count, start, start)
        except OSError as error:
            if error.errno not in _NO_COPIES:
                raise
            done = os.pwrite(new, os.pread(old, min(count, 1 << 20), start), start)
        if done == 0:
            raise OSError(errno.EIO, f"file ends at {start}, {end} expected: it changes")
        start += done


def _attributes(source: str, target: str, status: os.stat_result) -> None:
    os.chown(target, status.st_uid, status.st_gid, follow_symlinks=False)
    if not stat.S_ISLNK(status.st_mode):
        os.chmod(target, stat.S_IMODE(status.st_mode))
    for name in os.listxattr(source, follow_symlinks=False):
        value = os.getxattr(source, name, follow_symlinks=False)
        os.setxattr(target, name, value, follow_symlinks=False)
    os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns), follow_symlinks=False)
