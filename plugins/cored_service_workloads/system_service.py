"""cored.workloads.v1.System"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from dataclasses import dataclass

from cored._pb.cored.workloads.v1 import system_pb2 as pb
from cored.abc.records import ImageStore, NamespaceStore
from cored.abc.service import Service
from cored.engine.containers import Containers
from cored.engine.disk_usage import DiskUsage
from cored.engine.installation import Installation, machine
from cored.engine.networks import Catalog
from cored.engine.tasks import Tasks
from cored.engine.workload import NAME
from cored.errors import InvalidArgument
from cored.oci.digest import is_digest
from cored_service_workloads.messages import timestamp

__all__ = ["SystemParts", "SystemService"]

_KINDS = ("container", "running", "stopped", "image", "volume", "network", "namespace")


@dataclass(frozen=True, slots=True)
class SystemParts:
    """What the calls stand on."""

    containers: Containers
    tasks: Tasks
    images: ImageStore
    namespaces: NamespaceStore
    networks: Catalog
    usage: DiskUsage
    installation: Installation


class SystemService(Service):
    service = "cored.workloads.v1.System"

    def __init__(self, parts: SystemParts) -> None:
        self._parts = parts

    async def Info(self, request: pb.InfoRequest) -> pb.InfoResponse:
        parts, what = self._parts, self._parts.installation
        counts = Counter(view.status for view in await parts.containers.list(all=True))
        host = await asyncio.to_thread(machine, parts.containers.host)
        runtimes = await parts.tasks.runtimes()
        usual = [one.name for one in runtimes if one.usual]
        return pb.InfoResponse(
            containers=counts.total(),
            running=counts["running"] + counts["restarting"],
            paused=counts["paused"],
            stopped=counts["stopped"] + counts["created"],
            images=len(await parts.images.list()),
            version=what.version,
            snapshotter=what.snapshotter,
            log_driver=what.log_driver,
            network=what.network,
            cgroup_version=2 if parts.containers.host.cgroup_v2 else 1,
            runtime=usual[0] if usual else what.runtime,
            runtimes=[one.name for one in runtimes if not one.problem],
            plugins={kind: pb.Ids(ids=ids) for kind, ids in what.plugins.items()},
            security=host.security,
            kernel=host.kernel,
            operating_system=host.operating_system,
            architecture=host.architecture,
            cpus=host.cpus,
            memory=host.memory,
            host=host.name,
            root=what.root,
            state=what.state,
            pid=os.getpid(),
            warnings=host.warnings,
            log_level=what.log_level,
        )

    async def DiskUsage(self, request: pb.DiskUsageRequest) -> pb.DiskUsageResponse:
        images = await self._parts.usage.images()
        return pb.DiskUsageResponse(
            images=[
                pb.ImageUsage(
                    name=one.image.name,
                    id=one.id,
                    created_at=timestamp(one.image.created_at),
                    size=one.size,
                    shared=one.shared,
                    containers=one.containers,
                )
                for one in images.images
            ],
            images_size=images.size,
            images_reclaimable=images.reclaimable,
            volumes=[
                pb.VolumeUsage(name=one.name, users=one.users, size=one.size)
                for one in await self._parts.usage.volumes()
            ],
        )

    async def Names(self, request: pb.NamesRequest) -> pb.NamesResponse:
        if request.kind not in _KINDS:
            raise InvalidArgument(f"kind {request.kind!r}: unknown", hint=", ".join(_KINDS))
        found = await self._names(request.kind)
        return pb.NamesResponse(
            names=sorted({name for name in found if name.startswith(request.prefix)})
        )

    async def _names(self, kind: str) -> list[str]:
        parts = self._parts
        match kind:
            case "image":
                return [one.name for one in await parts.images.list() if not is_digest(one.name)]
            case "volume":
                return [one.name for one in await parts.containers.storage.volumes.all()]
            case "network":
                return [one.name for one in await asyncio.to_thread(parts.networks.list)]
            case "namespace":
                return [one.name for one in await parts.namespaces.list()]
        return [
            record.labels[NAME]
            for record in await parts.containers.views.records()
            if NAME in record.labels
            and (kind == "container" or parts.containers.running(record.id) == (kind == "running"))
        ]
