"""Linux capabilities by name (capabilities(7)), and which a container gets."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from cored.errors import InvalidArgument

__all__ = ["ALL", "DEFAULT", "chosen"]

_NAMES = """
CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE
NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO
SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG
MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM
BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE
"""
# the fourteen that docker and containerd give to everybody
_GIVEN = """
CHOWN DAC_OVERRIDE FSETID FOWNER MKNOD NET_RAW SETGID SETUID SETFCAP SETPCAP NET_BIND_SERVICE
SYS_CHROOT KILL AUDIT_WRITE
"""
ALL = tuple(f"CAP_{name}" for name in _NAMES.split())
DEFAULT = tuple(f"CAP_{name}" for name in _GIVEN.split())


def chosen(
    add: Sequence[str] = (), drop: Sequence[str] = (), there: Collection[str] | None = None
) -> list[str]:
    """The default ones with some added and dropped; ``ALL`` stands for all.

    ``there`` are those that can be given at all, if not all can. InvalidArgument.
    """
    adding, dropping = _named(add), _named(drop)
    for name in adding:
        if there is not None and name != "ALL" and name not in there:
            raise InvalidArgument(f"capability {name!r}: the daemon has it not itself")
    kept = set(ALL) if "ALL" in adding else set(DEFAULT)
    if "ALL" in dropping:
        kept = set(ALL) if "ALL" in adding else set()
    kept |= set(adding) - {"ALL"}
    kept -= set(dropping) - {"ALL"} - (set(adding) if "ALL" in dropping else set())
    return [name for name in ALL if name in kept and (there is None or name in there)]


def _named(names: Sequence[str]) -> list[str]:
    found = []
    for name in names:
        upper = name.upper()
        if upper != "ALL" and not upper.startswith("CAP_"):
            upper = f"CAP_{upper}"
        if upper != "ALL" and upper not in ALL:
            raise InvalidArgument(f"capability {name!r}: unknown", hint="see capabilities(7)")
        found.append(upper)
    return found
