"""Reading what containers wrote: docker's json-file format, oldest first."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cored.errors import Internal

__all__ = ["LogRecord", "read"]

_POLL = 0.1


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
) -> AsyncIterator[LogRecord]:
    """The records of a log; the last ``tail`` ones if that is not negative.

    With ``follow`` it goes on as long as that answers True, and then to the end.
    """
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return
    with file:
        if tail >= 0:
            lines = await asyncio.to_thread(lambda: list(deque(file, maxlen=tail)))
            for line in lines:
                record = _record(path, line)
                if record.time >= since:
                    yield record
        rest = b""
        while True:
            # asked first: what was written before the end is read after it
            more = follow is not None and follow()
            while data := await asyncio.to_thread(file.read, 1 << 20):
                *lines, rest = (rest + data).split(b"\n")
                for line in lines:
                    record = _record(path, line)
                    if record.time >= since:
                        yield record
            if not more:
                return
            await asyncio.sleep(_POLL)


def _record(path: Path, line: bytes) -> LogRecord:
    try:
        document = json.loads(line)
        data = document["log"].encode("utf-8", "surrogateescape")
        return LogRecord(document["stream"], _ns(document["time"]), data)
    except (ValueError, KeyError, TypeError) as error:
        raise Internal(f"log {path}: a line is damaged: {line[:80]!r}") from error


def _ns(text: str) -> int:
    """RFC 3339 with nanoseconds."""
    whole, _, rest = text.rstrip("Z").partition(".")
    seconds = int(datetime.fromisoformat(f"{whole}+00:00").timestamp())
    return seconds * 10**9 + int((rest + "0" * 9)[:9])
