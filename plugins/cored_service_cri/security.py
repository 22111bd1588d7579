"""What holds a container's processes: capabilities, filter, profile, labels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cored._pb.cri.v1 import api_pb2 as pb
from cored.errors import InvalidArgument, from_os_error
from cored.oci import capabilities, seccomp, seccomp_file
from cored.oci.security import Host, SelinuxLabels, apparmor_profile, selinux_labels

__all__ = ["apparmor", "granted", "labels", "process_capabilities", "seccomp_filter"]


def granted(wanted: pb.Capability, host: Host, *, privileged: bool) -> list[str]:
    """The capabilities that a container may use. InvalidArgument."""
    if privileged:
        there = host.capabilities
        return [name for name in capabilities.ALL if there is None or name in there]
    return capabilities.chosen(wanted.add_capabilities, wanted.drop_capabilities, host.capabilities)


def process_capabilities(given: Sequence[str], wanted: pb.Capability) -> dict[str, list[str]]:
    """``process.capabilities``. InvalidArgument."""
    found = {"bounding": list(given), "effective": list(given), "permitted": list(given)}
    if wanted.add_ambient_capabilities:
        ambient = capabilities.chosen(wanted.add_ambient_capabilities, ["ALL"])
        found |= {"inheritable": ambient, "ambient": ambient}
    return found


def seccomp_filter(
    context: pb.LinuxContainerSecurityContext | pb.LinuxSandboxSecurityContext,
    given: Sequence[str],
    host: Host,
) -> dict[str, Any] | None:
    """``linux.seccomp``; None for none, which is what a kubelet means that says nothing.

    InvalidArgument, NotFound. Blocks.
    """
    if context.privileged:
        return None
    kind, path = _profile(context, "seccomp", context.seccomp_profile_path)
    if kind == pb.SecurityProfile.Unconfined:
        return None
    if kind == pb.SecurityProfile.RuntimeDefault:
        return seccomp.profile(given, host.architecture, host.kernel, x32=host.x32)
    try:
        text = Path(path).read_text()
    except OSError as error:
        raise from_os_error(f"seccomp profile {path!r}", error) from error
    return seccomp_file.adapted(text, given, host.architecture, host.kernel)


def apparmor(context: pb.LinuxContainerSecurityContext, host: Host) -> str:
    """``process.apparmorProfile``, '' for none. FailedPrecondition when it is not loaded."""
    if not context.HasField("apparmor") and not context.apparmor_profile:
        return apparmor_profile("", host, privileged=context.privileged)
    kind, name = _profile(context, "apparmor", context.apparmor_profile)
    wanted: dict[int, str] = {
        pb.SecurityProfile.Unconfined: "unconfined",
        pb.SecurityProfile.RuntimeDefault: "",
    }
    if context.privileged:
        return apparmor_profile("", host, privileged=True)
    return apparmor_profile(wanted.get(kind, name), host, privileged=False)


def labels(
    wanted: pb.SELinuxOption, host: Host, pod: str, *, privileged: bool
) -> SelinuxLabels | None:
    """The SELinux contexts of processes and files; None where there are none."""
    parts = {name: getattr(wanted, name) for name in ("user", "role", "type", "level")}
    given = [f"{name}:{value}" for name, value in parts.items() if value]
    return selinux_labels(given, host, pod, privileged=privileged)


def _profile(context: Any, field: str, older: str) -> tuple[int, str]:
    """(type, path or name) of a profile, from its message or the older string."""
    if context.HasField(field):
        profile = getattr(context, field)
        if profile.profile_type == pb.SecurityProfile.Localhost and not profile.localhost_ref:
            raise InvalidArgument(f"{field} profile: is of type Localhost and names none")
        return int(profile.profile_type), str(profile.localhost_ref)
    if older in ("", "unconfined"):
        return int(pb.SecurityProfile.Unconfined), ""
    if older in ("runtime/default", "docker/default"):
        return int(pb.SecurityProfile.RuntimeDefault), ""
    if not older.startswith("localhost/"):
        raise InvalidArgument(f"{field} profile {older!r}: not understood")
    return int(pb.SecurityProfile.Localhost), older.removeprefix("localhost/")
