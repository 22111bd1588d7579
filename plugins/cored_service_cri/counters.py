"""All the counters of one cgroup that metrics are made of; version 1 and 2 under the same names."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

__all__ = ["Counters", "read"]

_TICK = 10**9 // os.sysconf("SC_CLK_TCK")
_BLOCK = 1 << 16
_FAILURES = ("pgfault", "pgmajfault")


@dataclass(frozen=True, slots=True)
class Counters:
    """Values by metric, each with the labels that it has beside the usual ones."""

    values: dict[str, list[tuple[tuple[str, ...], int]]] = field(default_factory=dict)

    def put(self, name: str, value: int, *labels: str) -> None:
        """One sample."""
        self.values.setdefault(f"container_{name}", []).append((labels, max(0, value)))


def read(places: Mapping[str, str], v2: bool) -> Counters:
    """What can be read of a cgroup; ``places`` are its directories by controller. Blocks."""
    found = Counters()
    if v2:
        _read_v2(found, places[""])
    else:
        _read_v1(found, places)
    _processes(found, places[""] if v2 else places.get("pids", places["memory"]), v2)
    return found


def _read_v1(found: Counters, places: Mapping[str, str]) -> None:
    cpu, acct = places.get("cpu", "/none"), places.get("cpuacct", "/none")
    stat, times = _pairs(f"{cpu}/cpu.stat"), _pairs(f"{acct}/cpuacct.stat")
    _cpu(found, _number(f"{acct}/cpuacct.usage"), times.get("user", 0) * _TICK,
         times.get("system", 0) * _TICK, stat, stat.get("throttled_time", 0))  # fmt: skip
    found.put("spec_cpu_period", _number(f"{cpu}/cpu.cfs_period_us"))
    found.put("spec_cpu_quota", _number(f"{cpu}/cpu.cfs_quota_us"))
    found.put("spec_cpu_shares", _number(f"{cpu}/cpu.shares"))
    memory = places["memory"]
    table = {
        "memory_cache": "total_cache", "memory_mapped_file": "total_mapped_file",
        "memory_rss": "total_rss", "memory_swap": "total_swap",
    }  # fmt: skip
    stat = _pairs(f"{memory}/memory.stat")
    for name, key in table.items():
        found.put(name, stat.get(key, 0))
    usage = _number(f"{memory}/memory.usage_in_bytes")
    found.put("memory_usage_bytes", usage)
    found.put("memory_working_set_bytes", usage - stat.get("total_inactive_file", 0))
    found.put("memory_failcnt", _number(f"{memory}/memory.failcnt"))
    found.put("memory_kernel_usage", _number(f"{memory}/memory.kmem.usage_in_bytes"))
    found.put("memory_max_usage_bytes", _number(f"{memory}/memory.max_usage_in_bytes"))
    found.put("spec_memory_limit_bytes", _limit(f"{memory}/memory.limit_in_bytes"))
    reserved = _limit(f"{memory}/memory.soft_limit_in_bytes")
    found.put("spec_memory_reservation_limit_bytes", reserved)
    found.put("spec_memory_swap_limit_bytes", _limit(f"{memory}/memory.memsw.limit_in_bytes"))
    found.put("oom_events_total", _pairs(f"{memory}/memory.oom_control").get("oom_kill", 0))
    for kind in _FAILURES:
        found.put("memory_failures_total", stat.get(kind, 0), kind, "container")
        found.put("memory_failures_total", stat.get(f"total_{kind}", 0), kind, "hierarchy")
    blkio = places.get("blkio", "/none")
    for prefix, name in (("bytes_", "blkio.throttle.io_service_bytes_recursive"),
                         ("", "blkio.throttle.io_serviced_recursive")):  # fmt: skip
        for device, operation, value in _blkio(f"{blkio}/{name}"):
            _disk(found, prefix, device, operation.lower(), value)
    pages = places.get("hugetlb", "/none")
    for size in _sizes(pages, "usage_in_bytes"):
        found.put("hugetlb_usage_bytes", _number(f"{pages}/hugetlb.{size}.usage_in_bytes"), size)
        most = _number(f"{pages}/hugetlb.{size}.max_usage_in_bytes")
        found.put("hugetlb_max_usage_bytes", most, size)


def _read_v2(found: Counters, place: str) -> None:
    stat = _pairs(f"{place}/cpu.stat")
    used, user, system = (stat.get(f"{n}_usec", 0) * 1000 for n in ("usage", "user", "system"))
    _cpu(found, used, user, system, stat, stat.get("throttled_usec", 0) * 1000)
    quota, _, period = _text(f"{place}/cpu.max").strip().partition(" ")
    found.put("spec_cpu_period", int(period) if period.isdecimal() else 0)
    found.put("spec_cpu_quota", int(quota) if quota.isdecimal() else 0)
    weight = _number(f"{place}/cpu.weight")
    found.put("spec_cpu_shares", 2 + (weight - 1) * 262142 // 9999 if weight else 0)
    stat = _pairs(f"{place}/memory.stat")
    table = {
        "memory_cache": "file", "memory_mapped_file": "file_mapped", "memory_rss": "anon",
        "memory_kernel_usage": "kernel",
    }  # fmt: skip
    for name, key in table.items():
        found.put(name, stat.get(key, 0))
    usage, events = _number(f"{place}/memory.current"), _pairs(f"{place}/memory.events")
    found.put("memory_usage_bytes", usage)
    found.put("memory_working_set_bytes", usage - stat.get("inactive_file", 0))
    found.put("memory_failcnt", events.get("max", 0))
    found.put("memory_max_usage_bytes", _number(f"{place}/memory.peak"))
    found.put("memory_swap", _number(f"{place}/memory.swap.current"))
    found.put("spec_memory_limit_bytes", _limit(f"{place}/memory.max"))
    found.put("spec_memory_reservation_limit_bytes", _limit(f"{place}/memory.low"))
    found.put("spec_memory_swap_limit_bytes", _limit(f"{place}/memory.swap.max"))
    found.put("oom_events_total", events.get("oom_kill", 0))
    for kind in _FAILURES:
        for scope in ("container", "hierarchy"):
            found.put("memory_failures_total", stat.get(kind, 0), kind, scope)
    for line in _text(f"{place}/io.stat").splitlines():
        device, *pairs = line.split()
        numbers = {k: int(v) for k, _, v in (pair.partition("=") for pair in pairs) if v.isdigit()}
        for operation, key in (("read", "r"), ("write", "w")):
            _disk(found, "bytes_", device, operation, numbers.get(f"{key}bytes", 0))
            _disk(found, "", device, operation, numbers.get(f"{key}ios", 0))
    for size in _sizes(place, "current"):
        found.put("hugetlb_usage_bytes", _number(f"{place}/hugetlb.{size}.current"), size)
    for kind in ("cpu", "io", "memory"):
        for line in _text(f"{place}/{kind}.pressure").splitlines():
            word, *pairs = line.split()
            total = int(pairs[-1].partition("=")[2]) // 10**6
            what = "waiting" if word == "some" else "stalled"
            found.put(f"pressure_{kind}_{what}_seconds_total", total)


def _cpu(
    found: Counters, usage: int, user: int, system: int, stat: Mapping[str, int], throttled: int
) -> None:
    found.put("cpu_usage_seconds_total", usage // 10**9, "total")
    found.put("cpu_user_seconds_total", user // 10**9)
    found.put("cpu_system_seconds_total", system // 10**9)
    found.put("cpu_cfs_periods_total", stat.get("nr_periods", 0))
    found.put("cpu_cfs_throttled_periods_total", stat.get("nr_throttled", 0))
    found.put("cpu_cfs_throttled_seconds_total", throttled // 10**9)


def _disk(found: Counters, prefix: str, device: str, operation: str, value: int) -> None:
    major, _, minor = device.partition(":")
    name = _device(device)
    if operation in ("read", "write"):
        found.put(f"fs_{operation}s_{prefix}total", value, f"/dev/{name}")
        if prefix:
            found.put("blkio_device_usage_total", value, f"/dev/{name}", major, minor, operation)


def _processes(found: Counters, place: str, v2: bool) -> None:
    pids = _text(f"{place}/cgroup.procs").split()
    threads = _text(f"{place}/{'cgroup.threads' if v2 else 'tasks'}").split()
    descriptors = sockets = 0
    for pid in pids:
        links = list(_links(f"/proc/{pid}/fd"))
        descriptors += len(links)
        sockets += sum(link.startswith("socket:") for link in links)
    found.put("processes", len(pids))
    found.put("threads", len(threads))
    found.put("threads_max", _limit(f"{place}/pids.max"))
    found.put("file_descriptors", descriptors)
    found.put("sockets", sockets)
    limits = _text(f"/proc/{pids[0]}/limits") if pids else ""
    for line in limits.splitlines():
        if line.startswith("Max open files"):
            soft = line.removeprefix("Max open files").split()[0]
            found.put("ulimits_soft", int(soft) if soft.isdecimal() else 0, "max_open_files")


def _links(place: str) -> Iterator[str]:
    try:
        names = os.listdir(place)  # noqa: PTH208 - there are many, and pathlib is slow
    except OSError:
        return  # it has ended
    for name in names:
        try:
            yield os.readlink(f"{place}/{name}")  # noqa: PTH115
        except OSError:
            continue


def _sizes(place: str, what: str) -> list[str]:
    """Of the huge pages that a cgroup counts: ``hugetlb.<size>.<what>``."""
    try:
        names = os.listdir(place)  # noqa: PTH208
    except OSError:
        return []
    found = (re.fullmatch(rf"hugetlb\.([^.]+)\.{what}", name) for name in names)
    return [match[1] for match in found if match]


@lru_cache(1000)
def _device(numbers: str) -> str:
    """The name of a disk."""
    return os.path.basename(os.path.realpath(f"/sys/dev/block/{numbers}"))  # noqa: PTH119


def _blkio(path: str) -> Iterator[tuple[str, str, int]]:
    for line in _text(path).splitlines():
        words = line.split()
        if len(words) == 3 and words[2].isdecimal():
            yield words[0], words[1], int(words[2])


def _text(path: str) -> str:
    """A file of the kernel's, '' where there is none: with as few calls as can be."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        pieces = [os.read(fd, _BLOCK)]
        while pieces[-1]:
            pieces.append(os.read(fd, _BLOCK))
    except OSError:
        return ""  # it has gone since
    finally:
        os.close(fd)
    return b"".join(pieces).decode(errors="replace")


def _number(path: str) -> int:
    text = _text(path).strip()
    return int(text) if text.isdecimal() else 0


def _limit(path: str) -> int:
    """0 for none."""
    number = _number(path)
    return 0 if number >= 1 << 62 else number


def _pairs(path: str) -> dict[str, int]:
    words = (line.split() for line in _text(path).splitlines())
    return {pair[0]: int(pair[1]) for pair in words if len(pair) == 2 and pair[1].isdecimal()}
