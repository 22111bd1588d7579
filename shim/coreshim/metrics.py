"""A container's cgroup counters as containerd's Metrics messages, v1 or v2.

Clients dereference what they find without asking: every part is there, though it be empty.
"""

from __future__ import annotations

import errno
import os
from typing import Any

from coreshim.codec import encode_table

__all__ = ["metrics"]

_HUGE = "hugetlb."
Table = dict[int, Any]


def metrics(pid: int, root: str = "") -> tuple[str, bytes]:
    """(type URL, message) for the cgroup of a process. OSError when it has gone."""
    paths = {}
    with open(f"{root}/proc/{pid}/cgroup") as file:
        for line in file:
            _, controllers, path = line.rstrip("\n").split(":", 2)
            for controller in controllers.split(","):
                paths[controller] = path
    top = f"{root}/sys/fs/cgroup"
    if os.path.exists(f"{top}/cgroup.controllers"):
        return "io.containerd.cgroups.v2.Metrics", encode_table(_v2(f"{top}{paths['']}"))
    return "io.containerd.cgroups.v1.Metrics", encode_table(_v1(top, paths))


def _v1(top: str, paths: dict[str, str]) -> Table:
    def place(controller: str) -> str:
        return f"{top}/{controller}{paths.get(controller, '/')}"

    pids = place("pids")
    return {
        1: _huge(place("hugetlb"), "usage_in_bytes", "max_usage_in_bytes", "failcnt"),
        # in the v1 message no limit is 0
        2: {1: _number(f"{pids}/pids.current"), 2: _number(f"{pids}/pids.max") % (2**64 - 1)},
        3: _v1_cpu(place("cpuacct"), place("cpu")),
        4: _v1_memory(place("memory")),
        5: _v1_blkio(place("blkio")),
        6: {},
        9: _v1_oom(place("memory")),
    }


def _v1_cpu(cpuacct: str, cpu: str) -> Table:
    stat = _pairs(f"{cpuacct}/cpuacct.stat")
    tick = 10**9 // os.sysconf("SC_CLK_TCK")
    throttled = _pairs(f"{cpu}/cpu.stat")
    return {
        1: {
            1: _number(f"{cpuacct}/cpuacct.usage"),
            2: stat.get("system", 0) * tick,
            3: stat.get("user", 0) * tick,
            4: [int(word) for word in _text(f"{cpuacct}/cpuacct.usage_percpu").split()],
        },
        2: {
            n: throttled.get(name, 0)
            for n, name in enumerate(("nr_periods", "nr_throttled", "throttled_time"), 1)
        },
    }


# memory.stat's names in the order of MemoryStat's numbers
_V1_MEMORY = (
    "cache", "rss", "rss_huge", "mapped_file", "dirty", "writeback", "pgpgin", "pgpgout",
    "pgfault", "pgmajfault", "inactive_anon", "active_anon", "inactive_file", "active_file",
    "unevictable", "hierarchical_memory_limit", "hierarchical_memsw_limit", "total_cache",
    "total_rss", "total_rss_huge", "total_mapped_file", "total_dirty", "total_writeback",
    "total_pgpgin", "total_pgpgout", "total_pgfault", "total_pgmajfault", "total_inactive_anon",
    "total_active_anon", "total_inactive_file", "total_active_file", "total_unevictable",
)  # fmt: skip


def _v1_memory(place: str) -> Table:
    stat = _pairs(f"{place}/memory.stat")

    def entry(kind: str) -> Table:
        names = ("limit_in_bytes", "usage_in_bytes", "max_usage_in_bytes", "failcnt")
        return {n: _number(f"{place}/memory.{kind}{name}") for n, name in enumerate(names, 1)}

    return {
        **{n: stat.get(name, 0) for n, name in enumerate(_V1_MEMORY, 1)},
        33: entry(""),
        34: entry("memsw."),
        35: entry("kmem."),
        36: entry("kmem.tcp."),
    }


def _v1_oom(place: str) -> Table:
    stat = _pairs(f"{place}/memory.oom_control")
    names = ("oom_kill_disable", "under_oom", "oom_kill")
    return {n: stat.get(name, 0) for n, name in enumerate(names, 1)}


def _v1_blkio(place: str) -> Table:
    """The throttling policy's counters: the only ones that every kernel has."""

    def entries(name: str) -> list[Table]:
        for file in (f"{name}_recursive", name):
            text = _text(f"{place}/blkio.throttle.{file}")
            found = []
            for line in text.splitlines():
                device, _, rest = line.partition(" ")
                major, colon, minor = device.partition(":")
                op, _, value = rest.partition(" ")
                if colon and value:
                    found.append({1: op, 3: int(major), 4: int(minor), 5: int(value)})
            if found:
                return found
        return []

    return {1: entries("io_service_bytes"), 2: entries("io_serviced")}


