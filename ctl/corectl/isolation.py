"""Options of run and create that say what a container may see and do."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cored.errors import InvalidArgument, NotFound

if TYPE_CHECKING:
    from cored._pb.cored.workloads.v1 import workloads_pb2 as pb

__all__ = ["device", "isolation_options", "namespaces", "security", "sysctls", "tmpfs"]

_OTHERS = "private, host, container:NAME"
_SHARED = {
    "ipc": ("IPC namespace", _OTHERS),
    "pid": ("process namespace", _OTHERS),
    "uts": ("host name", "private, host"),
}


def isolation_options() -> Sequence[Callable[..., Any]]:
    option = click.option
    return (
        option("--read-only", is_flag=True, help="Root filesystem read-only."),
        option("--privileged", is_flag=True, help="All capabilities and devices, nothing masked."),
        option("--cap-add", multiple=True, help="Add a capability."),
        option("--cap-drop", multiple=True, help="Drop a capability."),
        option(
            "--security-opt",
            multiple=True,
            metavar="OPTION",
            help="no-new-privileges, seccomp=FILE|unconfined, apparmor=PROFILE, label=…,"
            " systempaths=unconfined.",
        ),
        option("--device", multiple=True, metavar="SRC[:DST][:rwm]", help="A device."),
        option("--device-cgroup-rule", multiple=True, metavar="RULE", help="'c 10:229 rwm'."),
        option("--tmpfs", multiple=True, metavar="PATH[:OPTIONS]", help="Filesystem in memory."),
        option("--shm-size", default="", metavar="BYTES[kmg]", help="Size of /dev/shm."),
        option("--sysctl", multiple=True, metavar="NAME=VALUE", help="Kernel setting of its own."),
        option("--group-add", multiple=True, metavar="GROUP", help="A further group of the user."),
        *(
            option(f"--{kind}", default="", metavar="MODE", help=f"{what}: {modes}.")
            for kind, (what, modes) in _SHARED.items()
        ),
        option("--cgroupns", default="", metavar="private|host", help="cgroup namespace."),
        option("--isolation", type=click.Choice(["", "default"]), hidden=True, help="Of Windows."),
        option("--userns", default="", metavar="host|auto|USER", help="User namespace."),
    )


def security(given: Sequence[str]) -> pb.Security:
    """docker's security options, ``key=value`` or ``key:value``. InvalidArgument, NotFound."""
    from cored._pb.cored.workloads.v1 import workloads_pb2 as pb

    found = pb.Security()
    for text in given:
        separator = "=" if "=" in text else ":"
        name, _, value = text.partition(separator)
        match name:
            case "no-new-privileges" if value in ("", "true", "false"):
                found.no_new_privileges = value != "false"
            case "seccomp" if value:
                found.seccomp = _profile(value)
            case "apparmor" if value:
                found.apparmor = value
            case "label" if value:
                found.labels.append(value)
            case "systempaths" if value == "unconfined":
                found.unmasked = True
            case _:
                raise InvalidArgument(
                    f"--security-opt '{text}': not understood",
                    hint="see corectl run --help",
                )
    return found


def _profile(value: str) -> str:
    if value == "builtin":
        return ""
    if value == "unconfined":
        return value
    try:
        return Path(value).read_text()
    except OSError as error:
        what = (error.strerror or "cannot be read").lower()
        raise NotFound(f"seccomp profile '{value}': {what}") from error


def device(text: str) -> pb.Device:
    """``/dev/fuse``, ``/dev/a:/dev/b``, ``/dev/a:r``, ``/dev/a:/dev/b:rw``."""
    from cored._pb.cored.workloads.v1 import workloads_pb2 as pb

    source, *rest = text.split(":")
    target = rest.pop(0) if rest and rest[0].startswith("/") else ""
    if not source or len(rest) > 1:
        hint = "write /dev/fuse or /dev/a:/dev/b:rw"
        raise InvalidArgument(f"--device '{text}': not understood", hint=hint)
    return pb.Device(source=source, target=target, permissions=rest[0] if rest else "")


def tmpfs(text: str) -> pb.Tmpfs:
    """``/run`` or ``/run:size=64m,mode=1777``."""
    from cored._pb.cored.workloads.v1 import workloads_pb2 as pb

    target, _, options = text.partition(":")
    return pb.Tmpfs(target=target, options=options)


def sysctls(given: Sequence[str]) -> dict[str, str]:
    found = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not (name and equals):
            raise InvalidArgument(f"--sysctl '{text}': not understood", hint="write NAME=VALUE")
        found[name] = value
    return found


def namespaces(options: Mapping[str, Any]) -> pb.Namespaces:
    from cored._pb.cored.workloads.v1 import workloads_pb2 as pb

    return pb.Namespaces(
        **{kind: options[kind] for kind in _SHARED},
        cgroup=options["cgroupns"],
        user=options["userns"],
    )
