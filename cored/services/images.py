"""containerd.services.images.v1.Images"""

from __future__ import annotations

from google.protobuf.empty_pb2 import Empty

from cored._pb.containerd.services.images.v1 import images_pb2 as pb
from cored.abc.records import Image, ImageStore
from cored.abc.service import Service
from cored.metadata.gc import Scheduler
from cored.services.wire import descriptor_message, descriptor_value, labels_value, timestamp

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
        made = await self._store.create(_value(request.image))
        return pb.CreateImageResponse(image=_message(made))

    async def Update(self, request: pb.UpdateImageRequest) -> pb.UpdateImageResponse:
        changed = await self._store.update(_value(request.image), tuple(request.update_mask.paths))
        return pb.UpdateImageResponse(image=_message(changed))

    async def Delete(self, request: pb.DeleteImageRequest) -> Empty:
        target = descriptor_value(request.target) if request.HasField("target") else None
        await self._store.delete(request.name, target=target)
        if request.sync:
            await self._gc.collect()
        return Empty()


def _message(value: Image) -> pb.Image:
    return pb.Image(
        name=value.name,
        labels=value.labels,
        target=descriptor_message(value.target),
        created_at=timestamp(value.created_at),
        updated_at=timestamp(value.updated_at),
    )


def _value(message: pb.Image) -> Image:
    return Image(message.name, descriptor_value(message.target), labels_value(message.labels))
