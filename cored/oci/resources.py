"""Limits of a container's cgroup (runtime-spec, linux.resources)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cored.errors import InvalidArgument

__all__ = ["RATES", "WEIGHT", "Resources", "Throttle", "document", "fit"]

# what a container needs to be started at all, as docker has it
_LEAST_MEMORY = 6 << 20
_PERIOD = 100_000
_NANO = 1_000_000_000
_SET = re.compile(r"\d+(-\d+)?(,\d+(-\d+)?)*")
WEIGHT = "weight"
RATES = {
    "read_bps": "throttleReadBpsDevice",
    "write_bps": "throttleWriteBpsDevice",
    "read_iops": "throttleReadIOPSDevice",
    "write_iops": "throttleWriteIOPSDevice",
}


@dataclass(frozen=True, slots=True)
class Throttle:
    """A block device's rate: ``kind`` is one of :data:`RATES`, bytes or operations a second.

    Or ``weight``: its weight against other containers.
    """

    kind: str
    path: str
    rate: int


@dataclass(frozen=True, slots=True)
class Resources:
    """What a container may use: bytes, billionths of a CPU, microseconds; 0 and '' are no limit.

    So is -1 for ``pids_limit``.

    ``memory_swap`` is memory and swap together, -1 without limit; ``unified`` has files of cgroup
    v2 by name.
    """

    memory_limit: int = 0
    nano_cpus: int = 0
    pids_limit: int = 0
    memory_reservation: int = 0
    memory_swap: int = 0
    memory_swappiness: int | None = None
    oom_kill_disable: bool = False
    cpu_shares: int = 0
    cpu_quota: int = 0
    cpu_period: int = 0
    cpuset_cpus: str = ""
    cpuset_mems: str = ""
    blkio_weight: int = 0
    throttles: tuple[Throttle, ...] = ()
    hugepage_limits: Mapping[str, int] = field(default_factory=dict)
    unified: Mapping[str, str] = field(default_factory=dict)
    cpu_rt_runtime: int = 0
    cpu_rt_period: int = 0


def document(
    wanted: Resources, throttled: Sequence[tuple[Throttle, int, int]] = (), *, swap: bool = True
) -> dict[str, Any]:
    """``linux.resources`` but for its devices; ``throttled`` have the devices' numbers.

    ``swap`` says whether the kernel counts it.

    InvalidArgument for limits that contradict themselves.
    """
    memory = _memory(wanted)
    if not swap:
        memory.pop("swap", None)
    blocks: dict[str, Any] = {"weight": wanted.blkio_weight} if wanted.blkio_weight else {}
    if wanted.blkio_weight and not 10 <= wanted.blkio_weight <= 1000:
        raise InvalidArgument(f"blkio weight {wanted.blkio_weight}: must be 10 to 1000")
    for throttle, major, minor in throttled:
        if throttle.kind == WEIGHT:
            if not 10 <= throttle.rate <= 1000:
                raise InvalidArgument(f"weight of {throttle.path}: must be 10 to 1000")
            one = {"major": major, "minor": minor, "weight": throttle.rate}
            blocks.setdefault("weightDevice", []).append(one)
            continue
        if throttle.kind not in RATES:
            raise InvalidArgument(f"throttle {throttle.kind!r}: unknown", hint=" ".join(RATES))
        rate = {"major": major, "minor": minor, "rate": throttle.rate}
        blocks.setdefault(RATES[throttle.kind], []).append(rate)
    pages = [{"pageSize": size, "limit": top} for size, top in wanted.hugepage_limits.items()]
    found = {
        "memory": memory,
        "cpu": _cpu(wanted),
        "blockIO": blocks,
        "hugepageLimits": pages,
        "unified": dict(wanted.unified),
    }
    if wanted.pids_limit > 0:
        found["pids"] = {"limit": wanted.pids_limit}
    return {name: part for name, part in found.items() if part}


def fit(wanted: Resources, cpus: Sequence[int], memory_nodes: Sequence[int]) -> None:
    """See that a host with these CPUs and nodes (none: nobody knows) has what is wanted.

    InvalidArgument.
    """
    if cpus and wanted.nano_cpus > len(cpus) * _NANO:
        raise InvalidArgument(
            f"CPU limit {wanted.nano_cpus / _NANO:g}: there are only {len(cpus)} CPUs here",
            hint=f"0.01 to {len(cpus)}",
        )
    for what, text, there in (
        ("CPUs", wanted.cpuset_cpus, cpus),
        ("memory nodes", wanted.cpuset_mems, memory_nodes),
    ):
        if not there or not _SET.fullmatch(text):
            continue
        for part in text.split(","):
            first, _, last = part.partition("-")
            # a range may be of any length
            if int(first) not in there or int(last or first) not in there:
                listed = ",".join(map(str, sorted(there)))
                raise InvalidArgument(
                    f"{what} {text!r}: not all are here", hint=f"there is {listed}"
                )


def _memory(wanted: Resources) -> dict[str, Any]:
    found: dict[str, Any] = {}
    limit, swap, reservation = wanted.memory_limit, wanted.memory_swap, wanted.memory_reservation
    if limit and limit < _LEAST_MEMORY:
        raise InvalidArgument(f"memory limit {limit}: at least 6 MiB are needed")
    if swap > 0 and not limit:
        raise InvalidArgument("memory and swap: a limit for both needs one for memory", hint="-m")
    if 0 < swap < limit:
        raise InvalidArgument("memory and swap: their limit is below the one of memory alone")
    if 0 < reservation < _LEAST_MEMORY:
        raise InvalidArgument(f"memory reservation {reservation}: at least 6 MiB are needed")
    if limit and reservation > limit:
        raise InvalidArgument("memory reservation: is above the limit")
    if wanted.memory_swappiness is not None:
        if wanted.memory_swappiness > 100:
            raise InvalidArgument(f"memory swappiness {wanted.memory_swappiness}: 0 to 100")
        found["swappiness"] = wanted.memory_swappiness
    if limit:
        found |= {"limit": limit, "swap": swap or limit * 2}
    if reservation:
        found["reservation"] = reservation
    if wanted.oom_kill_disable:
        if not limit:
            raise InvalidArgument(
                "OOM kill disable: needs a memory limit", hint="or it is the host's"
            )
        found["disableOOMKiller"] = True
    return found


def _cpu(wanted: Resources) -> dict[str, Any]:
    if wanted.nano_cpus and (wanted.cpu_quota or wanted.cpu_period):
        raise InvalidArgument("CPU limit: either a number of CPUs, or quota and period")
    for what, text in (("CPUs", wanted.cpuset_cpus), ("memory nodes", wanted.cpuset_mems)):
        if text and not _SET.fullmatch(text):
            raise InvalidArgument(f"{what} {text!r}: not understood", hint="write 0-2,7")
    quota, period = wanted.cpu_quota, wanted.cpu_period
    if wanted.nano_cpus:
        quota, period = max(wanted.nano_cpus // 10_000, 1000), _PERIOD
    if 0 < quota < 1000 or (period and not 1000 <= period <= 1_000_000):
        raise InvalidArgument("CPU limit: quota is at least 1000, period 1000 to 1000000")
    found = {
        "shares": wanted.cpu_shares,
        "quota": quota,
        "period": period,
        "cpus": wanted.cpuset_cpus,
        "mems": wanted.cpuset_mems,
        "realtimeRuntime": wanted.cpu_rt_runtime,
        "realtimePeriod": wanted.cpu_rt_period,
    }
    return {name: value for name, value in found.items() if value}
