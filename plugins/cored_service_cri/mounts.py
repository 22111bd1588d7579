"""What is mounted in a container: the usual, the pod's files, and what a kubelet asks for."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cored._pb.cri.v1 import api_pb2 as pb
from cored.errors import FailedPrecondition, InvalidArgument, from_os_error
from cored.oci import mounts

__all__ = ["bind", "check", "document", "propagation", "usual"]

_PROPAGATION = {
    pb.PROPAGATION_PRIVATE: "rprivate",
    pb.PROPAGATION_HOST_TO_CONTAINER: "rslave",
    pb.PROPAGATION_BIDIRECTIONAL: "rshared",
}


def usual(*, writable: bool, shm: str) -> list[dict[str, Any]]:
    """proc, dev, sys and their like; ``shm`` is the directory that the pod shares."""
    found = mounts.document((), writable=writable)
    return [one for one in found if one["destination"] != "/dev/shm"] + [
        bind(shm, "/dev/shm", "nosuid", "noexec", "nodev", "rw")
    ]


def bind(source: str, target: str, *options: str) -> dict[str, Any]:
    """A bind mount that does not travel."""
    words = ["rbind", "rprivate", *options]
    return {"destination": target, "type": "bind", "source": source, "options": words}


def check(wanted: Sequence[pb.Mount]) -> None:
    """InvalidArgument for what contradicts itself."""
    for one in wanted:
        what = f"mount {one.container_path!r}"
        if not one.container_path:
            raise InvalidArgument("mount: has no container_path")
        if not one.host_path and not one.HasField("image"):
            raise InvalidArgument(f"{what}: has neither a host_path nor an image")
        if one.recursive_read_only:
            if not one.readonly:
                raise InvalidArgument(f"{what}: recursive_read_only needs readonly beside it")
            if one.propagation != pb.PROPAGATION_PRIVATE:
                raise InvalidArgument(f"{what}: recursive_read_only needs private propagation")
        if one.HasField("image") and not one.readonly:
            raise InvalidArgument(f"{what}: an image volume must be readonly")


def document(
    wanted: Sequence[pb.Mount], images: Mapping[str, str], standard: Sequence[dict[str, Any]]
) -> list[dict[str, Any]]:
    """``mounts``: what a kubelet asks for over the ``standard`` ones, in order of their depth.

    ``images`` has the directories of image volumes by container path. FailedPrecondition where
    the host does not propagate. Blocks.
    """
    asked = [_mount(one, images) for one in wanted]
    replaced = {one["destination"].rstrip("/") for one in asked}
    kept = [one for one in standard if one["destination"] not in replaced]
    found = kept + asked
    found.sort(key=lambda one: one["destination"].rstrip("/").count("/"))
    return found


def propagation(wanted: Sequence[pb.Mount]) -> str:
    """``linux.rootfsPropagation`` that lets the mounts travel as they are to."""
    modes = {one.propagation for one in wanted}
    if pb.PROPAGATION_BIDIRECTIONAL in modes:
        return "rshared"
    return "rslave" if pb.PROPAGATION_HOST_TO_CONTAINER in modes else ""


def _mount(wanted: pb.Mount, images: Mapping[str, str]) -> dict[str, Any]:
    target = _absolute(wanted.container_path)
    if wanted.HasField("image"):
        return bind(images[wanted.container_path], target, "ro")
    source = _source(wanted.host_path)
    mode = "rro" if wanted.recursive_read_only else ("ro" if wanted.readonly else "rw")
    _check_propagation(source, wanted)
    options = ["rbind", _PROPAGATION[wanted.propagation], mode, *wanted.mount_options]
    made = {"destination": target, "type": "bind", "source": source, "options": options}
    for name in ("uidMappings", "gidMappings"):
        ids = [
            {"containerID": m.container_id, "hostID": m.host_id, "size": m.length}
            for m in getattr(wanted, name)
        ]
        if ids:
            made[name] = ids
    return made


def _source(path: str) -> str:
    """Where a path of the host's leads; made as a directory when it is not there."""
    try:
        if not os.path.lexists(path):
            Path(path).mkdir(parents=True, exist_ok=True)
        return str(Path(path).resolve(strict=True))
    except OSError as error:
        raise from_os_error(f"mount source {path!r}", error) from error


def _absolute(path: str) -> str:
    return path if path.startswith("/") else f"/{path}"


def _check_propagation(source: str, wanted: pb.Mount) -> None:
    """Mounts travel only from what is shared on the host (mount_namespaces(7))."""
    if wanted.propagation == pb.PROPAGATION_PRIVATE:
        return
    there = _optional_fields(source)
    shared = any(word.startswith("shared:") for word in there)
    slave = any(word.startswith("master:") for word in there)
    if wanted.propagation == pb.PROPAGATION_BIDIRECTIONAL and not shared:
        raise FailedPrecondition(
            f"mount {wanted.host_path!r}: is not on a shared mount",
            hint="mount --make-rshared the filesystem that it is on",
        )
    if not (shared or slave):
        raise FailedPrecondition(
            f"mount {wanted.host_path!r}: is on neither a shared nor a slave mount",
            hint="mount --make-rshared the filesystem that it is on",
        )


def _optional_fields(path: str) -> list[str]:
    """Those of the mount that a path is on (proc_pid_mountinfo(5))."""
    best, found = "", []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        words = line.split(" ")
        point = words[4].encode().decode("unicode_escape")
        inside = point == "/" or path == point or path.startswith(f"{point}/")
        if inside and len(point) >= len(best):
            best, found = point, words[6 : words.index("-")]
    return found
