"""containerd.services.mounts.v1.Mounts"""

from __future__ import annotations

from collections.abc import AsyncIterator

from google.protobuf.empty_pb2 import Empty

from cored._pb.containerd.services.mounts.v1 import mounts_pb2 as pb
from cored._pb.containerd.types import mount_pb2
from cored.abc.mounts import Activation
from cored.abc.service import Service
from cored.engine.mounts import MountManager
from cored.services.wire import mount_message, mount_values, timestamp

__all__ = ["MountsService"]


class MountsService(Service):
    service = "containerd.services.mounts.v1.Mounts"

    def __init__(self, manager: MountManager) -> None:
        self._manager = manager

    async def Activate(self, request: pb.ActivateRequest) -> pb.ActivateResponse:
        made = await self._manager.activate(
            request.name,
            mount_values(request.mounts),
            dict(request.labels),
            temporary=request.temporary,
        )
        return pb.ActivateResponse(info=_message(made))

    async def Deactivate(self, request: pb.DeactivateRequest) -> Empty:
        await self._manager.deactivate(request.name)
        return Empty()

    async def Info(self, request: pb.InfoRequest) -> pb.InfoResponse:
        return pb.InfoResponse(info=_message(await self._manager.info(request.name)))

    async def Update(self, request: pb.UpdateRequest) -> pb.UpdateResponse:
        wanted = Activation(request.info.name, labels=dict(request.info.labels))
        changed = await self._manager.update(wanted, tuple(request.update_mask.paths))
        return pb.UpdateResponse(info=_message(changed))

    async def List(self, request: pb.ListRequest) -> AsyncIterator[pb.ListMessage]:
        for found in await self._manager.list(tuple(request.filters)):
            yield pb.ListMessage(info=_message(found))


def _message(value: Activation) -> mount_pb2.ActivationInfo:
    return mount_pb2.ActivationInfo(
        name=value.name,
        active=(
            mount_pb2.ActiveMount(
                mount=mount_message(active.mount),
                mounted_at=timestamp(active.mounted_at),
                mount_point=active.point,
                data=active.data,
            )
            for active in value.active
        ),
        system=map(mount_message, value.system),
        labels=value.labels,
    )
