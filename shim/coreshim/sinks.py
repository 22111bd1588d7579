"""Where a relay's bytes go: a descriptor, or (:mod:`coreshim.logged`) a log."""

from __future__ import annotations

import os
import stat

from coreshim.hibernation import Luggage, State
from coreshim.loop import WRITE

__all__ = ["Descriptor", "Sink", "is_fifo", "open_sink"]


class Sink:
    """Takes bytes; ``fd`` is a descriptor that splice can write to, -1 where there is none."""

    fd = -1

    def write(self, data: bytes) -> int:
        """How many bytes it took. BlockingIOError: none just now; OSError: it takes no more."""
        raise NotImplementedError

    def close(self) -> None:
        """Let go of it."""
        raise NotImplementedError

    def pack(self, luggage: Luggage) -> State:
        """What :func:`coreshim.logged.sink_of` needs to go on with it."""
        raise NotImplementedError

    @property
    def room(self) -> tuple[int, int]:
        """The descriptor and events to wait for when it took less than all."""
        return self.fd, WRITE

    @property
    def unsent(self) -> tuple[int, int]:
        """The same for what it took and has not passed on; (-1, 0) when there is nothing."""
        return -1, 0

    @property
    def owing(self) -> bool:
        """Whether there is such a thing."""
        return False

    @property
    def busy(self) -> bool:
        """Whether it has something under way, and wants a :meth:`tick` now and then."""
        return False

    def tick(self) -> None:
        """Go on with what was left undone."""


class Descriptor(Sink):
    """A sink that is a descriptor."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def write(self, data: bytes) -> int:
        return os.write(self.fd, data)

    def close(self) -> None:
        os.close(self.fd)

    def pack(self, luggage: Luggage) -> State:
        return {"fd": luggage.pack(self.fd)}


def is_fifo(path: str) -> bool:
    """Whether ``path`` is a named pipe. OSError."""
    return stat.S_ISFIFO(os.stat(path).st_mode)


def open_sink(path: str) -> int:
    """A descriptor to write to ``path``, '', or ``file://path`` with. OSError."""
    target = path.removeprefix("file://") or os.devnull
    flags = os.O_WRONLY | os.O_CLOEXEC
    if not path.startswith("file://") and is_fifo(target):
        return os.open(target, flags)
    return os.open(target, flags | os.O_CREAT | os.O_APPEND, 0o640)
