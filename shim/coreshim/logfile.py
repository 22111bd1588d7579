"""A log file that grows to a size and is then put away: ``log``, then ``log.1``, ``log.2``.

Where they are to be compressed: ``log.1.gz``, ``log.2.gz``.
"""

from __future__ import annotations

import fcntl
import os

from coreshim.hibernation import Luggage, State
from coreshim.squeezing import PACKED, Squeezer

__all__ = ["LogFile"]


class LogFile:
    """Takes whole lines; several in one process or in many may append to one ``path``.

    ``max_size`` is bytes, 0 for no limit, ``max_files`` counts them all. Who renames or removes the
    file (kubelet, logrotate) finds the next lines in a new one of the old name: every append looks
    whether ``path`` is still the file that is open. Nothing else is remembered.
    """

    def __init__(
        self,
        path: str,
        max_size: int = 0,
        max_files: int = 1,
        fd: int = -1,
        *,
        compress: bool = False,
    ) -> None:
        self.path = path
        self.max_size = max_size
        self.max_files = max(1, max_files)
        self._squeezer = Squeezer(path) if compress and max_files > 1 else None
        if fd >= 0:  # an earlier worker's
            self._fd = fd
            return
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        self._fd = self._opened()
        _mend(self._fd)
        if self._squeezer is not None:
            self._squeezer.leftovers()

    @property
    def busy(self) -> bool:
        """Whether an old file is being compressed just now."""
        return self._squeezer is not None and self._squeezer.busy

    def pack(self, luggage: Luggage) -> State:
        """What :meth:`unpacked` needs. The descriptor too: a full disk must not end a sleep."""
        return {
            "path": self.path, "size": self.max_size, "files": self.max_files,
            "fd": luggage.pack(self._fd), "compress": self._squeezer is not None,
        }  # fmt: skip

    @classmethod
    def unpacked(cls, state: State, luggage: Luggage) -> LogFile:
        """The file that an earlier worker had open."""
        fd, compress = luggage.unpack(state["fd"]), state["compress"]
        return cls(state["path"], state["size"], state["files"], fd, compress=compress)

    def append(self, data: bytes) -> None:
        """Write lines, none of them torn. OSError: the rest of them is not there."""
        while data:
            size = self._current_size()
            room = self.max_size - size
            if not self.max_size or len(data) <= room:
                _write_whole(self._fd, data)
                return
            end = data.rfind(b"\n", 0, max(0, room)) + 1
            if not end and size and self._rotate():
                continue
            end = end or data.find(b"\n") + 1
            _write_whole(self._fd, data[:end])
            data = data[end:]

    def close(self) -> None:
        if self._squeezer is not None:
            self._squeezer.settle()
        os.close(self._fd)

    def _opened(self) -> int:
        # readable too: to see whether an earlier writer was cut off
        return os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)

    def _reopen(self) -> None:
        fd = self._opened()
        os.close(self._fd)
        self._fd = fd

    def _current(self) -> bool:
        """Whether ``path`` is what we have open."""
        ours = os.fstat(self._fd)
        try:
            there = os.stat(self.path)
        except FileNotFoundError:
            return False
        return (ours.st_dev, ours.st_ino) == (there.st_dev, there.st_ino)

    def _current_size(self) -> int:
        if not self._current():
            self._reopen()
        return os.fstat(self._fd).st_size

    def _rotate(self) -> bool:
        """Give the file the number 1 and begin another; False when somebody else does just that."""
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        if self._current():
            self._put_away()
            if self._squeezer is not None:
                self._squeezer.take(self._fd)
        self._reopen()  # the lock goes with what was open
        return True

    def _put_away(self) -> None:
        """Move up what is there, as far as the first gap: a crash may have left one."""
        if self.max_files == 1:
            # not truncated: who reads it goes on with what it has open
            os.unlink(self.path)
            return
        numbers = range(1, self.max_files)
        names = [self.path, *(f"{self.path}.{number}" for number in numbers)]
        last = next((n for n in numbers if not _forms(names[n])), numbers[-1])
        for form in _forms(names[last]):
            os.unlink(form)
        for number in range(last, 0, -1):
            for form in _forms(names[number - 1]):
                os.replace(form, names[number] + form[len(names[number - 1]) :])


def _forms(name: str) -> list[str]:
    """The file as it is, and compressed; both for a moment."""
    return [form for form in (name, name + PACKED) if os.path.exists(form)]


def _write_whole(fd: int, data: bytes) -> None:
    written = os.write(fd, data)
    while written < len(data):
        try:
            written += os.write(fd, data[written:])
        except OSError:
            # a full disk: half a line would spoil the next one
            os.ftruncate(fd, os.fstat(fd).st_size - written)
            raise


def _mend(fd: int) -> None:
    """Cut off a last line without an end: its writer died in the middle of it."""
    size = keep = os.fstat(fd).st_size
    block = 1 << 16
    while keep:
        start = max(0, keep - block)
        end = os.pread(fd, keep - start, start).rfind(b"\n")
        if end >= 0:
            keep = start + end + 1
            break
        keep = start
    if keep < size:
        os.ftruncate(fd, keep)
