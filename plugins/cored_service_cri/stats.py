"""What pods and containers use, as a kubelet counts it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cored._pb.cri.v1 import api_pb2 as pb
from cored.errors import CoredError
from cored_service_cri.cgroups import Cgroups, Usage
from cored_service_cri.registry import Registry
from cored_service_cri.usage import Filesystem
from cored_service_cri.values import Container, Pod

__all__ = ["Interface", "Stats", "interfaces"]


@dataclass(frozen=True, slots=True)
class Interface:
    """A network interface's counters."""

    name: str
    rx_bytes: int
    rx_errors: int
    tx_bytes: int
    tx_errors: int
    rx_packets: int = 0
    rx_dropped: int = 0
    tx_packets: int = 0
    tx_dropped: int = 0


@dataclass(frozen=True, slots=True)
class _Counts:
    """What was counted of a pod and its containers."""

    usage: Usage | None
    links: Sequence[Interface]
    members: Sequence[Usage | None]


class Stats:
    def __init__(self, registry: Registry, cgroups: Cgroups, filesystem: Filesystem) -> None:
        self._registry = registry
        self._cgroups = cgroups
        self._filesystem = filesystem

    async def container(self, one: Container) -> pb.ContainerStats:
        """One container's; CPU and memory only while it runs."""
        usage = await asyncio.to_thread(self._cgroups.usage, one.id)
        return await self._container(one, usage)

    async def containers(self, wanted: Sequence[Container]) -> list[pb.ContainerStats]:
        """Several, with one pass over their cgroups."""
        used = await asyncio.to_thread(lambda: [self._cgroups.usage(one.id) for one in wanted])
        pairs = zip(wanted, used, strict=True)
        return [await self._container(one, usage) for one, usage in pairs]

    async def pod(self, one: Pod) -> pb.PodSandboxStats:
        """One pod's: all that is in its cgroup, and its network."""
        return (await self.pods([one]))[0]

    async def pods(self, wanted: Sequence[Pod]) -> list[pb.PodSandboxStats]:
        """Several, with their running containers; with one pass over all cgroups."""
        running: dict[str, list[Container]] = {one.id: [] for one in wanted}
        for one in self._registry.containers.values():
            if one.pod.id in running and one.state.phase == pb.CONTAINER_RUNNING:
                running[one.pod.id].append(one)
        counted = await asyncio.to_thread(self._counted, wanted, running)
        return [
            await self._pod(one, running[one.id], counts)
            for one, counts in zip(wanted, counted, strict=True)
        ]

    def _counted(
        self, wanted: Sequence[Pod], running: Mapping[str, Sequence[Container]]
    ) -> list[_Counts]:
        found = []
        for one in wanted:
            links = [] if one.host_network else interfaces(one.state.pid)
            usage = self._cgroups.usage(one.id, above=bool(one.config.linux.cgroup_parent))
            inside = [self._cgroups.usage(member.id) for member in running[one.id]]
            found.append(_Counts(usage, links, inside))
        return found

    async def _pod(
        self, one: Pod, members: Sequence[Container], counts: _Counts
    ) -> pb.PodSandboxStats:
        usage, links = counts.usage, counts.links
        pairs = zip(members, counts.members, strict=True)
        linux = pb.LinuxPodSandboxStats(containers=[await self._container(*pair) for pair in pairs])
        if usage is not None:
            linux.cpu.CopyFrom(self._cpu(f"pod {one.id}", usage))
            linux.memory.CopyFrom(_memory(usage))
            _add_io(linux, usage)
            linux.process.timestamp = usage.at
            linux.process.process_count.value = usage.pids
        if links:
            at = usage.at if usage else 0
            linux.network.timestamp = at
            linux.network.default_interface.CopyFrom(_interface(links[0]))
            linux.network.interfaces.extend(map(_interface, links[1:]))
        return pb.PodSandboxStats(
            attributes=pb.PodSandboxAttributes(
                id=one.id,
                metadata=one.config.metadata,
                labels=one.config.labels,
                annotations=one.config.annotations,
            ),
            linux=linux,
        )

    async def _container(self, one: Container, usage: Usage | None) -> pb.ContainerStats:
        found = pb.ContainerStats(
            attributes=pb.ContainerAttributes(
                id=one.id,
                metadata=one.config.metadata,
                labels=one.config.labels,
                annotations=one.config.annotations,
            )
        )
        if usage is not None:
            found.cpu.CopyFrom(self._cpu(one.id, usage))
            found.memory.CopyFrom(_memory(usage))
            _add_io(found, usage)
            found.swap.timestamp = usage.at
            found.swap.swap_usage_bytes.value = usage.swap
            found.swap.swap_available_bytes.value = max(0, usage.swap_limit - usage.swap)
        try:
            layer = await self._filesystem.layer(one.state.snapshotter, one.id)
        except CoredError:
            return found  # it is being removed
        found.writable_layer.timestamp = usage.at if usage else one.state.created_at
        found.writable_layer.fs_id.mountpoint = self._filesystem.place
        found.writable_layer.used_bytes.value = layer.size
        found.writable_layer.inodes_used.value = layer.inodes
        return found

    def _cpu(self, id: str, usage: Usage) -> pb.CpuUsage:
        return pb.CpuUsage(
            timestamp=usage.at,
            usage_core_nano_seconds=pb.UInt64Value(value=usage.cpu),
            usage_nano_cores=pb.UInt64Value(value=self._cgroups.nano_cores(id, usage)),
            psi=_psi(usage, "cpu"),
        )


