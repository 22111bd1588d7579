"""What is mounted in a container besides its root filesystem (runtime-spec, mounts)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cored.errors import InvalidArgument

__all__ = ["MASKED", "READ_ONLY", "Bind", "Tmpfs", "document"]

MASKED = (
    "/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys",
    "/proc/latency_stats", "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug",
    "/proc/scsi", "/sys/firmware", "/sys/devices/virtual/powercap",
)  # fmt: skip
READ_ONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
_SHM = 64 << 20
# docker's, for every tmpfs that does not say otherwise
_CAREFUL = ("noexec", "nosuid", "nodev")
_FLAGS = """
rw ro exec noexec suid nosuid dev nodev sync async atime noatime diratime nodiratime relatime
norelatime strictatime nostrictatime private rprivate shared rshared slave rslave
"""
_VALUES = "size mode uid gid nr_inodes nr_blocks mpol huge"


@dataclass(frozen=True, slots=True)
class Bind:
    """``propagation`` '' is rprivate; ``shallow`` leaves out what is mounted below the source."""

    source: str
    target: str
    read_only: bool = False
    propagation: str = ""
    shallow: bool = False


@dataclass(frozen=True, slots=True)
class Tmpfs:
    """A filesystem in memory; ``options`` are mount(8)'s, with commas."""

    target: str
    options: str = ""


def document(
    binds: Sequence[Bind],
    tmpfs: Sequence[Tmpfs] = (),
    *,
    writable: bool = False,
    shm_size: int = 0,
    shm: str = "",
    ids: Sequence[Mapping[str, int]] = (),
) -> list[dict[str, Any]]:
    """``mounts``: the usual ones, then these. InvalidArgument.

    ``writable`` is for /sys; ``shm`` is the /dev/shm of others, '' for one of its own; ``ids``
    are the mappings that the owners of binds are seen through.
    """
    control = "rw" if writable else "ro"
    mounts = [
        _mount("/proc", "proc", "proc", "nosuid", "noexec", "nodev"),
        _mount("/dev", "tmpfs", "tmpfs", "nosuid", "strictatime", "mode=755", "size=65536k"),
        _mount(
            "/dev/pts", "devpts", "devpts", "nosuid", "noexec", "newinstance", "ptmxmode=0666",
            "mode=0620", "gid=5",
        ),
        _mount("/sys", "sysfs", "sysfs", "nosuid", "noexec", "nodev", control),
        _mount("/sys/fs/cgroup", "cgroup", "cgroup", "nosuid", "noexec", "nodev", control),
    ]  # fmt: skip
    # the host's queues, where the IPC namespace is the host's
    mounts.append(_mount("/dev/mqueue", "mqueue", "mqueue", "nosuid", "noexec", "nodev"))
    if shm:
        mounts.append(_mount("/dev/shm", "bind", shm, "rbind", "nosuid", "noexec", "nodev"))
    else:
        size = f"size={shm_size or _SHM}"
        shared = ("nosuid", "noexec", "nodev", "mode=1777", size)
        mounts.append(_mount("/dev/shm", "tmpfs", "shm", *shared))
    asked = [_tmpfs(one) for one in tmpfs]
    for bind in binds:
        mode = "ro" if bind.read_only else "rw"
        kind, propagation = "bind" if bind.shallow else "rbind", bind.propagation or "rprivate"
        if propagation.removeprefix("r") not in ("private", "shared", "slave"):
            raise InvalidArgument(f"mount {bind.target!r}: propagation {propagation!r} is unknown")
        mount = _mount(bind.target, "bind", bind.source, kind, propagation, mode)
        asked.append({**mount, "uidMappings": ids, "gidMappings": ids} if ids else mount)
    replaced = {mount["destination"] for mount in asked}
    mounts = [mount for mount in mounts if mount["destination"] not in replaced] + asked
    # a mount below another one comes after it, whatever order they were given in
    mounts.sort(key=lambda mount: mount["destination"].rstrip("/").count("/"))
    return mounts


def _tmpfs(wanted: Tmpfs) -> dict[str, Any]:
    if not wanted.target.startswith("/") or wanted.target == "/":
        raise InvalidArgument(f"tmpfs {wanted.target!r}: must be an absolute path, and not /")
    given = [option for option in wanted.options.split(",") if option]
    for option in given:
        name, equals, _ = option.partition("=")
        if name not in (_VALUES if equals else _FLAGS).split():
            raise InvalidArgument(f"tmpfs {wanted.target!r}: there is no option {option!r}")
    kept = [word for word in _CAREFUL if word.removeprefix("no") not in given and word not in given]
    return _mount(wanted.target, "tmpfs", "tmpfs", *kept, *given)


def _mount(target: str, kind: str, source: str, *options: str) -> dict[str, Any]:
    return {"destination": target, "type": kind, "source": source, "options": list(options)}
