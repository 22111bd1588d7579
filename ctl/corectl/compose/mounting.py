"""What a service mounts, and the volumes of a project."""

from __future__ import annotations

from collections.abc import Mapping

from corectl.compose import labels
from corectl.compose.parts import Volume
from corectl.compose.project import Project
from cored._pb.cored.workloads.v1 import volumes_pb2
from cored._pb.cored.workloads.v1 import workloads_pb2 as pb
from cored.errors import Unimplemented

__all__ = ["mount", "volume_request"]


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
