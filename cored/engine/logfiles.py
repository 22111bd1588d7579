"""The files of a log that its writer rotates: which there are, and how to get from one to the next.

The writer (``coreshim.logfile``) renames ``log.1`` to ``log.2`` and so on, then ``log`` to
``log.1``, then begins ``log`` anew; never writes to a renamed file; may cut off a torn last line.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

__all__ = ["LogFiles"]

_BLOCK = 1 << 20


class _File:
    """One open file, and how far it has been read."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.offset = 0
        status = os.fstat(fd)
        self.identity = (status.st_dev, status.st_ino)

    def lines(self) -> list[bytes]:
        """The next whole lines, without their ends; empty when there are none now."""
        size = os.fstat(self.fd).st_size
        if size < self.offset:
            self.offset = 0  # emptied in place: somebody's copytruncate
        block = _BLOCK
        while self.offset < size:
            data = os.pread(self.fd, block, self.offset)
            end = data.rfind(b"\n") + 1
            if end:
                self.offset += end
                return data[: end - 1].split(b"\n")
            if len(data) < block:
                break
            block *= 2
        return []

    def skip_to_tail(self, count: int) -> int:
        """Go to where the last ``count`` lines begin; how many there are, at most ``count``."""
        found, position = -1, os.fstat(self.fd).st_size
        while position:
            start = max(0, position - _BLOCK)
            data = os.pread(self.fd, position - start, start)
            end = len(data)
            while (end := data.rfind(b"\n", 0, end)) >= 0:
                found += 1
                if found == count:
                    self.offset = start + end + 1
                    return count
            position = start
        return found + 1


class LogFiles:
    """Those that are still to be read, in order; they stay open, whatever becomes of their names.

    ``lost`` says that files have come and gone since the last look. All methods block.
    """

    def __init__(self, path: Path, files: list[_File]) -> None:
        self._path = path
        self._files = files
        self.lost = False

    @classmethod
    def opened(cls, path: Path) -> LogFiles:
        """The files of the log at ``path`` as they are now. OSError."""
        return cls(path, _snapshot(path))

    def close(self) -> None:
        for file in self._files:
            os.close(file.fd)
        self._files.clear()

    def skip_to_tail(self, count: int) -> None:
        """Leave only the last so many lines to be read."""
        for number in range(len(self._files) - 1, -1, -1):
            if not count:
                for file in self._files[: number + 1]:
                    file.offset = os.fstat(file.fd).st_size
                return
            count -= self._files[number].skip_to_tail(count)

    def next_lines(self) -> list[bytes]:
        """Some whole lines; empty when all that there are have been read."""
        while True:
            if not self._files:
                self._files = _snapshot(self._path)
                if not self._files:
                    return []
            lines = self._files[0].lines()
            if lines or not (len(self._files) > 1 or self._follow()):
                return lines
            # it was renamed before the look at its end: only now that end is for good
            lines = self._files[0].lines()
            if lines:
                return lines
            os.close(self._files.pop(0).fd)

    def _follow(self) -> bool:
        """Find what came after the last file; False when nothing has, yet."""
        last = self._files[-1]
        try:
            status = self._path.stat()
        except FileNotFoundError:
            return False
        if (status.st_dev, status.st_ino) == last.identity:
            return False
        found = _snapshot(self._path)
        known = [file.identity for file in found]
        if last.identity in known:
            older = known.index(last.identity) + 1
        else:
            older, self.lost = 0, len(found) > 1
        for file in found[:older]:
            os.close(file.fd)
        self._files += found[older:]
        return bool(found[older:])


def _snapshot(path: Path) -> list[_File]:
    """All files of a log, the oldest first, as they were at one moment."""
    while True:
        files: list[_File] = []
        try:
            for name in _names(path):
                files.append(_File(os.open(name, os.O_RDONLY | os.O_CLOEXEC)))
            # nothing was renamed meanwhile: the names still mean the same files
            if [file.identity for file in files] == [_identity(name) for name in _names(path)]:
                kept, files = files, []
                return kept
        except FileNotFoundError:
            continue  # renamed between the list and the look
        finally:
            for file in files:
                os.close(file.fd)


def _names(path: Path) -> Iterator[Path]:
    """The names that there are; gaps are what a crash may leave."""
    numbers = []
    for entry in path.parent.iterdir() if path.parent.exists() else ():
        stem, _, number = entry.name.rpartition(".")
        if stem == path.name and number.isdecimal():
            numbers.append(int(number))
    for count in sorted(numbers, reverse=True):
        yield path.with_name(f"{path.name}.{count}")
    if path.exists():
        yield path


def _identity(name: Path) -> tuple[int, int]:
    status = name.stat()
    return status.st_dev, status.st_ino
