"""What the labels of garbage collection say about time: expiry, and references with a condition."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from datetime import datetime

from cored.abc.values import Labels

__all__ = ["EXPIRE", "conditional_snapshots", "expired", "holds", "used_at"]

EXPIRE = "containerd.io/gc.expire"
_CONDITION = "containerd.io/gc.cond.snapshot"
_USED_AT = "containerd.io/gc.cond.value-usedat"

_RFC3339 = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:[.,](\d+))?(Z|[+-]\d\d:\d\d)", re.ASCII)
_DURATION = re.compile(r"([+-]?)((?:(?:\d+\.?\d*|\.\d+)(?:ns|us|µs|μs|ms|s|m|h))+|0)", re.ASCII)
_PART = re.compile(r"([\d.]+)(ns|us|µs|μs|ms|s|m|h)", re.ASCII)
_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1, "m": 60, "h": 3600}
_TERM = re.compile(r"usedat([<>])([^=].*)", re.ASCII | re.DOTALL)


def expired(labels: Labels) -> bool:
    """Whether ``gc.expire`` (RFC 3339) is over; what is no such time never expires."""
    moment = _moment(labels.get(EXPIRE, ""))
    return moment is not None and moment < time.time()


def used_at(labels: Labels) -> list[float]:
    """When a snapshot was used, as it says itself: seconds since the epoch."""
    found = (_moment(value) for key, value in labels.items() if key.startswith(_USED_AT))
    return [moment for moment in found if moment is not None]


def conditional_snapshots(labels: Labels) -> Iterator[tuple[str, str, str]]:
    """``(snapshotter, key, condition)`` of ``gc.cond.snapshot.<snapshotter>[/x]`` labels.

    Their values are ``<condition>[,<condition>...]|<key>``; any one of the conditions will do.
    """
    for label, value in labels.items():
        if label.startswith(_CONDITION):
            snapshotter = label.removeprefix(_CONDITION).lstrip("./").partition("/")[0]
            conditions, bar, key = value.partition("|")
            if bar:
                for condition in conditions.split(","):
                    yield snapshotter, key, condition


def holds(condition: str, used: list[float]) -> bool:
    """Whether ``usedat<24h`` or ``usedat>24h`` holds for one of the moments; others never do."""
    term = _TERM.fullmatch(condition)
    limit = None if term is None else _duration(term[2])
    if term is None or limit is None:
        return False
    ages = (time.time() - moment for moment in used)
    return any(age < limit if term[1] == "<" else age > limit for age in ages)


def _moment(text: str) -> float | None:
    found = _RFC3339.fullmatch(text)
    if found is None:
        return None
    whole, fraction, zone = found.groups()
    try:
        return datetime.fromisoformat(whole + zone).timestamp() + float(f"0.{fraction or 0}")
    except ValueError:
        return None


def _duration(text: str) -> float | None:
    """Seconds of a duration as Go writes it: ``1h30m``."""
    found = _DURATION.fullmatch(text)
    if found is None:
        return None
    total = sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(found[2]))
    return -total if found[1] == "-" else total
