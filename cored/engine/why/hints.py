"""What the words in logs and in runtimes' errors mean for a container."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from cored.engine.why.values import Cause
from cored.engine.workload import ContainerConfig
from cored.oci import capabilities

__all__ = ["denials", "mount_problem"]

_NOT_PERMITTED = re.compile(
    r"operation not permitted|\bEPERM\b|denied \(are you root|must be (super-?user|root)",
    re.IGNORECASE,
)
_READ_ONLY = re.compile(r"read-only file ?system|\bEROFS\b", re.IGNORECASE)
_NO_SPACE = re.compile(r"no space left on device|\bENOSPC\b", re.IGNORECASE)
_NO_FORK = re.compile(
    r"(can't|cannot|unable to) fork|resource temporarily unavailable", re.IGNORECASE
)
_MOUNT = re.compile(
    r"mount(?:ing)? [\"`'](?P<source>[^\"`']+)[\"`'] to (?:rootfs at )?[\"`'](?P<target>[^\"`']+)"
)
# what somebody tries who is then told that it is not permitted
_TRIED = {
    "mount": "SYS_ADMIN", "umount": "SYS_ADMIN", "chroot": "SYS_CHROOT", "chown": "CHOWN",
    "ip link": "NET_ADMIN", "RTNETLINK": "NET_ADMIN", "iptables": "NET_ADMIN",
    "date": "SYS_TIME", "settimeofday": "SYS_TIME", "ptrace": "SYS_PTRACE", "mknod": "MKNOD",
    "setpriority": "SYS_NICE", "nice": "SYS_NICE", "hostname": "SYS_ADMIN",
    "setuid": "SETUID", "setgid": "SETGID", "setgroups": "SETGID", "kill": "KILL",
    "bind": "NET_BIND_SERVICE", "ping": "NET_RAW", "swapon": "SYS_ADMIN", "insmod": "SYS_MODULE",
}  # fmt: skip


def denials(
    lines: Sequence[str], config: ContainerConfig, process: Mapping[str, Any]
) -> list[Cause]:
    """What the last words of a container were about, as far as its rights may be the reason."""
    found = []
    if line := _last(lines, _NOT_PERMITTED):
        found.append(_not_permitted(line, config, process))
    if config.read_only and (line := _last(lines, _READ_ONLY)):
        hint = "--tmpfs or -v for where it must write"
        found.append(Cause("denied", f"its root is read-only: {line}", hint, telling=True))
    if line := _last(lines, _NO_SPACE):
        found.append(Cause("denied", f"a disk or tmpfs is full: {line}", telling=True))
    if config.resources.pids_limit > 0 and (line := _last(lines, _NO_FORK)):
        text = f"its pids limit is {config.resources.pids_limit}: {line}"
        found.append(Cause("pids", text, "raise it with --pids-limit", telling=True))
    return found


def _not_permitted(line: str, config: ContainerConfig, process: Mapping[str, Any]) -> Cause:
    held = set((process.get("capabilities") or {}).get("bounding") or ())
    wanted = next((f"CAP_{cap}" for word, cap in _TRIED.items() if _tried(word, line)), "")
    missing = [name.removeprefix("CAP_") for name in capabilities.ALL if name not in held]
    filtered = config.security.seccomp != "unconfined" and not config.privileged
    if wanted and wanted not in held:
        text = f"it has no {wanted}, which that takes: {line}"
        hint = f"--cap-add {wanted.removeprefix('CAP_')}"
    elif config.cap_drop and missing:
        text = f"it was refused something, and has dropped {', '.join(config.cap_drop)}: {line}"
        hint = "leave --cap-drop away, or add what it needs with --cap-add"
    elif missing:
        text = f"it was refused something: {line}"
        hint = f"it has {len(held)} capabilities of {len(held) + len(missing)}; see --cap-add"
        hint += ", and a seccomp filter" if filtered else ""
    else:
        text = f"it was refused something, with all capabilities: {line}"
        hint = "seccomp, AppArmor or the kernel itself; see --security-opt"
    return Cause("denied", text, hint, telling=True)


def mount_problem(message: str) -> tuple[str, str] | None:
    """Source and target of the mount that a runtime's error is about."""
    found = _MOUNT.search(message)
    return None if found is None else (found["source"], f"/{found['target'].lstrip('/')}")


def _last(lines: Sequence[str], pattern: re.Pattern[str]) -> str:
    return next((line.strip()[:200] for line in reversed(lines) if pattern.search(line)), "")


def _tried(word: str, line: str) -> bool:
    return re.search(rf"\b{re.escape(word)}\b", line) is not None
