"""A service's limits: its own keys, and those of deploy, which count for more."""

from __future__ import annotations

import re

from corectl.compose.model import Service
from corectl.compose.parts import Limits
from cored._pb.cored.workloads.v1 import workloads_pb2 as pb
from cored.errors import InvalidArgument

__all__ = ["resources"]

_NANO = 1_000_000_000
_UNITS = {"": 1, "us": 1, "ms": 1000, "s": 1_000_000}
_THROTTLES = ("read_bps", "write_bps", "read_iops", "write_iops")


def resources(service: Service) -> pb.Resources:
    """InvalidArgument."""
    limits = service.deploy.resources.limits if service.deploy else Limits()
    reserved = service.deploy.resources.reservations if service.deploy else Limits()
    cpus = limits.cpus if limits.cpus is not None else service.cpus
    found = pb.Resources(
        memory_limit=limits.memory or service.mem_limit,
        memory_reservation=reserved.memory or service.mem_reservation,
        memory_swap=service.memswap_limit,
        oom_kill_disable=service.oom_kill_disable,
        nano_cpus=round((cpus or 0) * _NANO),
        cpu_shares=round(service.cpu_shares or 0),
        cpu_quota=_microseconds("cpu_quota", service.cpu_quota),
        cpu_period=_microseconds("cpu_period", service.cpu_period),
        cpu_rt_period=_microseconds("cpu_rt_period", service.cpu_rt_period),
        cpu_rt_runtime=_microseconds("cpu_rt_runtime", service.cpu_rt_runtime),
        cpuset_cpus=service.cpuset,
        pids_limit=limits.pids or service.pids_limit,
    )
    if service.mem_swappiness is not None:
        found.memory_swappiness = round(service.mem_swappiness)
    if blkio := service.blkio_config:
        found.blkio_weight = blkio.weight
        for device in blkio.weight_device:
            found.throttles.add(kind="weight", path=device.path, rate=device.weight)
        for kind in _THROTTLES:
            for one in getattr(blkio, f"device_{kind}"):
                found.throttles.add(kind=kind, path=one.path, rate=one.rate)
    return found


def _microseconds(key: str, text: str | None) -> int:
    parts = re.fullmatch(r"(-?\d+)(us|ms|s)?", text or "0")
    if parts is None:
        raise InvalidArgument(f"{key}: '{text}' is not a time", hint="write 50000 or 50ms")
    return int(parts[1]) * _UNITS[parts[2] or ""]
