"""The calls of cored.workloads.v1.Workloads about images and registries."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace

from google.protobuf.empty_pb2 import Empty

from cored._pb.cored.workloads.v1 import images_pb2, workloads_pb2
from cored.abc.content import ContentStore
from cored.abc.records import Image, ImageStore, LeaseStore
from cored.engine.export import Exporter
from cored.engine.image_details import ImageDetails
from cored.engine.image_mounts import ImageMounts
from cored.engine.image_removal import ImageRemoval
from cored.engine.images import Images
from cored.engine.importing import Importer
from cored.engine.progress import Progress, Report
from cored.engine.pull import Puller
from cored.engine.push import Pusher
from cored.engine.push_choice import to_push
from cored.engine.registry import Registry, login
from cored.engine.selection import Selection, Unpack, single
from cored.engine.transfers import leased, put_images
from cored.errors import InvalidArgument, NotFound
from cored.oci import platforms
from cored.oci.digest import is_digest
from cored.oci.reference import parse as parse_reference
from cored_service_workloads.image_messages import (
    access_value,
    credentials_value,
    inspection_message,
    mount_message,
    summary_message,
)
from cored_service_workloads.transfer import reported

__all__ = ["ImageCalls", "ImageParts"]


@dataclass(frozen=True, slots=True)
class ImageParts:
    """What the calls stand on."""

    images: Images
    store: ImageStore
    content: ContentStore
    leases: LeaseStore
    details: ImageDetails
    removal: ImageRemoval
    mounts: ImageMounts
    puller: Puller
    pusher: Pusher
    importer: Importer
    exporter: Exporter
    registry: Registry


class ImageCalls:
    """One method for each RPC."""

    def __init__(self, parts: ImageParts) -> None:
        self._parts = parts

    async def Pull(
        self, request: workloads_pb2.PullRequest
    ) -> AsyncIterator[workloads_pb2.TransferProgress]:
        selection = single(request.platform, request.snapshotter)
        if request.all_platforms:
            selection = Selection(unpacks=(Unpack(platforms.host(), request.snapshotter),))
        before = await self._target(str(parse_reference(request.reference)))

        async def work(report: Report) -> Sequence[Image]:
            return await self._parts.puller.pull(
                request.reference, selection, access=access_value(request.auths), report=report
            )

        async for message in reported(work, lambda image: image.target.digest != before):
            yield message

    async def Push(
        self, request: images_pb2.PushRequest
    ) -> AsyncIterator[workloads_pb2.TransferProgress]:
        image = await self._parts.images.resolve(request.reference)
        destination = request.destination or image.name
        if is_digest(destination):
            raise InvalidArgument(
                f"image {request.reference!r}: has no name to push it under",
                hint="give it one with: corectl tag",
            )
        sent = await to_push(
            self._parts.content, image, request.platform, everything=request.all_platforms
        )

        async def work(report: Report) -> Sequence[Image]:
            if sent.target.digest != image.target.digest:
                report(Progress(sent.target.digest, "one platform of several"))
            await self._parts.pusher.push(
                sent, destination, access=access_value(request.auths), report=report
            )
            return [replace(sent, name=str(parse_reference(destination)))]

        async for message in reported(work):
            yield message

    async def Import(
        self, requests: AsyncIterator[workloads_pb2.ImportRequest]
    ) -> AsyncIterator[workloads_pb2.TransferProgress]:
        first = await anext(requests, None)
        if first is None or not first.HasField("options"):
            raise InvalidArgument("import: the first message must have the options")
        options = first.options

        async def data() -> AsyncIterator[bytes]:
            if first.data:
                yield first.data
            async for request in requests:
                yield request.data

        async def work(report: Report) -> Sequence[Image]:
            return await self._parts.importer.import_stream(
                data(),
                options.source or "archive",
                single(options.platform, options.snapshotter),
                name=options.name,
                unnamed=options.unnamed,
                report=report,
            )

        async for message in reported(work):
            yield message

    async def Export(
        self, request: images_pb2.ExportRequest
    ) -> AsyncIterator[images_pb2.ExportResponse]:
        async with leased(self._parts.leases, "export"):
            images = [await self._parts.images.resolve(name) for name in request.references]
            unique = {image.name: image for image in images}
            selection = Selection(tuple(platforms.parse(text) for text in request.platforms))
            archive = self._parts.exporter.export(list(unique.values()), selection, whole=True)
            async for data in archive:
                yield images_pb2.ExportResponse(data=data)

    async def ListImages(
        self, request: workloads_pb2.ListImagesRequest
    ) -> workloads_pb2.ListImagesResponse:
        found = await self._parts.details.list(request.filters)
        return workloads_pb2.ListImagesResponse(images=map(summary_message, found))

    async def InspectImage(
        self, request: images_pb2.InspectImageRequest
    ) -> images_pb2.InspectImageResponse:
        found = await self._parts.details.inspect(request.reference, request.platform)
        return inspection_message(found)

    async def TagImage(self, request: images_pb2.TagImageRequest) -> Empty:
        target = parse_reference(request.target)
        if target.digest:
            raise InvalidArgument(f"image tag {request.target!r}: a name cannot have a digest")
        async with leased(self._parts.leases, "tag"):
            image = await self._parts.images.resolve(request.source)
            await put_images(self._parts.store, [Image(str(target), image.target)])
        return Empty()

    async def RemoveImage(
        self, request: workloads_pb2.RemoveImageRequest
    ) -> workloads_pb2.RemoveImageResponse:
        done = await self._parts.removal.remove(request.reference, force=request.force)
        return workloads_pb2.RemoveImageResponse(untagged=done.untagged, deleted=done.deleted)

    async def PruneImages(
        self, request: images_pb2.PruneImagesRequest
    ) -> images_pb2.PruneImagesResponse:
        done = await self._parts.removal.prune(request.filters, everything=request.all)
        return images_pb2.PruneImagesResponse(
            untagged=done.untagged, deleted=done.deleted, reclaimed=done.freed
        )

    async def MountImage(
        self, request: images_pb2.MountImageRequest
    ) -> images_pb2.MountImageResponse:
        mounts = await self._parts.mounts.prepare(
            request.reference,
            request.target,
            platform=request.platform,
            snapshotter=request.snapshotter,
            writable=request.writable,
        )
        return images_pb2.MountImageResponse(mounts=map(mount_message, mounts))

    async def UnmountImage(self, request: images_pb2.UnmountImageRequest) -> Empty:
        await self._parts.mounts.give_back(request.target)
        return Empty()

    async def Login(self, request: images_pb2.LoginRequest) -> images_pb2.LoginResponse:
        token = await login(
            self._parts.registry, request.auth.host, credentials_value(request.auth)
        )
        return images_pb2.LoginResponse(identity_token=token)

    async def _target(self, name: str) -> str:
        """What a name points to; '' for an unknown one."""
        try:
            return (await self._parts.store.get(name)).target.digest
        except NotFound:
            return ""
