"""What containers use: metrics of cgroups (v1, v2) and networks as numbers for people."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from cored._pb.cored.workloads.v1 import processes_pb2 as pb
from cored._pb.io.containerd.cgroups.v1 import metrics_pb2 as v1
from cored._pb.io.containerd.cgroups.v2 import metrics_pb2 as v2
from cored.abc.values import Typed

__all__ = ["Sample", "network", "sample", "shown"]

# at least one of the kernel's limits means: none
_NONE = 1 << 62


@dataclass(frozen=True, slots=True)
class Sample:
    """Counters at a moment: ``time`` and ``cpu`` in ns, the rest bytes."""

    time: int
    cpu: int = 0
    memory: int = 0
    limit: int = 0
    read: int = 0
    written: int = 0
    pids: int = 0
    received: int = 0
    sent: int = 0


def sample(metrics: Typed, pid: int, host_memory: int) -> Sample:
    """What a container has used so far. Blocks."""
    received, sent = network(_text(Path(f"/proc/{pid}/net/dev")))
    now = time.monotonic_ns()
    if metrics.type_url.endswith("v2.Metrics"):
        two = v2.Metrics.FromString(metrics.value)
        memory, blocks = two.memory, two.io.usage
        cache, limit = memory.inactive_file, memory.usage_limit
        used, cpu = memory.usage, two.cpu.usage_usec * 1000
        read, written = sum(b.rbytes for b in blocks), sum(b.wbytes for b in blocks)
        pids = two.pids.current
    else:
        one = v1.Metrics.FromString(metrics.value)
        used, limit = one.memory.usage.usage, one.memory.usage.limit
        cache, cpu = one.memory.total_inactive_file, one.cpu.usage.total
        counts = one.blkio.io_service_bytes_recursive
        read = sum(entry.value for entry in counts if entry.op.lower() == "read")
        written = sum(entry.value for entry in counts if entry.op.lower() == "write")
        pids = one.pids.current
    limit = host_memory if not limit or limit > _NONE else min(limit, host_memory)
    # docker's: what of files can be given back at once does not count
    used = used - cache if cache < used else used
    return Sample(now, cpu, used, limit, read, written, pids, received, sent)


def network(text: str) -> tuple[int, int]:
    """Bytes in and out of all interfaces but the loopback, from /proc/PID/net/dev."""
    received = sent = 0
    for line in text.splitlines()[2:]:
        name, _, rest = line.partition(":")
        counts = rest.split()
        if name.strip() != "lo" and len(counts) > 8:
            received, sent = received + int(counts[0]), sent + int(counts[8])
    return received, sent


def host_memory() -> int:
    """Bytes."""
    for line in _text(Path("/proc/meminfo")).splitlines():
        if line.startswith("MemTotal:"):
            return int(line.split()[1]) << 10
    return 0


def shown(id: str, name: str, before: Sample | None, now: Sample) -> pb.ContainerStats:
    """For a listing; the CPU's share is that since ``before``."""
    passed = now.time - before.time if before else 0
    share = (now.cpu - before.cpu) / passed * 100 if before and passed > 0 else 0.0
    return pb.ContainerStats(
        id=id,
        name=name,
        cpu_percent=max(share, 0.0),
        memory=now.memory,
        memory_limit=now.limit,
        received=now.received,
        sent=now.sent,
        read=now.read,
        written=now.written,
        pids=now.pids,
        cpu_ns=now.cpu,
        running=True,
    )


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:  # it has just ended
        return ""
