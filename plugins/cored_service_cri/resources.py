"""A container's limits: from a kubelet's to the runtime spec's, and where its cgroup is."""

from __future__ import annotations

from typing import Any

from cored import log
from cored._pb.cri.v1 import api_pb2 as pb
from cored.errors import InvalidArgument
from cored.oci.security import Host

__all__ = ["cgroup_path", "document", "is_systemd", "merged", "oom_score"]

_DEFAULT_PARENT = "/k8s.io"


def is_systemd(parent: str) -> bool:
    """Whether a pod's cgroup is systemd's: kubelet's driver shows in what it calls the parent."""
    return parent.endswith(".slice")


def cgroup_path(parent: str, id: str) -> str:
    """``linux.cgroupsPath`` of a container, in the words of the pod's driver."""
    if is_systemd(parent):
        return f"{parent.rstrip('/').rpartition('/')[2]}:cored:{id}"
    return f"{parent.rstrip('/') or _DEFAULT_PARENT}/{id}"


def document(wanted: pb.LinuxContainerResources, host: Host) -> dict[str, Any]:
    """``linux.resources`` but for its devices; 0 is no limit. InvalidArgument."""
    if wanted.unified and not host.cgroup_v2:
        raise InvalidArgument("unified limits: this host has cgroup v1")
    cpu = {
        "shares": wanted.cpu_shares,
        "quota": wanted.cpu_quota,
        "period": wanted.cpu_period,
        "cpus": wanted.cpuset_cpus,
        "mems": wanted.cpuset_mems,
    }
    limit, swap = wanted.memory_limit_in_bytes, wanted.memory_swap_limit_in_bytes
    memory: dict[str, Any] = {}
    if limit:
        memory["limit"] = limit
        if host.swap:
            memory["swap"] = swap or limit  # no swap, unless a kubelet says otherwise
    pages = []
    for one in wanted.hugepage_limits:
        if one.page_size in host.hugepages:
            pages.append({"pageSize": one.page_size, "limit": one.limit})
        elif one.limit:
            log.get("cri").warning("this kernel has no such huge pages", size=one.page_size)
    parts = {
        "cpu": {name: value for name, value in cpu.items() if value},
        "memory": memory,
        "hugepageLimits": pages,
        "unified": dict(wanted.unified),
    }
    return {name: part for name, part in parts.items() if part}


def oom_score(wanted: int, host: Host) -> int:
    """Not below what the daemon may set. InvalidArgument."""
    if not -1000 <= wanted <= 1000:
        raise InvalidArgument(f"OOM score {wanted}: must be -1000 to 1000")
    return max(wanted, host.oom_floor)


def merged(
    old: pb.LinuxContainerResources, new: pb.LinuxContainerResources
) -> pb.LinuxContainerResources:
    """What holds after an update that names only what changes."""
    result = pb.LinuxContainerResources()
    result.CopyFrom(old)
    if new.hugepage_limits:
        del result.hugepage_limits[:]
    result.MergeFrom(new)
    return result
