"""Where a relay's bytes go: a descriptor, or a log with a copy for whoever reads it."""

from __future__ import annotations

import os
import stat
import sys
from urllib.parse import parse_qs, urlsplit

from coreshim.hibernation import Luggage, State
from coreshim.logfile import JsonFile

__all__ = ["Descriptor", "Logged", "Sink", "is_fifo", "open_log", "open_sink", "sink_of"]


class Sink:
    """``fd`` is what to wait for when ``write`` raises BlockingIOError or takes less."""

    fd = -1

    def write(self, data: bytes) -> int:
        """How many bytes it took. OSError: it takes no more."""
        raise NotImplementedError

    def close(self) -> None:
        """Let go of it."""
        raise NotImplementedError

    def pack(self, luggage: Luggage) -> State:
        """What :func:`sink_of` needs to go on with it."""
        raise NotImplementedError


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


class Logged(Sink):
    """A log, and a FIFO with a copy for whoever reads it; without a reader the copy is dropped."""

    def __init__(self, log: JsonFile, copy: str, fd: int = -1) -> None:
        self._log = log
        self._copy = copy
        self.fd = fd
        self._failing = False

    def _reader(self) -> bool:
        """Whether somebody reads the FIFO now."""
        if self.fd < 0 and self._copy:
            try:
                self.fd = os.open(self._copy, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            except OSError:  # ENXIO: nobody reads; or it has been removed, or is not yet there
                return False
        return self.fd >= 0

    def write(self, data: bytes) -> int:
        sent = len(data)
        if self._reader():
            try:
                sent = os.write(self.fd, data)
            except BrokenPipeError:
                os.close(self.fd)
                self.fd = -1
        self._append(data[:sent])
        return sent

    def pack(self, luggage: Luggage) -> State:
        log = self._log.pack(luggage)
        return {"log": log, "copy": self._copy, "fd": luggage.pack(self.fd)}

    def _append(self, data: bytes) -> None:
        try:
            self._log.write(data)
            self._failing = False
        except OSError as error:
            # a full disk costs the log's lines, not the container its output and so its life
            if not self._failing:
                print(f"log: lines are lost: {error}", file=sys.stderr, flush=True)
            self._failing = True

    def close(self) -> None:
        try:
            self._log.close()
        except OSError as error:
            print(f"log: the last line is lost: {error}", file=sys.stderr, flush=True)
        # a reader that got nothing sees the end all the same: a writer has come and gone
        if self._reader():
            os.close(self.fd)
            self.fd = -1


def is_fifo(path: str) -> bool:
    """Whether ``path`` is a named pipe. OSError."""
    return stat.S_ISFIFO(os.stat(path).st_mode)


def open_log(path: str, stream: str) -> Logged | None:
    """The sink for a ``json-file://`` path, None for others."""
    if not path.startswith("json-file://"):
        return None
    parts = urlsplit(path)
    copy = parse_qs(parts.query).get("copy", [""])[0]
    return Logged(JsonFile.opened(parts.path, stream), copy)


def sink_of(state: State, luggage: Luggage) -> Sink:
    """The sink of an earlier worker."""
    fd = luggage.unpack(state["fd"])
    if "log" not in state:
        return Descriptor(fd)
    return Logged(JsonFile.unpacked(state["log"], luggage), state["copy"], fd)


def open_sink(path: str) -> int:
    """A descriptor to write to ``path``, '', or ``file://path`` with. OSError."""
    target = path.removeprefix("file://") or os.devnull
    flags = os.O_WRONLY | os.O_CLOEXEC
    if not path.startswith("file://") and is_fifo(target):
        return os.open(target, flags)
    return os.open(target, flags | os.O_CREAT | os.O_APPEND, 0o640)
