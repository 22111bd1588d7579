"""Where a relay's bytes go: a descriptor, or a log with copies for those who look.

Logs are named by URIs, and written by the shim itself:

- ``json-file:///path`` is docker's format, ``cri:///path`` the one that kubelet reads, ``none://``
  keeps nothing;
- ``max-size=10m`` (bytes, or with k, m, g; no limit when not given) and ``max-file=3`` (how many
  files in all; 1 when not given) rotate it: ``path.1`` is the youngest of the old ones;
- ``copy=/fifo`` sends what is written there too, while somebody reads it.

A file that was renamed or removed is begun anew with the next line: to "reopen" a log takes nothing
more. stdout and stderr may name the same file.
"""

from __future__ import annotations

import os
import re
import stat
import sys
from urllib.parse import parse_qsl, unquote, urlsplit

from coreshim.copies import Copies
from coreshim.hibernation import Luggage, State, bytes_of, text_of
from coreshim.logfile import LogFile
from coreshim.logformat import CriLines, JsonLines, Lines
from coreshim.server import INVALID, Failure

__all__ = ["Descriptor", "Logged", "Sink", "is_fifo", "open_log", "open_sink", "sink_of"]

_FORMATS: dict[str, type[Lines] | None] = {"json-file": JsonLines, "cri": CriLines, "none": None}
_NAMES = {kind: name for name, kind in _FORMATS.items() if kind is not None}
# a reader has all of them open at once
_MOST_FILES = 500
_SIZE = re.compile(r"(\d+)([bkmg]?)b?", re.IGNORECASE)
_UNITS = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}


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
    """A log of ``stream``, with copies for those who look."""

    def __init__(
        self, stream: str, lines: Lines | None, file: LogFile | None, copies: Copies
    ) -> None:
        self.stream = stream
        self.lines = lines
        self._file = file
        self.copies = copies
        self._failing = False

    def write(self, data: bytes) -> int:
        try:
            sent = self.copies.write(data)
        finally:
            self.fd = self.copies.fd
        if self.lines is not None:
            self._append(self.lines.feed(data[:sent]))
        return sent

    def pack(self, luggage: Luggage) -> State:
        lines, file = self.lines, self._file
        return {
            "format": "none" if lines is None else _NAMES[type(lines)],
            "stream": self.stream,
            "rest": "" if lines is None else text_of(lines.rest),
            "file": None if file is None else file.pack(luggage),
            "copies": self.copies.pack(luggage),
        }

    @classmethod
    def unpacked(cls, state: State, luggage: Luggage) -> Logged:
        """The log that an earlier worker wrote, in the middle of a line perhaps."""
        lines, file = None, None
        kind = _FORMATS[state["format"]]
        if kind is not None:
            lines = kind(state["stream"])
            lines.rest = bytes_of(state["rest"])
        if state["file"] is not None:
            file = LogFile.unpacked(state["file"], luggage)
        return cls(state["stream"], lines, file, Copies.unpacked(state["copies"], luggage))

    def _append(self, records: bytes) -> None:
        if not records or self._file is None:
            return
        try:
            self._file.append(records)
            self._failing = False
        except OSError as error:
            # a full disk costs the log's lines, not the container its output and so its life
            if not self._failing:
                print(f"log: lines are lost: {error}", file=sys.stderr, flush=True)
            self._failing = True

    def close(self) -> None:
        if self.lines is not None:
            self._append(self.lines.finish())
        if self._file is not None:
            self._file.close()
        self.copies.close()


def is_fifo(path: str) -> bool:
    """Whether ``path`` is a named pipe. OSError."""
    return stat.S_ISFIFO(os.stat(path).st_mode)


def open_log(uri: str, stream: str) -> Logged | None:
    """The sink for a log's URI, None for other paths. OSError, Failure."""
    parts = urlsplit(uri)
    if "://" not in uri or parts.scheme not in _FORMATS:
        return None
    options = {"max-size": "", "max-file": "1", "copy": ""}
    for name, value in parse_qsl(parts.query):
        if name not in options:
            raise Failure(INVALID, f"stdio {uri}: there is no option {name}")
        options[name] = value
    if not options["max-file"].isdecimal() or not 1 <= int(options["max-file"]) <= _MOST_FILES:
        raise Failure(INVALID, f"stdio {uri}: max-file must be 1 to {_MOST_FILES}")
    lines, file = _FORMATS[parts.scheme], None
    if lines is not None:
        size, path = _bytes(uri, options["max-size"]), unquote(parts.path)
        file = LogFile(path, size, int(options["max-file"]))
    return Logged(stream, lines(stream) if lines else None, file, Copies(options["copy"]))


def sink_of(state: State, luggage: Luggage) -> Sink:
    """The sink of an earlier worker."""
    if "format" in state:
        return Logged.unpacked(state, luggage)
    return Descriptor(luggage.unpack(state["fd"]))


def _bytes(uri: str, text: str) -> int:
    """A size; 0 for none, or for docker's -1: no limit."""
    if text in ("", "-1"):
        return 0
    found = _SIZE.fullmatch(text)
    if found is None:
        raise Failure(INVALID, f"stdio {uri}: max-size is not a size such as 10m")
    return int(found[1]) * _UNITS[found[2].lower()]


def open_sink(path: str) -> int:
    """A descriptor to write to ``path``, '', or ``file://path`` with. OSError."""
    target = path.removeprefix("file://") or os.devnull
    flags = os.O_WRONLY | os.O_CLOEXEC
    if not path.startswith("file://") and is_fifo(target):
        return os.open(target, flags)
    return os.open(target, flags | os.O_CREAT | os.O_APPEND, 0o640)