def interfaces(pid: int) -> list[Interface]:
    """Those of a process's network but for the loopback; eth0 first (proc_pid_net(5))."""
    try:
        lines = Path(f"/proc/{pid}/net/dev").read_text().splitlines()[2:]
    except OSError:
        return []
    found = []
    for line in lines:
        name, _, rest = line.strip().partition(":")
        numbers = [int(word) for word in rest.split()]
        if name != "lo" and len(numbers) >= 12:
            received, sent = numbers[:8], numbers[8:]
            found.append(
                Interface(
                    name,
                    rx_bytes=received[0],
                    rx_packets=received[1],
                    rx_errors=received[2],
                    rx_dropped=received[3],
                    tx_bytes=sent[0],
                    tx_packets=sent[1],
                    tx_errors=sent[2],
                    tx_dropped=sent[3],
                )
            )
    return sorted(found, key=lambda one: one.name != "eth0")


def _memory(usage: Usage) -> pb.MemoryUsage:
    available = max(0, usage.limit - usage.working_set) if usage.limit else 0
    return pb.MemoryUsage(
        timestamp=usage.at,
        working_set_bytes=pb.UInt64Value(value=usage.working_set),
        available_bytes=pb.UInt64Value(value=available),
        usage_bytes=pb.UInt64Value(value=usage.memory),
        rss_bytes=pb.UInt64Value(value=usage.rss),
        page_faults=pb.UInt64Value(value=usage.faults),
        major_page_faults=pb.UInt64Value(value=usage.major_faults),
        psi=_psi(usage, "memory"),
    )


def _psi(usage: Usage, kind: str) -> pb.PsiStats | None:
    """None where the kernel does not tell."""
    stalls = usage.pressure.get(kind)
    if not stalls:
        return None
    data = {
        name.capitalize(): pb.PsiData(
            Total=one.total, Avg10=one.avg10, Avg60=one.avg60, Avg300=one.avg300
        )
        for name, one in stalls.items()
    }
    return pb.PsiStats(**data)


def _add_io(found: pb.ContainerStats | pb.LinuxPodSandboxStats, usage: Usage) -> None:
    psi = _psi(usage, "io")
    if psi is not None:
        found.io.timestamp = usage.at
        found.io.psi.CopyFrom(psi)


def _interface(one: Interface) -> pb.NetworkInterfaceUsage:
    return pb.NetworkInterfaceUsage(
        name=one.name,
        rx_bytes=pb.UInt64Value(value=one.rx_bytes),
        rx_errors=pb.UInt64Value(value=one.rx_errors),
        tx_bytes=pb.UInt64Value(value=one.tx_bytes),
        tx_errors=pb.UInt64Value(value=one.tx_errors),
    )
