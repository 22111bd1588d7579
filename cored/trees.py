"""Whole directory trees: measured and removed, however deep they are.

A container can nest directories deeper than a path can be long (PATH_MAX), than Python recurses,
and than a process may hold files open. Nothing here depends on any of the three.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from cored.abc.snapshots import Usage

__all__ = ["disk_usage", "opened_directory", "remove_tree"]

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_CHARACTERS = 1000
"""A part of a path that surely fits PATH_MAX, at four bytes a character."""


@contextmanager
def opened_directory(top: int, path: str) -> Iterator[int]:
    """The directory at the relative ``path`` of any length below the open directory ``top``."""
    here = os.dup(top)
    try:
        while path:
            cut = len(path) if len(path) <= _CHARACTERS else path.rindex("/", 0, _CHARACTERS)
            step, path = path[:cut], path[cut + 1 :]
            following = os.open(step, _DIRECTORY, dir_fd=here)
            os.close(here)
            here = following
        yield here
    finally:
        os.close(here)


def disk_usage(path: Path) -> Usage:
    """The blocks and inodes of a tree, its root included; hard links count once.

    The tree may change meanwhile: what vanishes is not counted.
    """
    top = os.open(path, _DIRECTORY)
    try:
        size, inodes = os.fstat(top).st_blocks * 512, 1
        seen: set[tuple[int, int]] = set()
        pending = [""]
        while pending:
            inside = pending.pop()
            gone = suppress(FileNotFoundError, NotADirectoryError)
            with gone, opened_directory(top, inside) as here:
                for name, status in _entries(here):
                    if stat.S_ISDIR(status.st_mode):
                        pending.append(f"{inside}/{name}" if inside else name)
                    elif status.st_nlink > 1:
                        if (status.st_dev, status.st_ino) in seen:
                            continue
                        seen.add((status.st_dev, status.st_ino))
                    size += status.st_blocks * 512
                    inodes += 1
    finally:
        os.close(top)
    return Usage(size, inodes)


def _entries(directory: int) -> Iterator[tuple[str, os.stat_result]]:
    with os.scandir(directory) as entries:
        for entry in entries:
            with suppress(FileNotFoundError):
                yield entry.name, entry.stat(follow_symlinks=False)


def remove_tree(path: Path) -> None:
    """Remove a directory and all in it. OSError."""
    try:
        shutil.rmtree(path)
    except RecursionError:
        _remove_flat(path)
    except OSError as error:
        if error.errno not in (errno.EMFILE, errno.ENAMETOOLONG):
            raise
        _remove_flat(path)


def _remove_flat(path: Path) -> None:
    """Move every directory up to the top before it is emptied: no depth, three open files."""
    prefix, number = f"removed-{time.time_ns()}-", 0
    top = os.open(path, _DIRECTORY)
    try:
        while names := os.listdir(top):  # noqa: PTH208 - of an open directory
            for name in names:
                if not stat.S_ISDIR(os.lstat(name, dir_fd=top).st_mode):
                    os.unlink(name, dir_fd=top)
                    continue
                with opened_directory(top, name) as here:
                    for inner, status in list(_entries(here)):
                        if stat.S_ISDIR(status.st_mode):
                            number += 1
                            os.rename(inner, f"{prefix}{number}", src_dir_fd=here, dst_dir_fd=top)
                        else:
                            os.unlink(inner, dir_fd=here)
                os.rmdir(name, dir_fd=top)
    finally:
        os.close(top)
    path.rmdir()
