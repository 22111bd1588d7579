"""Logs: a stream's lines in files, at a log service, or both, with copies for those who look.

Logs are named by URIs, and written by the shim itself:

- ``json-file:///path`` is docker's format, ``cri:///path`` the one that kubelet reads,
  ``local:///path`` our own (:mod:`coreshim.logformat`), ``none://`` keeps nothing;
- ``journald://``, ``syslog://`` go to a service (:mod:`coreshim.journald`, :mod:`coreshim.syslog`
  have the options); with a path they are kept there too, as ``local``;
- ``max-size=10m`` (bytes, or with k, m, g; no limit when not given) and ``max-file=3`` (how many
  files in all; 1 when not given) rotate files: ``path.1`` is the youngest of the old ones, and
  ``path.1.gz`` with ``compress=true``;
- ``attrs={…}`` goes into each line of json-file; ``copy=/fifo`` sends what is written there too,
  while somebody reads it.

A file that was renamed or removed is begun anew with the next line: to "reopen" a log takes nothing
more. stdout and stderr may name the same file.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, unquote, urlsplit

from coreshim.copies import Copies
from coreshim.hibernation import Luggage, State, bytes_of, text_of
from coreshim.logfile import LogFile
from coreshim.logformat import CriLines, JsonLines, Lines, LocalLines
from coreshim.loop import WRITE
from coreshim.server import INVALID, Failure
from coreshim.sinks import Descriptor, Sink

if TYPE_CHECKING:
    from coreshim.outlets import Outlet

__all__ = ["Logged", "is_log", "open_log", "sink_of", "size_of"]

_FILES = ("json-file", "cri", "local")
_SERVICES = ("journald", "syslog")
_ROTATION = {"max-size": "", "max-file": "1", "compress": "false", "copy": ""}
# a reader has all of them open at once
_MOST_FILES = 500
_SIZE = re.compile(r"(\d+)([bkmg]?)b?", re.IGNORECASE)
_UNITS = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}


class Logged(Sink):
    """A log of ``stream``, with copies for those who look.

    ``lines`` is None where nothing is kept, ``file`` also where only an ``outlet`` takes the lines.
    """

    def __init__(
        self,
        uri: str,
        stream: str,
        lines: Lines | None,
        file: LogFile | None = None,
        copies: Copies | None = None,
        outlet: Outlet | None = None,
    ) -> None:
        self._uri = uri
        self.stream = stream
        self.lines = lines
        self._file = file
        self.copies = copies or Copies("")
        self._outlet = outlet
        self._failing = False
        self._held_up = False

    def write(self, data: bytes) -> int:
        outlet = self._outlet
        self._held_up = outlet is not None and outlet.full
        if self._held_up:
            raise BlockingIOError
        sent = self.copies.write(data)
        if self.lines is not None:
            self._keep(self.lines.split(data[:sent]))
        return sent

    @property
    def room(self) -> tuple[int, int]:
        if self._held_up and self._outlet is not None:
            return self._outlet.fd, self._outlet.wants or WRITE
        return self.copies.fd, WRITE

    @property
    def unsent(self) -> tuple[int, int]:
        outlet = self._outlet
        return (outlet.fd, outlet.wants) if outlet is not None and outlet.wants else (-1, 0)

    @property
    def owing(self) -> bool:
        return self._outlet is not None and self._outlet.pending

    @property
    def busy(self) -> bool:
        return self.owing or (self._file is not None and self._file.busy)

    def tick(self) -> None:
        if self._outlet is not None:
            self._outlet.flush()

    def pack(self, luggage: Luggage) -> State:
        return {
            "uri": self._uri,
            "stream": self.stream,
            "rest": "" if self.lines is None else text_of(self.lines.rest),
            "file": None if self._file is None else self._file.pack(luggage),
            "outlet": None if self._outlet is None else self._outlet.pack(luggage),
            "copies": self.copies.pack(luggage),
        }

    @classmethod
    def unpacked(cls, state: State, luggage: Luggage) -> Logged:
        """The log that an earlier worker wrote, in the middle of a line perhaps."""
        uri, file, outlet = state["uri"], None, None
        scheme, _, options = _read(uri)
        lines = _lines(scheme, state["stream"], options)
        if lines is not None:
            lines.rest = bytes_of(state["rest"])
        if state["file"] is not None:
            file = LogFile.unpacked(state["file"], luggage)
        if state["outlet"] is not None:
            outlet = _outlet(scheme, state["stream"], options)
            outlet.unpack(state["outlet"], luggage)
        copies = Copies.unpacked(state["copies"], luggage)
        return cls(uri, state["stream"], lines, file, copies, outlet)

    def close(self) -> None:
        if self.lines is not None:
            self._keep(self.lines.last())
        if self._outlet is not None:
            self._outlet.close()
        if self._file is not None:
            self._file.close()
        self.copies.close()

    def _keep(self, texts: list[bytes]) -> None:
        if not texts or self.lines is None:
            return
        if self._outlet is not None:
            self._outlet.offer(texts)
        if self._file is None:
            return
        try:
            self._file.append(self.lines.records(texts))
            self._failing = False
        except OSError as error:
            # a full disk costs the log's lines, not the container its output and so its life
            if not self._failing:
                print(f"log: lines are lost: {error}", file=sys.stderr, flush=True)
            self._failing = True


def is_log(uri: str) -> bool:
    """Whether it is a log's URI."""
    scheme, separator, _ = uri.partition("://")
    return bool(separator) and scheme in (*_FILES, *_SERVICES, "none")


