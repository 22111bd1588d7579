"""A container's cgroup counters as containerd's Metrics messages, v1 or v2."""

from __future__ import annotations

import os

from coreshim.codec import encode_table

__all__ = ["metrics"]

_V1 = "/sys/fs/cgroup"


def metrics(pid: int) -> tuple[str, bytes]:
    """(type URL, message) for the cgroup of a process. OSError when it has gone."""
    paths = {}
    with open(f"/proc/{pid}/cgroup") as file:
        for line in file:
            _, controllers, path = line.rstrip("\n").split(":", 2)
            for controller in controllers.split(","):
                paths[controller] = path
    if os.path.exists(f"{_V1}/cgroup.controllers"):
        return "io.containerd.cgroups.v2.Metrics", _v2(f"{_V1}{paths['']}")
    return "io.containerd.cgroups.v1.Metrics", _v1(paths)


def _v1(paths: dict[str, str]) -> bytes:
    def place(controller: str) -> str:
        return f"{_V1}/{controller}{paths.get(controller, '/')}"

    usage = _number(f"{place('cpuacct')}/cpuacct.usage")
    stat = _pairs(f"{place('cpuacct')}/cpuacct.stat")
    tick = 10**9 // os.sysconf("SC_CLK_TCK")
    memory = _pairs(f"{place('memory')}/memory.stat")
    entry = {
        1: _number(f"{place('memory')}/memory.limit_in_bytes"),
        2: _number(f"{place('memory')}/memory.usage_in_bytes"),
        3: _number(f"{place('memory')}/memory.max_usage_in_bytes"),
        4: _number(f"{place('memory')}/memory.failcnt"),
    }
    pids = place("pids")
    return encode_table(
        {
            # in the v1 message no limit is 0
            2: {1: _number(f"{pids}/pids.current"), 2: _number(f"{pids}/pids.max") % (2**64 - 1)},
            3: {
                1: {
                    1: usage,
                    2: stat.get("system", 0) * tick,
                    3: stat.get("user", 0) * tick,
                }
            },
            4: {
                **{n: memory.get(name, 0) for n, name in enumerate(_V1_MEMORY, 1)},
                33: entry,
            },
        }
    )


# memory.stat's names in the order of MemoryStat's numbers
_V1_MEMORY = (
    "cache", "rss", "rss_huge", "mapped_file", "dirty", "writeback", "pgpgin", "pgpgout",
    "pgfault", "pgmajfault", "inactive_anon", "active_anon", "inactive_file", "active_file",
    "unevictable", "hierarchical_memory_limit", "hierarchical_memsw_limit", "total_cache",
    "total_rss", "total_rss_huge", "total_mapped_file", "total_dirty", "total_writeback",
    "total_pgpgin", "total_pgpgout", "total_pgfault", "total_pgmajfault", "total_inactive_anon",
    "total_active_anon", "total_inactive_file", "total_active_file", "total_unevictable",
)  # fmt: skip


def _v2(place: str) -> bytes:
    cpu = _pairs(f"{place}/cpu.stat")
    memory = _pairs(f"{place}/memory.stat")
    names = ("usage_usec", "user_usec", "system_usec", "nr_periods", "nr_throttled")
    return encode_table(
        {
            1: {1: _number(f"{place}/pids.current"), 2: _number(f"{place}/pids.max")},
            2: {n: cpu.get(name, 0) for n, name in enumerate((*names, "throttled_usec"), 1)},
            4: {
                1: memory.get("anon", 0),
                2: memory.get("file", 0),
                32: _number(f"{place}/memory.current"),
                33: _number(f"{place}/memory.max"),
            },
        }
    )


def _number(path: str) -> int:
    """A file's one number; 0 where the controller is absent, all ones for ``max``."""
    try:
        with open(path) as file:
            text = file.read().strip()
    except FileNotFoundError:
        return 0
    return 2**64 - 1 if text == "max" else int(text)


def _pairs(path: str) -> dict[str, int]:
    try:
        with open(path) as file:
            return {name: int(value) for name, value in (line.split() for line in file)}
    except FileNotFoundError:
        return {}
