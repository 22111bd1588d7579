"""The OCI runtime spec of a container (runtime-spec 1.0.2), with docker's defaults."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cored.errors import InvalidArgument
from cored.oci import capabilities, devices, mounts, resources, seccomp, seccomp_file, sysctls
from cored.oci.devices import Device
from cored.oci.mounts import Bind, Tmpfs
from cored.oci.resources import Resources, Throttle
from cored.oci.security import (
    Host,
    Namespaces,
    Security,
    SelinuxLabels,
    apparmor_profile,
    selinux_labels,
)
from cored.oci.ulimits import Ulimit, rlimits
from cored.oci.users import IdRange, User

__all__ = ["SpecOptions", "build", "environment"]

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, slots=True)
class SpecOptions:
    """All that differs from one container to the next.

    ``id`` is for what has to be different; ``throttled`` are the resources' throttles with the
    numbers of their devices; ``ids`` are the host's ids for a user namespace; ``joined`` are
    others' namespaces by kind, and ``shm`` is the /dev/shm that goes with their IPC.
    """

    args: Sequence[str]
    env: Sequence[str]
    id: str = ""
    working_directory: str = "/"
    user: User = field(default_factory=User)
    terminal: bool = False
    hostname: str = ""
    cgroup: str = ""
    binds: Sequence[Bind] = ()
    tmpfs: Sequence[Tmpfs] = ()
    shm_size: int = 0
    privileged: bool = False
    read_only: bool = False
    cap_add: Sequence[str] = ()
    cap_drop: Sequence[str] = ()
    resources: Resources = field(default_factory=Resources)
    throttled: Sequence[tuple[Throttle, int, int]] = ()
    ulimits: Sequence[Ulimit] = ()
    sysctls: Mapping[str, str] = field(default_factory=dict)
    devices: Sequence[Device] = ()
    device_rules: Sequence[str] = ()
    security: Security = field(default_factory=Security)
    oom_score_adj: int = 0
    host_network: bool = False
    joined: Mapping[str, str] = field(default_factory=dict)
    shm: str = ""
    umask: int | None = None
    namespaces: Namespaces = field(default_factory=Namespaces)
    ids: IdRange | None = None
    host: Host = field(default_factory=Host)
    annotations: Mapping[str, str] = field(default_factory=dict)


def build(options: SpecOptions) -> dict[str, Any]:
    """The spec as a JSON document; the root filesystem is ``rootfs`` in the bundle.

    InvalidArgument, FailedPrecondition for what cannot be.
    """
    inside = _namespaces(options)
    document: dict[str, Any] = {
        "ociVersion": "1.0.2",
        "process": _process(options),
        "root": {"path": "rootfs", "readonly": options.read_only},
        "mounts": mounts.document(
            options.binds,
            options.tmpfs,
            writable=options.privileged,
            shm_size=options.shm_size,
            shm="/dev/shm" if "ipc" not in inside else options.shm,
            ids=_id_maps(options),
        ),
        "annotations": dict(options.annotations),
        "linux": _linux(options, inside),
    }
    if "uts" in inside:
        document["hostname"] = options.hostname
    labels = _labels(options)
    if labels is not None:
        document["process"]["selinuxLabel"] = labels.process
        document["linux"]["mountLabel"] = labels.file
    return document


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


def _labels(options: SpecOptions) -> SelinuxLabels | None:
    return selinux_labels(
        options.security.labels, options.host, options.id, privileged=options.privileged
    )


def _process(options: SpecOptions) -> dict[str, Any]:
    granted, host = _granted(options), options.host
    effective = granted if options.user.uid == 0 else []
    process: dict[str, Any] = {
        "terminal": options.terminal,
        "user": {
            "uid": options.user.uid,
            "gid": options.user.gid,
            # its own group too, as docker has it since CVE-2022-36109
            "additionalGids": list(dict.fromkeys((options.user.gid, *options.user.groups))),
            **({} if options.umask is None else {"umask": options.umask}),
        },
        "args": list(options.args),
        "env": list(options.env),
        "cwd": options.working_directory or "/",
        "capabilities": {
            "bounding": granted,
            "effective": effective,
            "permitted": effective,
        },
        "rlimits": rlimits(options.ulimits, host.files, dict(host.ceilings)),
        "noNewPrivileges": options.security.no_new_privileges,
    }
    if not -1000 <= options.oom_score_adj <= 1000:
        raise InvalidArgument(f"OOM score {options.oom_score_adj}: must be -1000 to 1000")
    if options.oom_score_adj:
        process["oomScoreAdj"] = max(options.oom_score_adj, host.oom_floor)
    profile = apparmor_profile(options.security.apparmor, host, privileged=options.privileged)
    if profile:
        process["apparmorProfile"] = profile
    return process


def _granted(options: SpecOptions) -> list[str]:
    there = options.host.capabilities
    if options.privileged:
        return [name for name in capabilities.ALL if there is None or name in there]
    return capabilities.chosen(options.cap_add, options.cap_drop, there)


def _namespaces(options: SpecOptions) -> list[str]:
    """Which namespaces it has to itself. InvalidArgument."""
    wanted = options.namespaces
    for kind, value in (
        ("ipc", wanted.ipc), ("pid", wanted.pid), ("uts", wanted.uts), ("cgroup", wanted.cgroup),
    ):  # fmt: skip
        shared = kind in ("ipc", "pid") and value.startswith("container:")
        # docker's: one that others may share, as each of ours may be
        shareable = kind == "ipc" and value == "shareable"
        if value not in ("", "private", "host") and not (shared or shareable):
            raise InvalidArgument(f"{kind} namespace {value!r}: unknown", hint="private or host")
    found = ["mount"]
    found += [kind for kind in ("ipc", "pid", "uts") if getattr(wanted, kind) != "host"]
    if not options.host_network:
        found.append("network")
    if wanted.cgroup == "private" or (options.host.cgroup_v2 and wanted.cgroup != "host"):
        found.append("cgroup")
    if options.ids is not None:
        if options.privileged or options.host_network:
            raise InvalidArgument(
                "user namespace: not together with privileged or the host's network",
                hint="--userns host",
            )
        found.append("user")
    return found


def _namespace(kind: str, options: SpecOptions) -> dict[str, str]:
    """One that is its own, or another container's."""
    path = options.joined.get(kind, "")
    return {"type": kind, "path": path} if path else {"type": kind}


