"""Durations and moments as people write them: Go's durations, docker's timestamps."""

from __future__ import annotations

import re
import time

from cored.errors import InvalidArgument

__all__ = ["duration", "moment"]

_UNITS = {"ns": 1, "us": 10**3, "µs": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9,
          "h": 3600 * 10**9, "d": 86_400 * 10**9}  # fmt: skip
_PART = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h|d)")
_DURATION = re.compile(f"(?:{_PART.pattern})+")
_DATE = re.compile(
    r"(\d{4}-\d\d-\d\d(?:[T ]\d\d(?::\d\d){0,2})?)(?:\.(\d{1,9}))?(Z|[-+]\d\d:?\d\d)?"
)


def duration(text: str) -> int:
    """Nanoseconds of 1m30s, 500ms, 1.5h, 2d; 0 for nothing. InvalidArgument."""
    if text in ("", "0"):
        return 0
    if not _DURATION.fullmatch(text):
        raise InvalidArgument(f"duration '{text}': not understood", hint="write 30s or 1m30s")
    return sum(int(float(number) * _UNITS[unit]) for number, unit in _PART.findall(text))


def moment(text: str) -> int:
    """Nanoseconds since the epoch. InvalidArgument.

    ``text`` is RFC 3339, whole or from its beginning (local time where no zone is said), Unix
    seconds with a fraction, how long ago, with a sign how long from now, or ``now``.
    """
    if text == "now":
        return time.time_ns()
    if re.fullmatch(r"\d+(\.\d{1,9})?", text):
        whole, _, rest = text.partition(".")
        return int(whole) * 10**9 + _fraction(rest)
    if _DURATION.fullmatch(text.removeprefix("-")):
        ago = duration(text.removeprefix("-"))
        return time.time_ns() + (ago if text.startswith("-") else -ago)
    from datetime import datetime

    found = _DATE.fullmatch(text)
    if found is None:
        raise InvalidArgument(
            f"time '{text}': not understood", hint="write 10m, 2026-01-31T12:00:00 or Unix seconds"
        )
    date, zone = found[1].replace(" ", "T"), (found[3] or "").replace("Z", "+00:00")
    if zone and "T" not in date:
        date = f"{date}T00"
    try:
        seconds = datetime.fromisoformat(f"{date}{zone}").timestamp()
    except ValueError as error:
        raise InvalidArgument(f"time '{text}': {error}") from error
    return int(seconds) * 10**9 + _fraction(found[2] or "")


def _fraction(digits: str) -> int:
    return int((digits + "0" * 9)[:9])
