"""The OCI runtime spec of a container (runtime-spec 1.0.2), with docker's defaults."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cored.oci import capabilities, platforms, seccomp
from cored.oci.users import User

__all__ = ["Bind", "SpecOptions", "build", "environment"]

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_MASKED = (
    "/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys",
    "/proc/latency_stats", "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug",
    "/proc/scsi", "/sys/firmware", "/sys/devices/virtual/powercap",
)  # fmt: skip
_READ_ONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
# null zero full random urandom tty console ptmx, and the pseudo terminals
_DEVICES = ((1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 1), (5, 2), (136, None))


@dataclass(frozen=True, slots=True)
class Bind:
    """A bind mount."""

    source: str
    target: str
    read_only: bool = False


@dataclass(frozen=True, slots=True)
class SpecOptions:
    """All that differs from one container to the next; sizes in bytes, ``cpus`` in billionths.

    ``files`` is the hard limit of open files.
    """

    args: Sequence[str]
    env: Sequence[str]
    working_directory: str = "/"
    user: User = field(default_factory=User)
    terminal: bool = False
    hostname: str = ""
    cgroup: str = ""
    binds: Sequence[Bind] = ()
    privileged: bool = False
    read_only: bool = False
    cap_add: Sequence[str] = ()
    cap_drop: Sequence[str] = ()
    memory: int = 0
    cpus: int = 0
    pids: int = 0
    files: int = 1024
    host_network: bool = False
    cgroup_v2: bool = False
    annotations: Mapping[str, str] = field(default_factory=dict)


def build(options: SpecOptions) -> dict[str, Any]:
    """The spec as a JSON document; the root filesystem is ``rootfs`` in the bundle."""
    return {
        "ociVersion": "1.0.2",
        "process": _process(options),
        "root": {"path": "rootfs", "readonly": options.read_only},
        "hostname": options.hostname,
        "mounts": _mounts(options),
        "annotations": dict(options.annotations),
        "linux": _linux(options),
    }


def environment(
    base: Sequence[str], more: Sequence[str], hostname: str, terminal: bool
) -> list[str]:
    """The image's variables, then the user's over them; PATH, HOSTNAME and TERM if nobody says."""
    values = {"PATH": PATH, "HOSTNAME": hostname}
    if terminal:
        values["TERM"] = "xterm"
    for entry in (*base, *more):
        name, _, value = entry.partition("=")
        values[name] = value
    return [f"{name}={value}" for name, value in values.items()]


def _process(options: SpecOptions) -> dict[str, Any]:
    granted = _granted(options)
    effective = granted if options.user.uid == 0 else []
    return {
        "terminal": options.terminal,
        "user": {
            "uid": options.user.uid,
            "gid": options.user.gid,
            "additionalGids": list(options.user.groups),
        },
        "args": list(options.args),
        "env": list(options.env),
        "cwd": options.working_directory or "/",
        "capabilities": {
            "bounding": granted,
            "effective": effective,
            "permitted": effective,
        },
        "rlimits": [
            {"type": "RLIMIT_NOFILE", "soft": min(1024, options.files), "hard": options.files}
        ],
        "noNewPrivileges": False,
    }


def _granted(options: SpecOptions) -> list[str]:
    if options.privileged:
        return list(capabilities.ALL)
    return capabilities.chosen(options.cap_add, options.cap_drop)


def _mounts(options: SpecOptions) -> list[dict[str, Any]]:
    control = "rw" if options.privileged else "ro"
    mounts = [
        _mount("/proc", "proc", "proc", "nosuid", "noexec", "nodev"),
        _mount("/dev", "tmpfs", "tmpfs", "nosuid", "strictatime", "mode=755", "size=65536k"),
        _mount(
            "/dev/pts", "devpts", "devpts", "nosuid", "noexec", "newinstance", "ptmxmode=0666",
            "mode=0620", "gid=5",
        ),
        _mount("/dev/shm", "tmpfs", "shm", "nosuid", "noexec", "nodev", "mode=1777", "size=65536k"),
        _mount("/dev/mqueue", "mqueue", "mqueue", "nosuid", "noexec", "nodev"),
        _mount("/sys", "sysfs", "sysfs", "nosuid", "noexec", "nodev", control),
        _mount("/sys/fs/cgroup", "cgroup", "cgroup", "nosuid", "noexec", "nodev", control),
    ]  # fmt: skip
    # a mount below another one comes after it, whatever order they were given in
    for bind in sorted(options.binds, key=lambda bind: bind.target.count("/")):
        mode = "ro" if bind.read_only else "rw"
        mounts.append(_mount(bind.target, "bind", bind.source, "rbind", "rprivate", mode))
    return mounts


def _mount(target: str, kind: str, source: str, *options: str) -> dict[str, Any]:
    return {"destination": target, "type": kind, "source": source, "options": list(options)}


def _linux(options: SpecOptions) -> dict[str, Any]:
    namespaces = ["pid", "ipc", "uts", "mount"]
    if not options.host_network:
        namespaces.append("network")
    if options.cgroup_v2:
        namespaces.append("cgroup")
    document: dict[str, Any] = {
        "namespaces": [{"type": name} for name in namespaces],
        "cgroupsPath": options.cgroup,
        "resources": _resources(options),
    }
    if not options.privileged:
        document["maskedPaths"] = list(_MASKED)
        document["readonlyPaths"] = list(_READ_ONLY)
        document["seccomp"] = seccomp.profile(_granted(options), platforms.host().architecture)
    return document


def _resources(options: SpecOptions) -> dict[str, Any]:
    resources: dict[str, Any] = {"devices": [{"allow": options.privileged, "access": "rwm"}]}
    if not options.privileged:
        for major, minor in _DEVICES:
            rule: dict[str, Any] = {"allow": True, "type": "c", "major": major, "access": "rwm"}
            resources["devices"].append(rule if minor is None else {**rule, "minor": minor})
        # mknod of anything, use of none but the above
        for kind in "cb":
            resources["devices"].append({"allow": True, "type": kind, "access": "m"})
    if options.memory:
        resources["memory"] = {"limit": options.memory, "swap": options.memory * 2}
    if options.cpus:
        resources["cpu"] = {"period": 100_000, "quota": max(options.cpus // 10_000, 1000)}
    if options.pids:
        resources["pids"] = {"limit": options.pids}
    return resources
