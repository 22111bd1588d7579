"""What a service mounts, and the volumes of a project."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from corectl.compose import labels
from corectl.compose.parts import Volume
from corectl.compose.project import Project
from cored._pb.cored.workloads.v1 import volumes_pb2
from cored._pb.cored.workloads.v1 import workloads_pb2 as pb
from cored.errors import Unimplemented

__all__ = ["keep_volumes", "mount", "volume_request"]

# the daemon's names for volumes that nobody named
_ANONYMOUS = re.compile("[0-9a-f]{64}")


def mount(config: pb.ContainerConfig, project: Project, volume: Volume) -> None:
    """Put one mount into ``config``. Unimplemented."""
    match volume.type:
        case "bind":
            config.mounts.add(
                source=volume.source,
                target=volume.target,
                read_only=volume.read_only,
                create_source=volume.bind.create_host_path,
                propagation=volume.bind.propagation,
                shallow=volume.bind.recursive == "disabled",
            )
        case "tmpfs":
            options = [f"size={volume.tmpfs.size}"] if volume.tmpfs.size else []
            if volume.tmpfs.mode is not None:
                options.append(f"mode={volume.tmpfs.mode:o}")
            options += ["ro"] if volume.read_only else []
            config.tmpfs.add(target=volume.target, options=",".join(options))
        case "volume":
            config.volumes.add(
                name=project.volumes[volume.source].name if volume.source else "",
                target=volume.target,
                read_only=volume.read_only,
                no_copy=volume.volume.nocopy,
                subpath=volume.volume.subpath,
                labels=_texts(volume.volume.labels),
            )
        case kind:
            raise Unimplemented(f"volumes: type {kind}: cored does not have it")


def keep_volumes(config: pb.ContainerConfig, before: Iterable[pb.MountPoint]) -> None:
    """Put the anonymous volumes of the container before it into ``config``."""
    unnamed = {one.target: one for one in config.volumes if not one.name}
    named = {one.target for one in (*config.mounts, *config.volumes, *config.tmpfs) if one.target}
    for one in before:
        if one.type != "volume" or not _ANONYMOUS.fullmatch(one.name):
            continue
        if one.target in unnamed:
            unnamed[one.target].name = one.name
        elif one.target not in named:
            config.volumes.add(name=one.name, target=one.target, read_only=one.read_only)


def volume_request(project: Project, name: str) -> volumes_pb2.CreateVolumeRequest:
    """What makes a volume of the project."""
    volume = project.volumes[name]
    own = {labels.PROJECT: project.name, labels.VOLUME: name}
    return volumes_pb2.CreateVolumeRequest(
        name=volume.name,
        driver=volume.driver,
        options=_texts(volume.driver_opts),
        labels={**_texts(volume.labels), **own},
    )


def _texts(values: Mapping[str, str | None]) -> dict[str, str]:
    return {key: value or "" for key, value in values.items()}
