"""What containers and pods use, read from their cgroups; version 1 and 2.

A container's cgroup is learned from its first process, whatever named it: cgroupfs, systemd, or a
runtime with ideas of its own.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["Cgroups", "Stall", "Usage"]

_V1_USED = "memory.usage_in_bytes"


@dataclass(frozen=True, slots=True)
class Stall:
    """Pressure: ns that were waited for something in all, and percent of the last seconds."""

    total: int
    avg10: float
    avg60: float
    avg300: float


@dataclass(frozen=True, slots=True)
class Usage:
    """Counters at ``at`` (ns): ns of CPU, bytes, numbers. ``limit`` is 0 where there is none.

    ``pressure`` has what was waited for (cpu, memory, io), by some and by all ("full"); the kernel
    tells it in version 2, unless it was built or started without (Documentation/accounting/psi).
    """

    at: int = 0
    cpu: int = 0
    memory: int = 0
    inactive_file: int = 0
    rss: int = 0
    faults: int = 0
    major_faults: int = 0
    limit: int = 0
    swap: int = 0
    swap_limit: int = 0
    pids: int = 0
    pressure: Mapping[str, Mapping[str, Stall]] = field(default_factory=dict)

    @property
    def working_set(self) -> int:
        """What cannot be dropped at once, as kubelet's evictions count it."""
        return max(0, self.memory - self.inactive_file)


class Cgroups:
    """The cgroups of running containers, by id; ``root`` is where /proc and /sys are."""

    def __init__(self, root: Path = Path("/")) -> None:
        self._top = str(root / "sys/fs/cgroup")
        self._proc = root / "proc"
        self.v2 = (root / "sys/fs/cgroup/cgroup.controllers").exists()
        self._places: dict[str, dict[str, str]] = {}
        self._rates: dict[str, tuple[int, int, int]] = {}

    def learn(self, id: str, pid: int) -> None:
        """Note where a process is; nothing is noted of one that has gone."""
        try:
            text = (self._proc / str(pid) / "cgroup").read_text()
        except OSError:
            return
        found = {}
        for line in text.splitlines():
            _, controllers, path = line.split(":", 2)
            for controller in controllers.split(","):
                tree = self._top if self.v2 else f"{self._top}/{controller}"
                found[controller] = f"{tree}/{path.strip('/')}"
        self._places[id] = found

    def forget(self, id: str) -> None:
        """It has ended."""
        self._places.pop(id, None)
        self._rates.pop(id, None)
        self._rates.pop(f"pod {id}", None)

    def oom_killed(self, id: str) -> bool:
        """Whether the kernel has killed anything in it for want of memory."""
        place = self._place(id, "memory")
        if place is None:
            return False
        name = "memory.events" if self.v2 else "memory.oom_control"
        return _pairs(f"{place}/{name}").get("oom_kill", 0) > 0

    def usage(self, id: str, *, above: bool = False) -> Usage | None:
        """What a container uses now, or all in the cgroup above its one; None when it has no cgroup
        (any more). Blocks shortly."""
        places = self._places.get(id) or {}
        if above:
            places = {key: path.rpartition("/")[0] for key, path in places.items()}
        memory = places.get("" if self.v2 else "memory")
        # one look tells whether it is there
        text = memory and _text(f"{memory}/{'memory.current' if self.v2 else _V1_USED}")
        if not memory or not text:
            return None
        return _usage_v2(memory) if self.v2 else _usage_v1(places, memory, int(text))

    def nano_cores(self, id: str, usage: Usage) -> int:
        """The CPU that it used a second since it was last asked for, in billionths."""
        at, cpu, rate = self._rates.get(id, (0, 0, 0))
        if usage.at - at < 10**9 and at:
            return rate  # too little time to say
        rate = (usage.cpu - cpu) * 10**9 // (usage.at - at) if at else 0
        self._rates[id] = (usage.at, usage.cpu, max(0, rate))
        return max(0, rate)

    def places(self, id: str) -> dict[str, Path]:
        """The directories of a container's cgroup by controller ('' in version 2)."""
        paths = {name: Path(path) for name, path in self._places.get(id, {}).items()}
        if self.v2:
            return {"": paths[""]} if "" in paths else {}
        return paths if "memory" in paths else {}

    def _place(self, id: str, controller: str) -> str | None:
        paths = self._places.get(id)
        return None if paths is None else paths.get("" if self.v2 else controller)


def _usage_v1(places: Mapping[str, str], memory: str, used: int) -> Usage:
    cpu, pids = places.get("cpuacct"), places.get("pids")
    stat = _pairs(f"{memory}/memory.stat")
    limit = _limit(f"{memory}/memory.limit_in_bytes")
    # without swap accounting there is neither
    swap = _limit(f"{memory}/memory.memsw.limit_in_bytes")
    both = _number(f"{memory}/memory.memsw.usage_in_bytes")
    return Usage(
        at=time.time_ns(),
        cpu=_number(f"{cpu}/cpuacct.usage") if cpu else 0,
        memory=used,
        inactive_file=stat.get("total_inactive_file", 0),
        rss=stat.get("total_rss", 0),
        faults=stat.get("total_pgfault", 0),
        major_faults=stat.get("total_pgmajfault", 0),
        limit=limit,
        swap=max(0, both - used),
        swap_limit=max(0, swap - limit) if swap and limit else 0,
        pids=_number(f"{pids}/pids.current") if pids else 0,
    )


def _usage_v2(place: str) -> Usage:
    stat = _pairs(f"{place}/memory.stat")
    return Usage(
        at=time.time_ns(),
        cpu=_pairs(f"{place}/cpu.stat").get("usage_usec", 0) * 1000,
        memory=_number(f"{place}/memory.current"),
        inactive_file=stat.get("inactive_file", 0),
        rss=stat.get("anon", 0),
        faults=stat.get("pgfault", 0),
        major_faults=stat.get("pgmajfault", 0),
        limit=_limit(f"{place}/memory.max"),
        swap=_number(f"{place}/memory.swap.current"),
        swap_limit=_limit(f"{place}/memory.swap.max"),
        pids=_number(f"{place}/pids.current"),
        pressure={kind: _stalls(f"{place}/{kind}.pressure") for kind in ("cpu", "memory", "io")},
    )


def _stalls(path: str) -> dict[str, Stall]:
    """The lines ``some avg10=0.12 avg60=… avg300=… total=MICROSECONDS`` and ``full …``."""
    found = {}
    for line in _text(path).decode().splitlines():
        kind, *words = line.split()
        values = dict(word.split("=", 1) for word in words)
        found[kind] = Stall(
            int(values["total"]) * 1000,
            *(float(values[name]) for name in ("avg10", "avg60", "avg300")),
        )
    return found


def _text(path: str) -> bytes:
    """A file of the kernel's, b'' where there is none: with as few calls as can be."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return os.read(fd, 1 << 16)
    except OSError:
        return b""  # it has gone since
    finally:
        os.close(fd)


def _number(path: str) -> int:
    try:
        return int(_text(path))
    except ValueError:
        return 0  # none, or "max"


def _limit(path: str) -> int:
    """0 for none: version 1 says so by a number that nothing has."""
    number = _number(path)
    return 0 if number >= 1 << 62 else number


def _pairs(path: str) -> dict[str, int]:
    words = _text(path).decode().split()
    return {
        name: int(value)
        for name, value in zip(words[::2], words[1::2], strict=False)
        if value.isdecimal()
    }
