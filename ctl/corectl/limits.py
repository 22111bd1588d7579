"""Options of run and create that limit: memory, CPU, devices' rates, ulimits."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from corectl.sizes import count
from cored.errors import InvalidArgument

if TYPE_CHECKING:
    from cored._pb.cored.workloads.v1 import workloads_pb2 as pb

__all__ = ["changeable_options", "changed", "limit_options", "resources", "ulimit"]

_NANO = 1_000_000_000
_THROTTLES = ("read_bps", "write_bps", "read_iops", "write_iops")
_WEIGHT = "blkio_weight_device"


def limit_options() -> Sequence[Callable[..., Any]]:
    option = click.option
    return (
        option("-m", "--memory", default="", metavar="BYTES[kmg]", help="Memory limit."),
        option("--memory-swap", default="", metavar="BYTES[kmg]|-1", help="Memory and swap."),
        option("--memory-reservation", default="", metavar="BYTES[kmg]", help="Soft limit."),
        option("--memory-swappiness", type=int, default=-1, help="0 to 100; -1 is the host's."),
        option("--oom-kill-disable", is_flag=True, help="Wait for memory instead of dying."),
        option("--oom-score-adj", type=int, default=0, help="-1000 to 1000: who dies first."),
        option("--cpus", default="", help="CPUs, such as 1.5."),
        option("-c", "--cpu-shares", type=int, default=0, help="Weight against others."),
        option("--cpu-period", type=int, default=0, metavar="US", help="Period of the quota."),
        option("--cpu-quota", type=int, default=0, metavar="US", help="CPU time in a period."),
        option("--cpuset-cpus", default="", metavar="0-2,7", help="Which CPUs."),
        option("--cpuset-mems", default="", metavar="0-2,7", help="Which memory nodes."),
        option("--pids-limit", type=int, default=0, help="Number of processes at most."),
        option("--blkio-weight", type=int, default=0, help="Weight for disks, 10 to 1000."),
        option(
            "--blkio-weight-device", multiple=True, metavar="DEVICE:WEIGHT", help="For one disk."
        ),
        option("--cpu-rt-period", type=int, default=0, metavar="US", help="Of real-time tasks."),
        option("--cpu-rt-runtime", type=int, default=0, metavar="US", help="CPU time of theirs."),
        *(
            option(
                f"--device-{kind.replace('_', '-')}",
                multiple=True,
                metavar="DEVICE:RATE",
                help=f"Limit of {what} a second.",
            )
            for kind, what in zip(
                _THROTTLES,
                ("bytes read", "bytes written", "reads", "writes"),
                strict=True,
            )
        ),
        option("--cgroup-conf", multiple=True, metavar="FILE=VALUE", help="A file of cgroup v2."),
        option("--cgroup-parent", default="", help="The cgroup that its own is made in."),
        option("--ulimit", multiple=True, metavar="NAME=SOFT[:HARD]", help="A limit as nofile."),
    )


_CHANGEABLE = {
    "memory", "memory_swap", "memory_reservation", "cpus", "cpu_shares", "cpu_period", "cpu_quota",
    "cpuset_cpus", "cpuset_mems", "pids_limit", "blkio_weight", "cpu_rt_period", "cpu_rt_runtime",
}  # fmt: skip


def changeable_options() -> Sequence[Callable[..., Any]]:
    """Those of the limits that update takes."""
    found = []
    for option in limit_options():
        probe = click.command()(option(lambda: None))
        if probe.params[0].name in _CHANGEABLE:
            found.append(option)
    return found


def changed(options: Mapping[str, Any]) -> pb.Resources:
    """What update's options ask for. InvalidArgument."""
    none: dict[str, Any] = {f"device_{kind}": () for kind in _THROTTLES}
    none |= {"memory_swappiness": -1, "oom_kill_disable": False, "cgroup_conf": (), _WEIGHT: ()}
    return resources({**none, **options})


def resources(options: Mapping[str, Any]) -> pb.Resources:
    """What the parsed options ask for. InvalidArgument."""
    from cored._pb.cored.workloads.v1 import workloads_pb2 as pb

    swappiness = options["memory_swappiness"]
    return pb.Resources(
        memory_limit=count(options["memory"]),
        memory_swap=-1 if options["memory_swap"] == "-1" else count(options["memory_swap"]),
        memory_reservation=count(options["memory_reservation"]),
        memory_swappiness=None if swappiness == -1 else _whole("memory-swappiness", swappiness),
        oom_kill_disable=options["oom_kill_disable"],
        nano_cpus=_cpus(options["cpus"]),
        cpu_shares=_whole("cpu-shares", options["cpu_shares"]),
        cpu_period=_whole("cpu-period", options["cpu_period"]),
        cpu_quota=options["cpu_quota"],
        cpuset_cpus=options["cpuset_cpus"],
        cpuset_mems=options["cpuset_mems"],
        pids_limit=options["pids_limit"],
        blkio_weight=_whole("blkio-weight", options["blkio_weight"]),
        throttles=[
            *(_throttle(kind, text) for kind in _THROTTLES for text in options[f"device_{kind}"]),
            *(_throttle("weight", text) for text in options[_WEIGHT]),
        ],
        cpu_rt_period=_whole("cpu-rt-period", options["cpu_rt_period"]),
        cpu_rt_runtime=_whole("cpu-rt-runtime", options["cpu_rt_runtime"]),
        unified=dict(_pair("cgroup-conf", text) for text in options["cgroup_conf"]),
    )


def ulimit(text: str) -> pb.Ulimit:
    """``nofile=1024:2048``; one number is both."""
    from cored._pb.cored.workloads.v1 import workloads_pb2 as pb

    name, limits = _pair("ulimit", text)
    soft, _, hard = limits.partition(":")
    try:
        return pb.Ulimit(name=name, soft=_limit(soft), hard=_limit(hard or soft))
    except ValueError as error:
        hint = "write nofile=1024 or nofile=1024:2048"
        raise InvalidArgument(f"--ulimit '{text}': not understood", hint=hint) from error


def _limit(text: str) -> int:
    return -1 if text == "unlimited" else int(text)


def _throttle(kind: str, text: str) -> pb.Throttle:
    from cored._pb.cored.workloads.v1 import workloads_pb2 as pb

    path, colon, rate = text.rpartition(":")
    if not colon:
        raise InvalidArgument(f"--device '{text}': no rate", hint="write /dev/sda:10m")
    return pb.Throttle(kind=kind, path=os.path.normpath(path), rate=count(rate))


def _pair(option: str, text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise InvalidArgument(f"--{option} '{text}': not understood", hint="write NAME=VALUE")
    return name, value


def _whole(option: str, number: int) -> int:
    if number < 0:
        raise InvalidArgument(f"--{option} {number}: must not be negative")
    return number


def _cpus(text: str) -> int:
    if not text:
        return 0
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value < 1e6:
        raise InvalidArgument(f"--cpus '{text}': not a positive number", hint="write 1.5")
    return round(value * _NANO)
