"""Which sysctls a container may have: those of the namespaces that it has to itself.

All others are the whole host's (namespaces(7); runtime-spec, linux.sysctl).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from cored.errors import InvalidArgument

__all__ = ["check", "defaults"]

_IPC = (
    "kernel.msgmax", "kernel.msgmnb", "kernel.msgmni", "kernel.sem", "kernel.shmall",
    "kernel.shmmax", "kernel.shmmni", "kernel.shm_rmid_forced",
)  # fmt: skip


def check(wanted: Mapping[str, str], namespaces: Collection[str]) -> dict[str, str]:
    """The sysctls with dots in their names. InvalidArgument for one that is not the container's."""
    found = {}
    for given, value in wanted.items():
        name = _dotted(given)
        kind = _namespace(name)
        if not kind:
            raise InvalidArgument(
                f"sysctl {given!r}: is the whole host's",
                hint="containers have net.*, fs.mqueue.* and the kernel.* of System V IPC",
            )
        if kind not in namespaces:
            raise InvalidArgument(
                f"sysctl {given!r}: is the host's, as its {kind} namespace is",
                hint=f"leave the host's {kind} namespace away",
            )
        found[name] = value
    return found


def defaults(namespaces: Collection[str]) -> dict[str, str]:
    """What docker sets: low ports and ping for everybody, in a network of the container's own."""
    if "network" not in namespaces:
        return {}
    found = {"net.ipv4.ip_unprivileged_port_start": "0"}
    if "user" not in namespaces:  # the ids in it would have to be mapped
        found["net.ipv4.ping_group_range"] = "0 2147483647"
    return found


def _dotted(name: str) -> str:
    """``net/ipv4/x`` and ``net.ipv4.x`` are the same (sysctl(8)): the first separator decides."""
    slash, dot = name.find("/"), name.find(".")
    if slash >= 0 and (dot < 0 or slash < dot):
        return name.translate(str.maketrans("/.", "./"))
    return name


def _namespace(name: str) -> str:
    if name in _IPC or name.startswith("fs.mqueue."):
        return "ipc"
    if name.startswith("net.") and ".." not in name:
        return "network"
    return "uts" if name == "kernel.domainname" else ""
