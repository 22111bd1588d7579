"""A snapshotter behind containerd.services.snapshots.v1.Snapshots."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence

from google.protobuf.empty_pb2 import Empty
from google.protobuf.field_mask_pb2 import FieldMask

from cored._pb.containerd.services.snapshots.v1 import snapshots_pb2 as pb
from cored.abc.snapshots import Kind, Snapshot, Snapshotter, Usage
from cored.abc.values import NO_LABELS, Labels, Mount
from cored.errors import NotFound, Unimplemented
from cored.proxies.peer import Peer
from cored.services.wire import mount_values

__all__ = ["ProxySnapshotter"]

_KINDS = {pb.VIEW: Kind.VIEW, pb.ACTIVE: Kind.ACTIVE, pb.COMMITTED: Kind.COMMITTED}


class ProxySnapshotter(Snapshotter):
    """``name`` is what the peer calls it."""

    def __init__(
        self, peer: Peer, name: str, capabilities: frozenset[str], exports: Mapping[str, str]
    ) -> None:
        self._peer = peer
        self._name = name
        self.capabilities = capabilities
        self.exports = exports

    async def stat(self, key: str) -> Snapshot:
        request = pb.StatSnapshotRequest(snapshotter=self._name, key=key)
        return _snapshot((await self._peer.call("Stat", request, pb.StatSnapshotResponse)).info)

    async def update(
        self, key: str, labels: Mapping[str, str | None], *, replace: bool = False
    ) -> Snapshot:
        paths = ["labels"] if replace else [f"labels.{label}" for label in labels]
        request = pb.UpdateSnapshotRequest(
            snapshotter=self._name,
            info=pb.Info(name=key, labels={k: v for k, v in labels.items() if v}),
            update_mask=FieldMask(paths=paths),
        )
        return _snapshot((await self._peer.call("Update", request, pb.UpdateSnapshotResponse)).info)

    async def usage(self, key: str) -> Usage:
        request = pb.UsageRequest(snapshotter=self._name, key=key)
        found = await self._peer.call("Usage", request, pb.UsageResponse)
        return Usage(found.size, found.inodes)

    async def mounts(self, key: str) -> list[Mount]:
        request = pb.MountsRequest(snapshotter=self._name, key=key)
        return mount_values((await self._peer.call("Mounts", request, pb.MountsResponse)).mounts)

    async def prepare(self, key: str, parent: str = "", labels: Labels = NO_LABELS) -> list[Mount]:
        request = pb.PrepareSnapshotRequest(
            snapshotter=self._name, key=key, parent=parent, labels=labels
        )
        made = await self._peer.call("Prepare", request, pb.PrepareSnapshotResponse)
        return mount_values(made.mounts)

    async def view(self, key: str, parent: str = "", labels: Labels = NO_LABELS) -> list[Mount]:
        request = pb.ViewSnapshotRequest(
            snapshotter=self._name, key=key, parent=parent, labels=labels
        )
        made = await self._peer.call("View", request, pb.ViewSnapshotResponse)
        return mount_values(made.mounts)

    async def commit(
        self, name: str, key: str, labels: Labels = NO_LABELS, *, parent: str | None = None
    ) -> None:
        if parent is not None and "rebase" not in self.capabilities:
            if (await self.stat(key)).parent != parent:
                raise Unimplemented(f"snapshotter {self._name!r}: cannot put {key!r} on a parent")
            parent = None
        request = pb.CommitSnapshotRequest(
            snapshotter=self._name, name=name, key=key, labels=labels, parent=parent or ""
        )
        await self._peer.call("Commit", request, Empty)

    async def remove(self, key: str) -> None:
        request = pb.RemoveSnapshotRequest(snapshotter=self._name, key=key)
        await self._peer.call("Remove", request, Empty)

    async def walk(self, filters: Sequence[str] = ()) -> AsyncIterator[Snapshot]:
        request = pb.ListSnapshotsRequest(snapshotter=self._name, filters=filters)
        async for page in self._peer.stream("List", request, pb.ListSnapshotsResponse):
            for info in page.info:
                yield _snapshot(info)

    async def cleanup(self) -> None:
        request = pb.CleanupRequest(snapshotter=self._name)
        try:
            await self._peer.call("Cleanup", request, Empty)
        except (Unimplemented, NotFound):
            return  # it has nothing to clean up later: containerd takes it so, too


def _snapshot(info: pb.Info) -> Snapshot:
    return Snapshot(
        info.name,
        _KINDS[info.kind],
        info.parent,
        dict(info.labels),
        info.created_at.ToNanoseconds(),
        info.updated_at.ToNanoseconds(),
    )
