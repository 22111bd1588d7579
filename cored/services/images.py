"""containerd.services.images.v1.Images"""

from __future__ import annotations

from dataclasses import replace

from google.protobuf.empty_pb2 import Empty

from cored._pb.containerd.services.images.v1 import images_pb2 as pb
from cored.abc.records import Image, ImageStore
from cored.abc.service import Service
from cored.metadata.gc import Scheduler
from cored.services.wire import (
    descriptor_message,
    descriptor_value,
    labels_value,
    nanoseconds,
    timestamp,
)

__all__ = ["ImagesService"]


class ImagesService(Service):
    service = "containerd.services.images.v1.Images"

    def __init__(self, store: ImageStore, gc: Scheduler) -> None:
        self._store = store
        self._gc = gc

    async def Get(self, request: pb.GetImageRequest) -> pb.GetImageResponse:
        return pb.GetImageResponse(image=_message(await self._store.get(request.name)))

    async def List(self, request: pb.ListImagesRequest) -> pb.ListImagesResponse:
        found = await self._store.list(tuple(request.filters))
        return pb.ListImagesResponse(images=map(_message, found))

    async def Create(self, request: pb.CreateImageRequest) -> pb.CreateImageResponse:
        made = await self._store.create(replace(_value(request.image), created_at=_epoch(request)))
        return pb.CreateImageResponse(image=_message(made))

    async def Update(self, request: pb.UpdateImageRequest) -> pb.UpdateImageResponse:
        wanted = replace(_value(request.image), updated_at=_epoch(request))
        changed = await self._store.update(wanted, tuple(request.update_mask.paths))
        return pb.UpdateImageResponse(image=_message(changed))

    async def Delete(self, request: pb.DeleteImageRequest) -> Empty:
        target = descriptor_value(request.target) if request.HasField("target") else None
        await self._store.delete(request.name, target=target)
        if request.sync:
            await self._gc.collect()
        return Empty()


def _epoch(request: pb.CreateImageRequest | pb.UpdateImageRequest) -> int:
    """The date that a reproducible build wants, ns; 0 for now."""
    return nanoseconds(request.source_date_epoch)


def _message(value: Image) -> pb.Image:
    return pb.Image(
        name=value.name,
        labels=value.labels,
        target=descriptor_message(value.target),
        created_at=timestamp(value.created_at),
        updated_at=timestamp(value.updated_at),
    )


def _value(message: pb.Image) -> Image:
    target = descriptor_value(message.target)
    target = replace(target, annotations=labels_value(target.annotations))
    return Image(message.name, target, labels_value(message.labels))
