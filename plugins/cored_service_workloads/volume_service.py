"""cored.workloads.v1.Volumes"""

from __future__ import annotations

from collections.abc import Sequence

from google.protobuf.empty_pb2 import Empty

from cored._pb.cored.workloads.v1 import volumes_pb2 as pb
from cored.abc.service import Service
from cored.engine.storage import Storage
from cored.engine.volumes import Volume
from cored.errors import FailedPrecondition, InvalidArgument, NotFound
from cored_service_workloads.messages import timestamp

__all__ = ["VolumesService"]

_LIST = ("dangling", "driver", "label", "name")
_PRUNE = ("all", "label", "label!")


class VolumesService(Service):
    service = "cored.workloads.v1.Volumes"

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._catalog = storage.volumes

    async def Create(self, request: pb.CreateVolumeRequest) -> pb.Volume:
        made = await self._catalog.create(
            request.name,
            driver=request.driver,
            options=dict(request.options),
            labels=dict(request.labels),
        )
        return self._message(made)

    async def List(self, request: pb.ListVolumesRequest) -> pb.ListVolumesResponse:
        filters = _parsed(request.filters, _LIST)
        users = await self._storage.all_users()
        found = [
            self._message(volume, users.get(volume.name, ()))
            for volume in await self._catalog.all()
            if _passes(volume, bool(users.get(volume.name)), filters)
        ]
        return pb.ListVolumesResponse(volumes=found)

    async def Inspect(self, request: pb.InspectVolumeRequest) -> pb.Volume:
        volume = await self._catalog.get(request.name)
        return self._message(volume, await self._storage.users(volume.name))

    async def Remove(self, request: pb.RemoveVolumeRequest) -> Empty:
        try:
            await self._catalog.remove(request.name, await self._storage.users(request.name))
        except NotFound:
            if not request.force:
                raise
        return Empty()

    async def Prune(self, request: pb.PruneVolumesRequest) -> pb.PruneVolumesResponse:
        filters = _parsed(request.filters, _PRUNE)
        everything = filters.pop("all", ["false"])[-1] in ("true", "1")
        users = await self._storage.all_users()
        removed, freed = [], 0
        for volume in await self._catalog.all():
            wanted = (everything or volume.anonymous) and not users.get(volume.name)
            if not wanted or not _passes(volume, False, filters):
                continue
            try:
                freed += await self._catalog.remove(volume.name, ())
            except (NotFound, FailedPrecondition):
                continue
            removed.append(volume.name)
        return pb.PruneVolumesResponse(removed=removed, reclaimed=freed)

    def _message(self, volume: Volume, users: Sequence[str] = ()) -> pb.Volume:
        return pb.Volume(
            name=volume.name,
            driver=volume.driver,
            mountpoint=str(self._catalog.directory(volume)),
            labels=volume.labels,
            options=volume.options,
            created_at=timestamp(volume.created_at),
            users=users,
            anonymous=volume.anonymous,
        )


def _parsed(filters: Sequence[str], known: Sequence[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for text in filters:
        key, equals, value = text.partition("=")
        if key not in known or not equals:
            raise InvalidArgument(f"filter {text!r}: unknown", hint=", ".join(known))
        found.setdefault(key, []).append(value)
    return found


def _passes(volume: Volume, used: bool, filters: dict[str, list[str]]) -> bool:
    for key, values in filters.items():
        match key:
            case "dangling":
                if used != (values[-1] in ("false", "0")):
                    return False
            case "driver":
                if volume.driver not in values:
                    return False
            case "name":
                if not any(value in volume.name for value in values):
                    return False
            case "label":
                if not all(_labelled(volume, value) for value in values):
                    return False
            case _:
                if any(_labelled(volume, value) for value in values):
                    return False
    return True


def _labelled(volume: Volume, wanted: str) -> bool:
    name, equals, value = wanted.partition("=")
    return name in volume.labels and (not equals or volume.labels[name] == value)
