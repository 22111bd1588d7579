"""The OCI runtime spec of a container in a pod, and of what holds the pod's namespaces."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cored._pb.cri.v1 import api_pb2 as pb
from cored.abc.values import Typed
from cored.engine import devices
from cored.engine.workload import DeviceRequest
from cored.errors import InvalidArgument
from cored.oci import devices as oci_devices
from cored.oci import sysctls
from cored.oci.manifest import ImageConfig
from cored.oci.security import Host
from cored.oci.spec import PATH
from cored.oci.ulimits import rlimits
from cored.oci.users import IdRange, User
from cored_service_cri import cdi, mounts, pause, resources, security
from cored_service_cri.values import Pod

__all__ = ["Order", "container", "id_range", "sandbox", "typed"]

_TYPE = "types.containerd.io/opencontainers/runtime-spec/1/Spec"
_PAUSE_SHARES = 2


@dataclass(frozen=True, slots=True)
class Order:
    """All that a container's spec is made from. ``shared`` has the paths of the namespaces that it
    joins by their type, None for one of the host's; ``images`` its image volumes' directories."""

    id: str
    config: pb.ContainerConfig
    pod: Pod
    image: ImageConfig
    user: User
    files: Path
    host: Host
    shared: Mapping[str, str | None] = field(default_factory=dict)
    images: Mapping[str, str] = field(default_factory=dict)


def typed(document: Mapping[str, Any]) -> Typed:
    """A spec as records have it."""
    return Typed(_TYPE, json.dumps(document).encode())


def id_range(modes: pb.NamespaceOption) -> IdRange | None:
    """The ids of a pod's user namespace, None without one. InvalidArgument."""
    if not modes.HasField("userns_options"):
        return None
    options = modes.userns_options
    if options.mode == pb.NODE:
        if options.uids or options.gids:
            raise InvalidArgument("user namespace: mappings make no sense with the host's")
        return None
    if options.mode != pb.POD:
        mode = pb.NamespaceMode.Name(options.mode)
        raise InvalidArgument(f"user namespace: mode {mode} is not supported", hint="POD or NODE")
    if len(options.uids) != 1 or len(options.gids) != 1:
        raise InvalidArgument("user namespace: needs exactly one mapping of users and of groups")
    if options.uids[0] != options.gids[0]:
        raise InvalidArgument("user namespace: users and groups must be mapped alike")
    ids = options.uids[0]
    if ids.container_id != 0 or not ids.length:
        raise InvalidArgument("user namespace: the mapping must begin with the container's 0")
    return IdRange(ids.host_id, ids.length)


def sandbox(pod: Pod, netns: str, files: Path, host: Host) -> dict[str, Any]:
    """The spec of a pod's pause; ``netns`` is '' for a namespace of its own."""
    linux = pod.config.linux
    context, modes = linux.security_context, pod.modes
    given = security.granted(pb.Capability(), host, privileged=False)
    shared: dict[str, str | None] = {"network": None if pod.host_network else netns}
    shared |= {"ipc": None if modes.ipc == pb.NODE else ""}
    shared |= {"pid": None if modes.pid == pb.NODE else ""}
    shared |= {"uts": None if pod.host_network else ""}
    ids = id_range(modes)
    document: dict[str, Any] = {
        "ociVersion": "1.0.2",
        "process": {
            "user": {"uid": 0, "gid": 0},
            "args": [pause.COMMAND],
            "env": [f"PATH={PATH}"],
            "cwd": "/",
            "capabilities": security.process_capabilities(given, pb.Capability()),
            "noNewPrivileges": True,
            "oomScoreAdj": max(-998, host.oom_floor),
        },
        "root": {"path": "rootfs", "readonly": True},
        "mounts": mounts.usual(writable=False, shm=_shm(pod, files)),
        "annotations": _annotations(pod, "sandbox", pod.id),
        "linux": {
            "namespaces": _namespaces(shared, host, ids),
            "cgroupsPath": resources.cgroup_path(linux.cgroup_parent, pod.id),
            "resources": {
                "devices": oci_devices.rules(()),
                "cpu": {"shares": _PAUSE_SHARES},
            },
            "sysctl": _sysctls(pod, ids),
            "seccomp": security.seccomp_filter(context, given, host),
        },
    }
    if not pod.host_network:
        document["hostname"] = pod.config.hostname
    return _finished(document, context.selinux_options, pod, host, context.privileged, ids)


