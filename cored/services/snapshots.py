"""containerd.services.snapshots.v1.Snapshots"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

from google.protobuf.empty_pb2 import Empty

from cored._pb.containerd.services.snapshots.v1 import snapshots_pb2 as pb
from cored.abc.service import Service
from cored.abc.snapshots import Kind, Snapshot, Snapshotter
from cored.errors import InvalidArgument
from cored.services.wire import label_changes, labels_value, mount_message, timestamp

__all__ = ["SnapshotsService"]

_KINDS = {Kind.VIEW: pb.VIEW, Kind.ACTIVE: pb.ACTIVE, Kind.COMMITTED: pb.COMMITTED}
_PAGE = 100


class SnapshotsService(Service):
    service = "containerd.services.snapshots.v1.Snapshots"

    def __init__(
        self, snapshotters: Mapping[str, Snapshotter], default: Callable[[], Awaitable[str]]
    ) -> None:
        self._snapshotters = snapshotters
        self._default = default

    async def _one(self, name: str) -> Snapshotter:
        wanted = name or await self._default()
        try:
            return self._snapshotters[wanted]
        except KeyError:
            raise InvalidArgument(
                f"snapshotter {wanted!r}: not loaded",
                hint=f"loaded ones: {', '.join(self._snapshotters) or 'none'}",
            ) from None

    async def Prepare(self, request: pb.PrepareSnapshotRequest) -> pb.PrepareSnapshotResponse:
        mounts = await (await self._one(request.snapshotter)).prepare(
            request.key, request.parent, labels_value(request.labels)
        )
        return pb.PrepareSnapshotResponse(mounts=map(mount_message, mounts))

    async def View(self, request: pb.ViewSnapshotRequest) -> pb.ViewSnapshotResponse:
        mounts = await (await self._one(request.snapshotter)).view(
            request.key, request.parent, labels_value(request.labels)
        )
        return pb.ViewSnapshotResponse(mounts=map(mount_message, mounts))

    async def Mounts(self, request: pb.MountsRequest) -> pb.MountsResponse:
        mounts = await (await self._one(request.snapshotter)).mounts(request.key)
        return pb.MountsResponse(mounts=map(mount_message, mounts))

    async def Commit(self, request: pb.CommitSnapshotRequest) -> Empty:
        await (await self._one(request.snapshotter)).commit(
            request.name, request.key, labels_value(request.labels), parent=request.parent or None
        )
        return Empty()

    async def Remove(self, request: pb.RemoveSnapshotRequest) -> Empty:
        await (await self._one(request.snapshotter)).remove(request.key)
        return Empty()

    async def Stat(self, request: pb.StatSnapshotRequest) -> pb.StatSnapshotResponse:
        found = await (await self._one(request.snapshotter)).stat(request.key)
        return pb.StatSnapshotResponse(info=_message(found))

    async def Update(self, request: pb.UpdateSnapshotRequest) -> pb.UpdateSnapshotResponse:
        changes, replace = label_changes(
            dict(request.info.labels), tuple(request.update_mask.paths)
        )
        changed = await (await self._one(request.snapshotter)).update(
            request.info.name, changes, replace=replace
        )
        return pb.UpdateSnapshotResponse(info=_message(changed))

    async def List(
        self, request: pb.ListSnapshotsRequest
    ) -> AsyncIterator[pb.ListSnapshotsResponse]:
        page: list[pb.Info] = []
        async for snapshot in (await self._one(request.snapshotter)).walk(tuple(request.filters)):
            page.append(_message(snapshot))
            if len(page) >= _PAGE:
                yield pb.ListSnapshotsResponse(info=page)
                page = []
        if page:
            yield pb.ListSnapshotsResponse(info=page)

    async def Usage(self, request: pb.UsageRequest) -> pb.UsageResponse:
        usage = await (await self._one(request.snapshotter)).usage(request.key)
        return pb.UsageResponse(size=usage.size, inodes=usage.inodes)

    async def Cleanup(self, request: pb.CleanupRequest) -> Empty:
        await (await self._one(request.snapshotter)).cleanup()
        return Empty()


def _message(value: Snapshot) -> pb.Info:
    return pb.Info(
        name=value.name,
        parent=value.parent,
        kind=_KINDS[value.kind],
        created_at=timestamp(value.created_at),
        updated_at=timestamp(value.updated_at),
        labels=value.labels,
    )
