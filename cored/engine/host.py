"""What this host can give to containers, as far as their specs depend on it."""

from __future__ import annotations

import os
import platform
import re
import resource
from pathlib import Path

from cored import linux
from cored.engine import apparmor
from cored.oci import capabilities, platforms, ulimits
from cored.oci.security import Host, SelinuxLabels

__all__ = ["probe"]

# docker's, which systemd's limit for services is too
_FILES = 524288


def probe(root: Path = Path("/")) -> Host:
    """Look around; ``root`` is where proc, sys and etc are. Blocks."""
    given = _capabilities(root)
    raises = "CAP_SYS_RESOURCE" in given
    cgroup = root / "sys/fs/cgroup"
    v2 = (cgroup / "cgroup.controllers").exists()
    ceilings = {} if raises else _ceilings()
    return Host(
        capabilities=given,
        kernel=_version(platform.release()),
        architecture=platforms.host().architecture,
        x32=_x32(root),
        cgroup_v2=v2,
        apparmor=(profiles := apparmor.profiles(root)),
        default_profile=apparmor.default(profiles),
        selinux=_selinux(root),
        files=min(ceilings.get("nofile", _FILES), _FILES),
        ceilings=tuple(ceilings.items()),
        oom_floor=-1000 if raises else int(_text(root / "proc/self/oom_score_adj") or 0),
        swap=v2 or (cgroup / "memory/memory.memsw.limit_in_bytes").exists(),
        blkio_weight=v2 or (cgroup / "blkio/blkio.weight").exists()
        or (cgroup / "blkio/blkio.bfq.weight").exists(),
        hugepages=_hugepages(root),
        realtime=(cgroup / "cpu/cpu.rt_period_us").exists(),
        cpus=_numbers(cgroup, "cpus") or tuple(sorted(os.sched_getaffinity(0))),
        memory_nodes=_numbers(cgroup, "mems"),
    )  # fmt: skip


def _x32(root: Path) -> bool:
    """Whether programs of that ABI may run; a filter on us could kill who asks the kernel."""
    filtered = re.search(r"^Seccomp:\s*0$", _text(root / "proc/self/status"), re.MULTILINE) is None
    return filtered or linux.has_x32()


def _capabilities(root: Path) -> frozenset[str]:
    """The daemon's bounding set."""
    found = re.search(r"^CapBnd:\s*([0-9a-f]+)$", _text(root / "proc/self/status"), re.MULTILINE)
    bits = int(found[1], 16) if found else -1
    return frozenset(name for n, name in enumerate(capabilities.ALL) if bits >> n & 1)


def _ceilings() -> dict[str, int]:
    """The hard limits that are limits."""
    found = {}
    for name in ulimits.NAMES:
        number = getattr(resource, f"RLIMIT_{name.upper()}", None)
        if number is not None:
            _, hard = resource.getrlimit(number)
            if hard != resource.RLIM_INFINITY:
                found[name] = hard
    return found


def _version(release: str) -> tuple[int, int]:
    found = re.match(r"(\d+)\.(\d+)", release)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def _selinux(root: Path) -> SelinuxLabels | None:
    """The policy's contexts for containers, where SELinux is on."""
    if not (root / "sys/fs/selinux/enforce").exists():
        return None
    chosen = re.search(r"^SELINUXTYPE=(\S+)", _text(root / "etc/selinux/config"), re.MULTILINE)
    policy = root / "etc/selinux" / (chosen[1] if chosen else "targeted")
    contexts = _text(policy / "contexts/lxc_contexts")
    found = dict(re.findall(r'^(process|file)\s*=\s*"([^"]+)"', contexts, re.MULTILINE))
    return SelinuxLabels(
        found.get("process", "system_u:system_r:container_t:s0"),
        found.get("file", "system_u:object_r:container_file_t:s0"),
    )


def _hugepages(root: Path) -> frozenset[str]:
    """The sizes that can be limited, as cgroups write them: 2MB, 1GB."""
    cgroup = root / "sys/fs/cgroup"
    counted = "hugetlb" in _text(cgroup / "cgroup.controllers").split()
    if not counted and not (cgroup / "hugetlb/cgroup.procs").exists():
        return frozenset()
    place = root / "sys/kernel/mm/hugepages"
    sizes = [int(e.name.split("-")[1][:-2]) for e in place.glob("hugepages-*kB")]
    return frozenset(f"{s >> 20}GB" if s >= 1 << 20 else f"{s >> 10}MB" for s in sizes)


def _numbers(cgroup: Path, kind: str) -> tuple[int, ...]:
    """CPUs or memory nodes of the root cgroup, of either version."""
    places = (cgroup / f"cpuset.{kind}.effective", cgroup / f"cpuset/cpuset.{kind}")
    text = next(filter(None, (_text(place).strip() for place in places)), "")
    found: list[int] = []
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        found += range(int(first), int(last or first) + 1)
    return tuple(found)


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
