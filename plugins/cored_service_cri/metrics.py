"""Metrics of pods and containers, under cAdvisor's names and with its labels."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from cored._pb.cri.v1 import api_pb2 as pb
from cored.errors import CoredError
from cored_service_cri import counters
from cored_service_cri.cgroups import Cgroups
from cored_service_cri.counters import Counters
from cored_service_cri.registry import Registry
from cored_service_cri.stats import interfaces
from cored_service_cri.usage import Filesystem
from cored_service_cri.values import Container, Pod

__all__ = ["Metrics"]

_LABELS = ("id", "name", "image", "container", "pod", "namespace")
_EXTRA = {
    "container_blkio_device_usage_total": ("device", "major", "minor", "operation"),
    "container_cpu_usage_seconds_total": ("cpu",),
    "container_memory_failures_total": ("failure_type", "scope"),
    "container_ulimits_soft": ("ulimit",),
}
_EXTRA_BY_PREFIX = {
    "container_network_": ("interface",),
    "container_fs_": ("device",),
    "container_hugetlb_": ("pagesize",),
}
_HELP = """
blkio_device_usage_total|bytes that a block device has read or written
cpu_cfs_periods_total|periods of the CPU limit that have passed
cpu_cfs_throttled_periods_total|periods in which the CPU limit was reached
cpu_cfs_throttled_seconds_total|seconds that were waited at the CPU limit
cpu_system_seconds_total|CPU seconds in the kernel
cpu_usage_seconds_total|CPU seconds in all
cpu_user_seconds_total|CPU seconds in programs
file_descriptors|open file descriptors
fs_inodes_free|free inodes of the filesystem
fs_inodes_total|inodes of the filesystem
fs_limit_bytes|size of the filesystem in bytes
fs_reads_bytes_total|bytes read from disk
fs_reads_total|reads from disk
fs_usage_bytes|bytes of the writable layer
fs_writes_bytes_total|bytes written to disk
fs_writes_total|writes to disk
hugetlb_max_usage_bytes|most bytes in huge pages so far
hugetlb_usage_bytes|bytes in huge pages
last_seen|when it was last seen, in seconds since 1970
memory_cache|bytes of the page cache
memory_failcnt|how often the memory limit was reached
memory_failures_total|page faults
memory_kernel_usage|bytes of the kernel
memory_mapped_file|bytes of mapped files
memory_max_usage_bytes|most bytes of memory so far
memory_rss|bytes of anonymous memory
memory_swap|bytes in swap
memory_usage_bytes|bytes of memory in all
memory_working_set_bytes|bytes of memory that cannot be dropped at once
network_receive_bytes_total|bytes received
network_receive_errors_total|errors of receiving
network_receive_packets_dropped_total|packets dropped when received
network_receive_packets_total|packets received
network_transmit_bytes_total|bytes sent
network_transmit_errors_total|errors of sending
network_transmit_packets_dropped_total|packets dropped when sent
network_transmit_packets_total|packets sent
oom_events_total|processes killed for want of memory
pressure_cpu_stalled_seconds_total|seconds in which nothing could run for want of CPU
pressure_cpu_waiting_seconds_total|seconds in which something waited for CPU
pressure_io_stalled_seconds_total|seconds in which nothing could run for want of disk
pressure_io_waiting_seconds_total|seconds in which something waited for disk
pressure_memory_stalled_seconds_total|seconds in which nothing could run for want of memory
pressure_memory_waiting_seconds_total|seconds in which something waited for memory
processes|processes
sockets|open sockets
spec_cpu_period|period of the CPU limit in microseconds
spec_cpu_quota|CPU time in each period in microseconds, 0 for no limit
spec_cpu_shares|CPU shares
spec_memory_limit_bytes|memory limit, 0 for none
spec_memory_reservation_limit_bytes|memory reservation, 0 for none
spec_memory_swap_limit_bytes|limit of memory and swap, 0 for none
start_time_seconds|when it was started, in seconds since 1970
threads|threads
threads_max|most threads that there may be, 0 for no limit
ulimits_soft|soft limits of the first process
"""
_GAUGES = frozenset(
    line.partition("|")[0]
    for line in _HELP.split("\n")
    if not line.partition("|")[0].endswith(("_total", "_failcnt"))
)


@dataclass(frozen=True, slots=True)
class _Owner:
    """Whose a sample is: the usual labels."""

    labels: tuple[str, ...]

    def metrics(self, found: Counters, at: int) -> list[pb.Metric]:
        return [
            pb.Metric(
                name=name,
                timestamp=at,
                metric_type=_kind(name),
                label_values=[*self.labels, *extra],
                value=pb.UInt64Value(value=value),
            )
            for name, samples in found.values.items()
            for extra, value in samples
        ]


class Metrics:
    def __init__(self, registry: Registry, cgroups: Cgroups, filesystem: Filesystem) -> None:
        self._registry = registry
        self._cgroups = cgroups
        self._filesystem = filesystem

    def descriptors(self) -> list[pb.MetricDescriptor]:
        """All that there may be of a pod or container."""
        pairs = [line.split("|") for line in _HELP.strip().splitlines()]
        return [
            pb.MetricDescriptor(
                name=f"container_{name}",
                help=text,
                label_keys=[*_LABELS, *_extra(f"container_{name}")],
            )
            for name, text in pairs
        ]

    async def pods(self) -> list[pb.PodSandboxMetrics]:
        """Those of all pods that are ready, and of their running containers."""
        members: dict[str, list[Container]] = {
            pod.id: [] for pod in self._registry.pods.values() if pod.state.ready
        }
        written: dict[str, int] = {}
        for one in list(self._registry.containers.values()):
            if one.pod.id in members and one.state.phase == pb.CONTAINER_RUNNING:
                members[one.pod.id].append(one)
                with suppress(CoredError):  # it is being removed
                    layer = await self._filesystem.layer(one.state.snapshotter, one.id)
                    written[one.id] = layer.size
        ready = [pod for pod in self._registry.pods.values() if pod.id in members]
        # one pass for all: to go to a thread and come back takes longer than to count one
        return await asyncio.to_thread(self._counted, ready, members, written)

    def _counted(
        self,
        pods: Sequence[Pod],
        members: Mapping[str, Sequence[Container]],
        written: Mapping[str, int],
    ) -> list[pb.PodSandboxMetrics]:
        disk = os.statvfs(self._filesystem.place)
        found = []
        for pod in pods:
            at, meta = time.time_ns(), pod.config.metadata
            owner = _Owner((pod.id, "POD", "", "", meta.name, meta.namespace))
            inside = [self._container(one, at, disk, written) for one in members[pod.id]]
            found.append(
                pb.PodSandboxMetrics(
                    pod_sandbox_id=pod.id,
                    metrics=owner.metrics(_network(pod), at),
                    container_metrics=inside,
                )
            )
        return found

    def _container(
        self, one: Container, at: int, disk: os.statvfs_result, written: Mapping[str, int]
    ) -> pb.ContainerMetrics:
        meta = one.pod.config.metadata
        name = one.config.metadata.name
        owner = _Owner((one.id, one.name, one.state.image, name, meta.name, meta.namespace))
        places = self._cgroups.places(one.id)
        found = counters.read(places, self._cgroups.v2) if places else Counters()
        found.put("last_seen", at // 10**9)
        found.put("start_time_seconds", one.state.started_at // 10**9)
        found.put("fs_inodes_free", disk.f_favail, "")
        found.put("fs_inodes_total", disk.f_files, "")
        found.put("fs_limit_bytes", disk.f_blocks * disk.f_frsize, "")
        if one.id in written:
            found.put("fs_usage_bytes", written[one.id], "")
        return pb.ContainerMetrics(container_id=one.id, metrics=owner.metrics(found, at))


def _network(pod: Pod) -> Counters:
    found = Counters()
    for one in [] if pod.host_network else interfaces(pod.state.pid):
        for way, kind in (("receive", "rx"), ("transmit", "tx")):
            for what, name in (
                ("bytes", "bytes"), ("errors", "errors"), ("packets_dropped", "dropped"),
                ("packets", "packets"),
            ):  # fmt: skip
                value = getattr(one, f"{kind}_{name}")
                found.put(f"network_{way}_{what}_total", value, one.name)
    return found


def _extra(name: str) -> tuple[str, ...]:
    for prefix, labels in _EXTRA_BY_PREFIX.items():
        if name.startswith(prefix):
            return labels
    return _EXTRA.get(name, ())


def _kind(name: str) -> pb.MetricType:
    return pb.GAUGE if name.removeprefix("container_") in _GAUGES else pb.COUNTER
