"""What a service mounts."""

from __future__ import annotations

from corectl.compose import labels
from corectl.compose.lifetime import put
from corectl.compose.parts import Volume
from corectl.compose.project import Project
from cored._pb.cored.workloads.v1 import workloads_pb2 as pb
from cored.errors import Unimplemented

__all__ = ["mount"]


def mount(config: pb.ContainerConfig, project: Project, volume: Volume) -> None:
    """Put one mount into ``config``. Unimplemented."""
    match volume.type:
        case "bind":
            bind = volume.bind
            made = {
                "source": volume.source,
                "target": volume.target,
                "read_only": volume.read_only,
                "create_source": bind.create_host_path,
            }
            if bind.propagation:
                _known("BindMount", "propagation", f"volumes: {bind.propagation}")
                made["propagation"] = bind.propagation
            config.mounts.add(**made)
        case "tmpfs":
            options = [f"size={volume.tmpfs.size}"] if volume.tmpfs.size else []
            if volume.tmpfs.mode is not None:
                options.append(f"mode={volume.tmpfs.mode:o}")
            options += ["ro"] if volume.read_only else []
            config.tmpfs.add(target=volume.target, options=",".join(options))
        case "volume":
            _volume(config, project, volume)
        case kind:
            raise Unimplemented(f"volumes: type {kind}: cored does not have it")


def _volume(config: pb.ContainerConfig, project: Project, volume: Volume) -> None:
    made: dict[str, object] = {
        "target": volume.target,
        "read_only": volume.read_only,
        "no_copy": volume.volume.nocopy,
        "subpath": volume.volume.subpath,
    }
    if volume.source:
        named = project.volumes[volume.source]
        made |= {"name": named.name, "driver": named.driver}
        if not named.external:
            made["options"] = {key: value or "" for key, value in named.driver_opts.items()}
            own = {labels.PROJECT: project.name, labels.VOLUME: volume.source}
            made["labels"] = {**{k: v or "" for k, v in named.labels.items()}, **own}
    put(config, "volumes", [made], "volumes")


def _known(message: str, field: str, key: str) -> None:
    if field not in getattr(pb, message).DESCRIPTOR.fields_by_name:
        raise Unimplemented(f"{key}: this daemon does not have it yet")
