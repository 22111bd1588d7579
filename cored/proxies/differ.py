"""A differ behind containerd.services.diff.v1.Diff."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from google.protobuf.timestamp_pb2 import Timestamp

from cored._pb.containerd.services.diff.v1 import diff_pb2 as pb
from cored.abc.differ import Differ
from cored.abc.values import NO_LABELS, Descriptor, Labels, Mount, Typed
from cored.proxies.peer import Peer
from cored.services.wire import (
    descriptor_message,
    descriptor_value,
    mount_message,
    typed_message,
)

__all__ = ["ProxyDiffer"]


class ProxyDiffer(Differ):
    """The differ of a peer that uses our content store."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer

    async def apply(
        self,
        layer: Descriptor,
        mounts: Sequence[Mount],
        *,
        sync: bool = False,
        payloads: Mapping[str, Typed] | None = None,
    ) -> Descriptor:
        request = pb.ApplyRequest(
            diff=descriptor_message(layer), mounts=map(mount_message, mounts), sync_fs=sync
        )
        for name, payload in (payloads or {}).items():
            request.payloads[name].CopyFrom(typed_message(payload))
        found = await self._peer.call("Apply", request, pb.ApplyResponse)
        return descriptor_value(found.applied)

    async def compare(
        self,
        lower: Sequence[Mount],
        upper: Sequence[Mount],
        *,
        media_type: str,
        ref: str = "",
        labels: Labels = NO_LABELS,
        source_date_epoch: int | None = None,
        targets: Sequence[str] = (),
    ) -> Descriptor:
        # others have no word for places of mounts
        request = pb.DiffRequest(
            left=map(mount_message, lower),
            right=map(mount_message, upper),
            media_type=media_type,
            ref=ref,
            labels=labels,
        )
        if source_date_epoch is not None:
            request.source_date_epoch.CopyFrom(Timestamp(seconds=source_date_epoch))
        return descriptor_value((await self._peer.call("Diff", request, pb.DiffResponse)).diff)
