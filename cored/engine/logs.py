"""Reading what containers wrote, oldest first: docker's json-file, the CRI's format and ours.

A log is a file and those that rotation has put away: ``log.2``, ``log.1``, ``log``. Lines are found
by their offsets, so that one whose end is not written yet, or never was, is read when it is whole.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cored import log
from cored.engine.logfiles import LogFiles

__all__ = ["LogRecord", "read"]

_POLL = 0.1
# of ns since the epoch, from 2001 to 2286
_DIGITS = 19


@dataclass(frozen=True, slots=True)
class LogRecord:
    """One piece of output: ``stream`` stdout or stderr, ``time`` ns since the epoch."""

    stream: str
    time: int
    data: bytes


async def read(
    path: Path,
    *,
    follow: Callable[[], bool] | None = None,
    tail: int = -1,
    since: int = 0,
    until: int = 0,
) -> AsyncIterator[LogRecord]:
    """The records of a log, across rotation; the last ``tail`` ones if that is not negative.

    Those from ``since`` to ``until`` (ns, 0 is none). With ``follow`` it goes on as long as that
    answers True, and then to the end.
    """
    with ExitStack() as stack:
        files = await asyncio.to_thread(LogFiles.opened, path)
        stack.callback(files.close)
        if tail >= 0:
            await asyncio.to_thread(files.skip_to_tail, tail)
        latest = 0
        while True:
            # asked first: what was written before the end is read after it
            more = follow is not None and follow()
            while lines := await asyncio.to_thread(files.next_lines):
                for line in lines:
                    record = _record(line, latest)
                    latest = record.time
                    if until and record.time > until:
                        return
                    if record.time >= since:
                        yield record
            if until and time.time_ns() > until:
                return
            if files.lost:
                log.get("logs").warning("rotated faster than it is read", path=str(path))
                files.lost = False
            if not more:
                return
            await asyncio.sleep(_POLL)


def _record(line: bytes, before: int) -> LogRecord:
    """``before`` is the time of the one before this."""
    try:
        if line.startswith(b"{"):
            return _json(line)
        return _cri(line) if line[4:5] == b"-" else _local(line)
    except (ValueError, KeyError, TypeError, AttributeError):
        # half of it was written before a power cut: shown as it is, for what comes after counts
        return LogRecord("stdout", before, line.rstrip(b"\n") + b"\n")


def _json(line: bytes) -> LogRecord:
    document = json.loads(line)
    data = document["log"].encode("utf-8", "surrogateescape")
    return LogRecord(document["stream"], _ns(document["time"]), data)


def _local(line: bytes) -> LogRecord:
    """As ``coreshim.logformat.LocalLines`` has it."""
    stamp, letter, text = line[:_DIGITS], line[_DIGITS : _DIGITS + 1], line[_DIGITS + 1 :]
    stream = {b"o": "stdout", b"e": "stderr"}[letter.lower()]
    return LogRecord(stream, int(stamp), text + b"\n" if letter.islower() else text)


def _cri(line: bytes) -> LogRecord:
    stamp, stream, flags, text = line.split(b" ", 3)
    whole = flags.split(b":")[0] == b"F"
    return LogRecord(stream.decode(), _ns(stamp.decode()), text + b"\n" if whole else text)


def _ns(text: str) -> int:
    """RFC 3339 with nanoseconds."""
    whole, _, rest = text.rstrip("Z").partition(".")
    seconds = int(datetime.fromisoformat(f"{whole}+00:00").timestamp())
    return seconds * 10**9 + int((rest + "0" * 9)[:9])
