"""containerd.services.diff.v1.Diff"""

from __future__ import annotations

from collections.abc import Mapping

from cored._pb.containerd.services.diff.v1 import diff_pb2 as pb
from cored.abc.differ import Differ
from cored.abc.service import Service
from cored.abc.values import Descriptor, Typed
from cored.errors import Unimplemented
from cored.oci.mediatypes import OCI_LAYER_GZIP
from cored.services.wire import descriptor_message, descriptor_value, labels_value, mount_values

__all__ = ["DiffService"]


class DiffService(Service):
    """Asks the differs in turn until one knows the media type."""

    service = "containerd.services.diff.v1.Diff"

    def __init__(self, differs: Mapping[str, Differ]) -> None:
        self._differs = tuple(differs.values())

    async def Apply(self, request: pb.ApplyRequest) -> pb.ApplyResponse:
        layer = descriptor_value(request.diff)
        payloads = {k: Typed(v.type_url, v.value) for k, v in request.payloads.items()}
        refused = Unimplemented("diff: no differ is loaded")
        for differ in self._differs:
            try:
                applied = await differ.apply(
                    layer, mount_values(request.mounts), sync=request.sync_fs, payloads=payloads
                )
            except Unimplemented as error:
                refused = error
            else:
                return pb.ApplyResponse(applied=descriptor_message(applied))
        raise refused

    async def Diff(self, request: pb.DiffRequest) -> pb.DiffResponse:
        epoch: int | None = None
        if request.HasField("source_date_epoch"):
            epoch = request.source_date_epoch.seconds
        refused = Unimplemented("diff: no differ is loaded")
        for differ in self._differs:
            try:
                made: Descriptor = await differ.compare(
                    mount_values(request.left),
                    mount_values(request.right),
                    media_type=request.media_type or OCI_LAYER_GZIP,
                    ref=request.ref,
                    labels=labels_value(request.labels),
                    source_date_epoch=epoch,
                )
            except Unimplemented as error:
                refused = error
            else:
                return pb.DiffResponse(diff=descriptor_message(made))
        raise refused