def _id_maps(options: SpecOptions) -> list[dict[str, int]]:
    ids = options.ids
    return [{"containerID": 0, "hostID": ids.first, "size": ids.count}] if ids else []


def _linux(options: SpecOptions, inside: Sequence[str]) -> dict[str, Any]:
    limits = resources.document(options.resources, options.throttled, swap=options.host.swap)
    usable = devices.rules(options.devices, options.device_rules, everything=options.privileged)
    document: dict[str, Any] = {
        "namespaces": [_namespace(name, options) for name in inside],
        "cgroupsPath": options.cgroup,
        "resources": {"devices": usable, **limits},
        "devices": [devices.document(device) for device in options.devices],
        "sysctl": sysctls.defaults(inside) | sysctls.check(options.sysctls, inside),
    }
    if options.ids is not None:
        document["uidMappings"] = document["gidMappings"] = _id_maps(options)
    if not (options.privileged or options.security.unmasked):
        document["maskedPaths"] = list(mounts.MASKED)
        document["readonlyPaths"] = list(mounts.READ_ONLY)
    filter = _filter(options)
    if filter is not None:
        document["seccomp"] = filter
    return document


def _filter(options: SpecOptions) -> dict[str, Any] | None:
    wanted, host = options.security.seccomp, options.host
    if wanted == "unconfined" or (options.privileged and not wanted):
        return None
    granted = _granted(options)
    if wanted:
        return seccomp_file.adapted(wanted, granted, host.architecture, host.kernel)
    return seccomp.profile(granted, host.architecture, host.kernel, x32=host.x32)
