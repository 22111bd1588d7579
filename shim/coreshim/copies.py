"""Copies of a stream for whoever looks: any number of FIFOs, all with the same bytes."""

from __future__ import annotations

import os
import select
from collections.abc import Sequence

from coreshim.hibernation import Luggage, State

__all__ = ["Copies", "open_reader"]

# what a pipe that has room takes whole: PIPE_BUF
_PIECE = 4096
_WRITE = os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC


def open_reader(path: str) -> int:
    """A FIFO to write to, which somebody reads. OSError: ENXIO where nobody does."""
    return os.open(path, _WRITE)


class Copies:
    """``path`` names a FIFO that is looked at while somebody reads it; others join.

    Nobody gets more than the slowest has taken, nobody misses anything, and who goes away is
    forgotten. ``fd`` is the one without room after BlockingIOError, or a write that took less.
    """

    def __init__(self, path: str, named: int = -1, joined: Sequence[int] = ()) -> None:
        self._path = path
        self._named = named
        self._joined = list(joined)
        self.fd = -1

    def pack(self, luggage: Luggage) -> State:
        """What :meth:`unpacked` needs."""
        return {
            "path": self._path,
            "named": luggage.pack(self._named),
            "joined": [luggage.pack(fd) for fd in self._joined],
        }

    @classmethod
    def unpacked(cls, state: State, luggage: Luggage) -> Copies:
        """Those that an earlier worker wrote."""
        joined = [luggage.unpack(place) for place in state["joined"]]
        return cls(state["path"], luggage.unpack(state["named"]), joined)

    def join(self, fd: int) -> None:
        """One more, ours from now on."""
        poll = select.poll()
        for each in self._joined:
            poll.register(each, 0)
        for gone, _ in poll.poll(0):  # POLLERR: nobody reads it any more
            self._drop(gone)
        self._joined.append(fd)

    def write(self, data: bytes) -> int:
        """How many bytes everybody has got. BlockingIOError when that is none."""
        self._look()
        if not self._joined:
            return self._write_named(data)
        sent = 0
        while sent < len(data):
            piece = data[sent : sent + _PIECE]
            self.fd = self._full()
            if self.fd >= 0:
                break
            for fd in self._all():
                try:
                    os.write(fd, piece)
                except BrokenPipeError:
                    self._drop(fd)
            sent += len(piece)
        if not sent:
            raise BlockingIOError
        return sent

    def close(self) -> None:
        """The end for all; one who has got nothing sees it, too: a writer has come and gone."""
        self._look()
        for fd in self._all():
            self._drop(fd)

    def _write_named(self, data: bytes) -> int:
        self.fd = self._named
        if self.fd < 0:
            return len(data)
        try:
            return os.write(self.fd, data)
        except BrokenPipeError:
            self._drop(self.fd)
            return len(data)

    def _look(self) -> None:
        """See whether somebody reads the FIFO that is named, now."""
        if self._named < 0 and self._path:
            try:
                self._named = open_reader(self._path)
            except OSError:  # ENXIO: nobody reads; or it has been removed, or is not yet there
                return

    def _all(self) -> list[int]:
        return [self._named, *self._joined] if self._named >= 0 else list(self._joined)

    def _full(self) -> int:
        """One that has no room; -1 if all have."""
        poll = select.poll()
        there = self._all()
        for fd in there:
            poll.register(fd, select.POLLOUT)
        ready = {fd for fd, _ in poll.poll(0)}
        return next((fd for fd in there if fd not in ready), -1)

    def _drop(self, fd: int) -> None:
        os.close(fd)
        if fd == self._named:
            self._named = -1
        else:
            self._joined.remove(fd)
