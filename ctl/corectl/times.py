"""Durations and moments as people write them (Go's durations, docker's timestamps)."""

from __future__ import annotations

import re
import time

from cored.errors import InvalidArgument

__all__ = ["duration", "moment"]

_UNITS = {"ns": 1, "us": 10**3, "µs": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9,
          "h": 3600 * 10**9}  # fmt: skip
_PART = re.compile(r"(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h)")


def duration(text: str) -> int:
    """Nanoseconds of 1m30s, 500ms; 0 for nothing. InvalidArgument."""
    if text in ("", "0"):
        return 0
    if not re.fullmatch(f"(?:{_PART.pattern})+", text):
        raise InvalidArgument(f"duration '{text}': not understood", hint="write 30s or 1m30s")
    return sum(int(float(number) * _UNITS[unit]) for number, unit in _PART.findall(text))


def moment(text: str) -> int:
    """Nanoseconds since the epoch: RFC 3339, Unix seconds, or how long ago. InvalidArgument."""
    if re.fullmatch(r"\d+(\.\d{1,9})?", text):
        whole, _, rest = text.partition(".")
        return int(whole) * 10**9 + int((rest + "0" * 9)[:9])
    if re.fullmatch(f"(?:{_PART.pattern})+", text):
        return time.time_ns() - duration(text)
    from datetime import datetime

    found = re.fullmatch(r"([-\d]+(?:T[\d:]+)?)(?:\.(\d{1,9}))?(Z|[-+]\d\d:?\d\d)?", text)
    if found is None:
        raise InvalidArgument(
            f"time '{text}': not understood", hint="write 10m, 2026-01-31T12:00:00 or Unix seconds"
        )
    try:
        zone = (found[3] or "").replace("Z", "+00:00")
        seconds = datetime.fromisoformat(f"{found[1]}{zone}").timestamp()
    except ValueError as error:
        raise InvalidArgument(f"time '{text}': {error}") from error
    return int(seconds) * 10**9 + int(((found[2] or "") + "0" * 9)[:9])