def open_log(uri: str, stream: str) -> Logged | None:
    """The sink for a log's URI, None for other paths. OSError, Failure."""
    if not is_log(uri):
        return None
    scheme, path, options = _read(uri)
    file = outlet = None
    if scheme != "none" and path:
        file = LogFile(
            path,
            size_of(uri, options["max-size"]),
            int(options["max-file"]),
            compress=options["compress"] == "true",
        )
    if scheme in _SERVICES:
        outlet = _outlet(scheme, stream, options)
        try:
            outlet.open()
        except (OSError, ValueError) as error:
            if file is not None:
                file.close()
            text = getattr(error, "strerror", "") or error
            raise Failure(INVALID, f"log driver {scheme}: {text}") from error
    lines = _lines(scheme, stream, options)
    return Logged(uri, stream, lines, file, Copies(options["copy"]), outlet)


def sink_of(state: State, luggage: Luggage) -> Sink:
    """The sink of an earlier worker."""
    if "uri" in state:
        return Logged.unpacked(state, luggage)
    return Descriptor(luggage.unpack(state["fd"]))


def size_of(uri: str, text: str) -> int:
    """A size; 0 for none, or for docker's -1: no limit."""
    if text in ("", "-1"):
        return 0
    found = _SIZE.fullmatch(text)
    if found is None:
        raise Failure(INVALID, f"stdio {uri}: max-size is not a size such as 10m")
    return int(found[1]) * _UNITS[found[2].lower()]


def _read(uri: str) -> tuple[str, str, dict[str, str]]:
    """Scheme, path and options. Failure."""
    parts = urlsplit(uri)
    options = dict(_ROTATION)
    if parts.scheme == "json-file":
        options["attrs"] = ""
    known = None if parts.scheme in _SERVICES else options.keys()
    for name, value in parse_qsl(parts.query, keep_blank_values=True):
        if known is not None and name not in known:
            raise Failure(INVALID, f"stdio {uri}: there is no option {name}")
        options[name] = value
    if not options["max-file"].isdecimal() or not 1 <= int(options["max-file"]) <= _MOST_FILES:
        raise Failure(INVALID, f"stdio {uri}: max-file must be 1 to {_MOST_FILES}")
    return parts.scheme, unquote(parts.path), options


def _lines(scheme: str, stream: str, options: Mapping[str, str]) -> Lines | None:
    match scheme:
        case "none":
            return None
        case "json-file":
            return JsonLines(stream, options["attrs"])
        case "cri":
            return CriLines(stream)
        case _:
            return LocalLines(stream)


def _outlet(scheme: str, stream: str, options: Mapping[str, str]) -> Outlet:
    """Imported here: most shims have none."""
    if scheme == "journald":
        from coreshim.journald import Journald

        return Journald(stream, options)
    from coreshim.syslog import Syslog

    return Syslog(stream, options)
