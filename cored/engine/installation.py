"""The daemon and its host as a whole, for people who ask what they have before them."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cored.oci.security import Host

__all__ = ["Installation", "Machine", "machine"]


@dataclass(frozen=True, slots=True)
class Installation:
    """What the configuration has chosen, and ``plugins`` that are open, ids by kind."""

    version: str
    snapshotter: str
    network: str
    runtime: str
    log_driver: str
    log_level: str
    root: str
    state: str
    plugins: Mapping[str, Sequence[str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Machine:
    """``memory`` in bytes; ``security`` as docker names it."""

    kernel: str
    operating_system: str
    architecture: str
    cpus: int
    memory: int
    name: str
    security: tuple[str, ...]
    warnings: tuple[str, ...]


def machine(host: Host) -> Machine:
    """What there is here. Blocks."""
    return Machine(
        platform.release(),
        _operating_system(),
        platform.machine(),
        os.cpu_count() or 1,
        os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        os.uname().nodename,
        tuple(_security(host)),
        tuple(_warnings(host)),
    )


def _operating_system() -> str:
    for path in (Path("/etc/os-release"), Path("/usr/lib/os-release")):
        if path.exists():
            for line in path.read_text().splitlines():
                name, _, value = line.partition("=")
                if name == "PRETTY_NAME":
                    return value.strip("\"'")
    return platform.system()


def _security(host: Host) -> list[str]:
    found = ["name=seccomp,profile=builtin"]
    if host.apparmor is not None:
        found.insert(0, "name=apparmor")
    if host.selinux is not None:
        found.append("name=selinux")
    return [*found, "name=cgroupns"] if host.cgroup_v2 else found


def _warnings(host: Host) -> list[str]:
    found = []
    if not host.swap:
        found.append("No swap limit support")
    if not host.blkio_weight:
        found.append("No blkio weight support")
    return found
