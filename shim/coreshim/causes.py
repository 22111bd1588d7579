"""What a container's cgroup says of its end: memory and pids, of cgroup v1 and v2."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["facts"]

# "max" and v1's page counter's end are no limits
_NO_LIMIT = 1 << 62


def facts(cgroups: Sequence[str], oom_kills: int) -> dict[str, int]:
    """Numbers by name, those that there are; ``memory_*`` are bytes, ``pids_refused`` forks."""
    found = {"oom_kills": oom_kills}
    if oom_kills:
        peak = _number(cgroups, "memory.peak", "memory.max_usage_in_bytes")
        limit = _number(cgroups, "memory.max", "memory.limit_in_bytes")
        found["memory_peak"] = peak or limit
        found["memory_limit"] = limit
    for text in _texts(cgroups, "pids.events"):
        counts = dict(line.split() for line in text.splitlines())
        found["pids_refused"] = int(counts.get("max", 0))
    return {name: number for name, number in found.items() if number}


def _number(cgroups: Sequence[str], *names: str) -> int:
    """0 for none."""
    for text in _texts(cgroups, *names):
        if text.strip().isdigit() and int(text) < _NO_LIMIT:
            return int(text)
    return 0


def _texts(cgroups: Sequence[str], *names: str) -> list[str]:
    found = []
    for place in cgroups:
        for name in names:
            try:
                with open(f"{place}/{name}") as file:
                    found.append(file.read())
            except OSError:  # another version's, another controller's, or gone
                continue
    return found
