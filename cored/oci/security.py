"""What holds a process besides its user: filter, profile, labels (runtime-spec, process)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

from cored.errors import FailedPrecondition, InvalidArgument

__all__ = ["Host", "Namespaces", "Security", "SelinuxLabels", "apparmor_profile", "selinux_labels"]

_PARTS = ("user", "role", "type", "level")


@dataclass(frozen=True, slots=True)
class Security:
    """What is asked for; '' and nothing are the defaults (see ``workloads.proto``)."""

    no_new_privileges: bool = False
    seccomp: str = ""
    apparmor: str = ""
    labels: tuple[str, ...] = ()
    unmasked: bool = False


@dataclass(frozen=True, slots=True)
class Namespaces:
    """Each '', private or host; ``user`` also auto or the name of who has subordinate ids."""

    ipc: str = ""
    pid: str = ""
    uts: str = ""
    cgroup: str = ""
    user: str = ""


@dataclass(frozen=True, slots=True)
class SelinuxLabels:
    """A host's contexts for containers: of a process, and of its files."""

    process: str
    file: str


@dataclass(frozen=True, slots=True)
class Host:
    """What a spec depends on; the defaults are a modern machine without anything special.

    ``capabilities`` are those that can be given at all. ``apparmor`` has the profiles that are
    loaded, None where there is no AppArmor; ``default_profile`` is ours, '' when it is not loaded.
    ``x32``: the kernel may run programs of amd64's third ABI. ``ceilings`` are hard limits that
    cannot be raised; ``oom_floor`` the lowest score that can be; ``cpus`` and ``memory_nodes`` have
    the numbers of those that can be given, none where unknown.
    """

    capabilities: frozenset[str] | None = None
    kernel: tuple[int, int] = (6, 0)
    architecture: str = "amd64"
    x32: bool = False
    cgroup_v2: bool = False
    apparmor: frozenset[str] | None = None
    default_profile: str = ""
    selinux: SelinuxLabels | None = None
    files: int = 524288
    ceilings: tuple[tuple[str, int], ...] = ()
    oom_floor: int = -1000
    swap: bool = True
    blkio_weight: bool = True
    hugepages: frozenset[str] = frozenset()
    realtime: bool = True
    cpus: tuple[int, ...] = ()
    memory_nodes: tuple[int, ...] = ()


def apparmor_profile(wanted: str, host: Host, *, privileged: bool) -> str:
    """``process.apparmorProfile``, '' for none. FailedPrecondition when it is not loaded."""
    if wanted == "unconfined" or (privileged and not wanted):
        return "" if host.apparmor is None else "unconfined"
    if not wanted:
        return host.default_profile
    if host.apparmor is None:
        raise FailedPrecondition(f"AppArmor profile {wanted!r}: this host has no AppArmor")
    if wanted not in host.apparmor:
        raise FailedPrecondition(
            f"AppArmor profile {wanted!r}: is not loaded", hint="load it with: apparmor_parser -r"
        )
    return wanted


def selinux_labels(
    wanted: Sequence[str], host: Host, id: str, *, privileged: bool
) -> SelinuxLabels | None:
    """The contexts of a container's processes and files, None for none.

    Each container has two categories of its own (MCS), so that it cannot reach another's files.
    """
    changes: dict[str, str] = {}
    for text in wanted:
        part, colon, value = text.partition(":")
        if text != "disable" and (part not in _PARTS or not colon or not value):
            raise InvalidArgument(
                f"SELinux label {text!r}: not understood",
                hint="disable, or user: role: type: level:",
            )
        changes[part] = value
    if host.selinux is None or "disable" in changes or (privileged and not changes):
        return None
    seed = int.from_bytes(sha256(id.encode()).digest()[:8], "big")
    first, second = seed % 1023, seed // 1023 % 1023
    second = second if second < first else second + 1  # two different ones of 1024
    level = changes.get("level") or f"s0:c{min(first, second)},c{max(first, second)}"
    user, role, kind = host.selinux.process.split(":")[:3]
    process = (changes.get("user", user), changes.get("role", role), changes.get("type", kind))
    file = host.selinux.file.split(":")[:3]
    return SelinuxLabels(":".join((*process, level)), ":".join((*file, level)))
