"""What must be the same of two processes so that one may do the other's work.

The kernel's own lists are compared whole: identities, capabilities, namespaces, limits, cgroups,
signals that are ignored, and what Python was told. What a caller has and passes on (its files,
directory, environment, arguments) is not in it.
"""

import os
import sys

__all__ = ["likeness"]

_STATUS = (
    b"Umask", b"Uid", b"Gid", b"Groups", b"SigBlk", b"SigIgn", b"CapInh", b"CapPrm", b"CapEff",
    b"CapBnd", b"CapAmb", b"NoNewPrivs", b"Seccomp", b"Seccomp_filters", b"Cpus_allowed",
    b"Mems_allowed",
)  # fmt: skip
_FILES = ("limits", "cgroup", "loginuid", "oom_score_adj", "timerslack_ns", "attr/current")
_NAMESPACES = ("cgroup", "ipc", "mnt", "net", "pid_for_children", "time", "user", "uts")
_LOCALE = (b"LANG", b"LANGUAGE", b"LC_", b"PYTHON", b"LD_", b"MALLOC_")


def likeness() -> bytes:
    """Of this process, as it was started; 2 KB."""
    parts = [
        b"\n".join(
            line for line in _read("status").split(b"\n") if line.partition(b":")[0] in _STATUS
        ),
        *map(_read, _FILES),
        *(os.fsencode(os.readlink(f"/proc/self/ns/{name}")) for name in _NAMESPACES),
        *sorted(b"=".join(item) for item in os.environb.items() if item[0].startswith(_LOCALE)),
    ]
    root = os.stat("/")
    made = f"{root.st_dev} {root.st_ino} {os.getpriority(os.PRIO_PROCESS, 0)} {sys.version}"
    parts.append(os.fsencode(f"{made} {sys.executable} {sys.path} {sys.flags}"))
    return b"\n".join(parts)


def _read(name: str) -> bytes:
    """A list of this process's; nothing where the kernel has none."""
    try:
        file = os.open(f"/proc/self/{name}", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return b""
    try:
        return os.read(file, 65536)
    except OSError:
        # attr/current without a security module: EINVAL
        return b""
    finally:
        os.close(file)