# memory.stat's names in the order of MemoryStat's numbers; 20 and 21 are sums of two each today
_V2_MEMORY = (
    "anon", "file", "kernel_stack", "slab", "sock", "shmem", "file_mapped", "file_dirty",
    "file_writeback", "anon_thp", "inactive_anon", "active_anon", "inactive_file", "active_file",
    "unevictable", "slab_reclaimable", "slab_unreclaimable", "pgfault", "pgmajfault",
    "workingset_refault", "workingset_activate", "workingset_nodereclaim", "pgrefill", "pgscan",
    "pgsteal", "pgactivate", "pgdeactivate", "pglazyfree", "pglazyfreed", "thp_fault_alloc",
    "thp_collapse_alloc",
)  # fmt: skip


def _v2(place: str) -> Table:
    cpu = _pairs(f"{place}/cpu.stat")
    memory = _pairs(f"{place}/memory.stat")
    for name in ("workingset_refault", "workingset_activate"):
        memory.setdefault(name, memory.get(f"{name}_anon", 0) + memory.get(f"{name}_file", 0))
    events = _pairs(f"{place}/memory.events")
    times = ("usage_usec", "user_usec", "system_usec", "nr_periods", "nr_throttled")
    names = (
        "current", "max", "swap.current", "swap.max", "peak", "swap.peak",
    )  # fmt: skip
    return {
        1: {1: _number(f"{place}/pids.current"), 2: _number(f"{place}/pids.max")},
        2: {
            **{n: cpu.get(name, 0) for n, name in enumerate((*times, "throttled_usec"), 1)},
            8: cpu.get("nr_bursts", 0),
            9: cpu.get("burst_usec", 0),
        },
        4: {
            **{n: memory.get(name, 0) for n, name in enumerate(_V2_MEMORY, 1)},
            **{n: _number(f"{place}/memory.{name}") for n, name in enumerate(names, 32)},
        },
        5: {},
        6: {1: _v2_io(f"{place}/io.stat")},
        7: _huge(place, "current", "max", "events"),
        8: {
            n: events.get(name, 0)
            for n, name in enumerate(("low", "high", "max", "oom", "oom_kill", "oom_group_kill"), 1)
        },
    }


def _v2_io(path: str) -> list[Table]:
    found = []
    for line in _text(path).splitlines():
        device, *words = line.split()
        major, _, minor = device.partition(":")
        values = dict(word.partition("=")[::2] for word in words)
        names = ("rbytes", "wbytes", "rios", "wios")
        counters = {n: int(values.get(name, 0)) for n, name in enumerate(names, 3)}
        found.append({1: int(major), 2: int(minor), **counters})
    return found


def _huge(place: str, usage: str, most: str, failures: str) -> list[Table]:
    """One entry for each size of huge pages; usage, max, failures and size are 1 to 4 in v1."""
    try:
        names = sorted(os.listdir(place))
    except FileNotFoundError:
        return []
    found = []
    for name in names:
        if not name.startswith(_HUGE) or not name.endswith(f".{usage}"):
            continue
        size = name.removeprefix(_HUGE).removesuffix(f".{usage}")
        if "." in size:  # reservations
            continue
        start = f"{place}/{_HUGE}{size}"
        counters = (_number(f"{start}.{usage}"), _number(f"{start}.{most}"))
        if failures == "events":
            failed = _pairs(f"{start}.events").get("max", 0)
            found.append({1: counters[0], 2: counters[1], 3: size, 4: failed})
        else:
            failed = _number(f"{start}.{failures}")
            found.append({1: counters[0], 2: counters[1], 3: failed, 4: size})
    return found


def _text(path: str) -> str:
    """A file; '' where the controller or the kernel does not have it."""
    try:
        with open(path) as file:
            return file.read()
    except FileNotFoundError:
        return ""
    except OSError as error:
        if error.errno == errno.EOPNOTSUPP:  # a counter that this kernel was built without
            return ""
        raise


def _number(path: str) -> int:
    """A file's one number; 0 where the controller is absent, all ones for ``max``."""
    text = _text(path).strip()
    if not text:
        return 0
    return 2**64 - 1 if text == "max" else int(text)


def _pairs(path: str) -> dict[str, int]:
    return {name: int(value) for name, value in (line.split() for line in _text(path).splitlines())}
