"""Limits of setrlimit(2) by the names that docker gives them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cored.errors import InvalidArgument

__all__ = ["NAMES", "Ulimit", "rlimits"]

NAMES = (
    "as", "core", "cpu", "data", "fsize", "locks", "memlock", "msgqueue", "nice", "nofile", "nproc",
    "rss", "rtprio", "rttime", "sigpending", "stack",
)  # fmt: skip
_INFINITY = 2**64 - 1


@dataclass(frozen=True, slots=True)
class Ulimit:
    """One limit; -1 is none."""

    name: str
    soft: int
    hard: int


def rlimits(
    wanted: Sequence[Ulimit], files: int, ceilings: Mapping[str, int]
) -> list[dict[str, Any]]:
    """``process.rlimits``; ``files`` is how many may be open when nobody says otherwise.

    ``ceilings`` are hard limits that cannot be raised here. InvalidArgument.
    """
    chosen = {"nofile": Ulimit("nofile", min(1024, files), files)}
    for limit in wanted:
        if limit.name not in NAMES:
            raise InvalidArgument(f"ulimit {limit.name!r}: unknown", hint=" ".join(NAMES))
        soft, hard = _number(limit.soft), _number(limit.hard)
        if soft > hard:
            raise InvalidArgument(f"ulimit {limit.name!r}: the soft limit is above the hard one")
        if hard > ceilings.get(limit.name, _INFINITY):
            raise InvalidArgument(
                f"ulimit {limit.name!r}: {'none' if hard == _INFINITY else hard} is above the "
                f"daemon's own hard limit of {ceilings[limit.name]}",
                hint="which it may not raise: it runs without CAP_SYS_RESOURCE",
            )
        chosen[limit.name] = Ulimit(limit.name, soft, hard)
    return [
        {"type": f"RLIMIT_{one.name.upper()}", "soft": one.soft, "hard": one.hard}
        for one in chosen.values()
    ]


def _number(value: int) -> int:
    if value < -1:
        raise InvalidArgument(f"ulimit: {value} is below -1, which stands for none")
    return _INFINITY if value == -1 else value