def container(order: Order) -> dict[str, Any]:
    """The spec of a container. InvalidArgument, NotFound, FailedPrecondition. Blocks."""
    config, pod, host = order.config, order.pod, order.host
    context = config.linux.security_context
    ids = id_range(pod.modes)
    given = security.granted(context.capabilities, host, privileged=context.privileged)
    usable = [DeviceRequest(d.host_path, d.container_path, d.permissions) for d in config.devices]
    nodes = devices.everything() if context.privileged else []
    nodes += [one for one in devices.found(usable) if one.path not in {n.path for n in nodes}]
    limits = resources.document(config.linux.resources, host)
    rules = oci_devices.rules(nodes, everything=context.privileged)
    standard = mounts.usual(writable=context.privileged, shm=_shm(pod, order.files))
    standard += [
        mounts.bind(str(order.files / name), f"/etc/{name}", mode)
        for name, mode in _files(pod, context.readonly_rootfs)
    ]
    document: dict[str, Any] = {
        "ociVersion": "1.0.2",
        "process": _process(order, given),
        "root": {"path": "rootfs", "readonly": context.readonly_rootfs},
        "mounts": mounts.document(config.mounts, order.images, standard),
        "annotations": _annotations(pod, "container", order.id) | dict(config.annotations),
        "linux": {
            "namespaces": _namespaces(order.shared, host, ids, privileged=context.privileged),
            "cgroupsPath": resources.cgroup_path(pod.config.linux.cgroup_parent, order.id),
            "resources": {"devices": rules, **limits},
            "devices": [oci_devices.document(one) for one in nodes],
            "seccomp": security.seccomp_filter(context, given, host),
        },
    }
    if not context.privileged:
        document["linux"]["maskedPaths"] = list(context.masked_paths)
        document["linux"]["readonlyPaths"] = list(context.readonly_paths)
    travels = mounts.propagation(config.mounts)
    if travels:
        document["linux"]["rootfsPropagation"] = travels
    cdi.inject(document, cdi.names(config))
    selinux = context.selinux_options
    return _finished(document, selinux, pod, host, context.privileged, ids)


def _process(order: Order, given: Sequence[str]) -> dict[str, Any]:
    config, host, user = order.config, order.host, order.user
    context = config.linux.security_context
    process: dict[str, Any] = {
        "terminal": config.tty,
        "user": {"uid": user.uid, "gid": user.gid, "additionalGids": list(user.groups)},
        "args": _command(config, order.image),
        "env": _environment(order),
        "cwd": config.working_dir or order.image.working_dir or "/",
        "capabilities": security.process_capabilities(given, context.capabilities),
        "rlimits": rlimits((), host.files, dict(host.ceilings)),
        "noNewPrivileges": context.no_new_privs,
        "oomScoreAdj": resources.oom_score(config.linux.resources.oom_score_adj, host),
    }
    profile = security.apparmor(context, host)
    if profile:
        process["apparmorProfile"] = profile
    return process


def _command(config: pb.ContainerConfig, image: ImageConfig) -> list[str]:
    """Kubernetes' rules: a command of the pod's lets the image's arguments fall."""
    if config.command:
        found = [*config.command, *config.args]
    else:
        found = [*image.entrypoint, *(config.args or image.cmd)]
    if not found or not found[0]:
        raise InvalidArgument(f"container {config.metadata.name!r}: no command, nor in its image")
    return found


def _environment(order: Order) -> list[str]:
    hostname = os.uname().nodename if order.pod.host_network else order.pod.config.hostname
    values = {"PATH": PATH, "HOSTNAME": hostname}
    if order.config.tty:
        values["TERM"] = "xterm"
    for entry in order.image.env:
        name, _, value = entry.partition("=")
        values[name] = value
    for one in order.config.envs:
        values[one.key] = one.value.decode("utf-8", "surrogateescape")
    return [f"{name}={value}" for name, value in values.items()]


def _namespaces(
    shared: Mapping[str, str | None],
    host: Host,
    ids: IdRange | None,
    *,
    privileged: bool = False,
) -> list[dict[str, str]]:
    found = [{"type": "mount"}]
    for kind, path in shared.items():
        if path is not None:
            found.append({"type": kind, "path": path} if path else {"type": kind})
    if host.cgroup_v2 and not privileged:
        found.append({"type": "cgroup"})
    if ids is not None and "user" not in shared:
        found.append({"type": "user"})
    return found


def _sysctls(pod: Pod, ids: IdRange | None) -> dict[str, str]:
    inside = ["mount"]
    inside += [] if pod.host_network else ["network", "uts"]
    inside += [] if pod.modes.ipc == pb.NODE else ["ipc"]
    usual = {} if ids is not None else sysctls.defaults(inside)
    return usual | sysctls.check(pod.config.linux.sysctls, inside)


def _shm(pod: Pod, files: Path) -> str:
    return "/dev/shm" if pod.modes.ipc == pb.NODE else str(files / "shm")


def _files(pod: Pod, read_only: bool) -> list[tuple[str, str]]:
    """The pod's files in /etc, and whether a container may write to them."""
    mode = "ro" if read_only else "rw"
    return [(name, mode) for name in ("hostname", "hosts", "resolv.conf")]


def _annotations(pod: Pod, kind: str, id: str) -> dict[str, str]:
    """What runtimes that know pods look for (runsc, kata)."""
    meta = pod.config.metadata
    return {
        **pod.config.annotations,
        "io.kubernetes.cri.container-type": kind,
        "io.kubernetes.cri.sandbox-id": pod.id,
        "io.kubernetes.cri.sandbox-name": meta.name,
        "io.kubernetes.cri.sandbox-namespace": meta.namespace,
        "io.kubernetes.cri.sandbox-uid": meta.uid,
    }


def _finished(
    document: dict[str, Any],
    selinux: pb.SELinuxOption,
    pod: Pod,
    host: Host,
    privileged: bool,
    ids: IdRange | None,
) -> dict[str, Any]:
    found = security.labels(selinux, host, pod.id, privileged=privileged)
    if found is not None:
        document["process"]["selinuxLabel"] = found.process
        document["linux"]["mountLabel"] = found.file
    if document["linux"]["seccomp"] is None:
        del document["linux"]["seccomp"]
    if ids is not None:
        mapping = [{"containerID": 0, "hostID": ids.first, "size": ids.count}]
        document["linux"]["uidMappings"] = document["linux"]["gidMappings"] = mapping
    return document
