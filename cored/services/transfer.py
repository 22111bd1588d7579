"""containerd.services.transfer.v1.Transfer: images from here to there, done by the daemon.

What a transfer does follows from the kinds of its source and destination: registry to store is a
pull, store to registry a push, and so on.
"""

from __future__ import annotations

from google.protobuf.empty_pb2 import Empty

from cored._pb.containerd.services.transfer.v1 import transfer_pb2 as pb
from cored.abc.records import Image, ImageStore, LeaseStore
from cored.abc.service import Service
from cored.abc.values import Descriptor
from cored.engine.export import Exporter
from cored.engine.importing import Importer
from cored.engine.pull import Puller
from cored.engine.push import Pusher
from cored.engine.selection import Selection
from cored.engine.streams import Streams
from cored.engine.transfers import leased, put_images
from cored.errors import InvalidArgument, Unimplemented
from cored.services.bytestreams import received, sent
from cored.services.transfer_ends import End, Exporting, Importing, Remote, Stored, end
from cored.services.transfer_progress import Teller

__all__ = ["TransferService"]


class TransferService(Service):
    service = "containerd.services.transfer.v1.Transfer"

    def __init__(
        self,
        streams: Streams,
        images: ImageStore,
        leases: LeaseStore,
        puller: Puller,
        pusher: Pusher,
        importer: Importer,
        exporter: Exporter,
    ) -> None:
        self._streams = streams
        self._images = images
        self._leases = leases
        self._puller = puller
        self._pusher = pusher
        self._importer = importer
        self._exporter = exporter

    async def Transfer(self, request: pb.TransferRequest) -> Empty:
        source = end(request.source, self._streams)
        destination = end(request.destination, self._streams)
        stream = request.options.progress_stream
        async with Teller.opened(self._streams.get(stream) if stream else None) as tell:
            try:
                await self._run(source, destination, tell)
            finally:
                for each in (source, destination):
                    each.close()
        return Empty()

    async def _run(self, source: End, destination: End, tell: Teller) -> None:
        match source, destination:
            case Remote(), Stored():
                await self._pull(source, destination, tell)
            case Stored(), Remote():
                await self._push(source, destination, tell)
            case Stored(), Exporting():
                await self._export(source, destination, tell)
            case Stored(), Stored():
                await self._tag(source, destination)
            case Importing(), Stored():
                await self._import(source, destination, tell)
            case Importing(), Exporting():
                await sent(destination.stream, received(source.stream))
            case _:
                raise Unimplemented(
                    f"transfer from {source.what} to {destination.what}: cannot be done"
                )

    async def _pull(self, source: Remote, destination: Stored, tell: Teller) -> None:
        tell.event(f"Resolving from {source.what}")
        naming = destination.naming

        def found() -> None:
            tell.event(f"Pulling from {source.what}")
            tell.root(naming.name or source.reference, "fetching image content")

        images = await self._puller.pull(
            source.reference,
            destination.selection,
            naming=naming,
            access=source.access,
            report=tell.report("downloading", found),
        )
        tell.saved(images)
        tell.event(f"Completed pull from {source.what}")

    async def _push(self, source: Stored, destination: Remote, tell: Teller) -> None:
        image = await self._image(source)
        tell.event(f"Pushing to {destination.what}")
        tell.root(image.name, "pushing content", image.target)
        await self._pusher.push(
            image,
            destination.reference,
            Selection(source.selection.platforms),
            access=destination.access,
            report=tell.report("uploading"),
        )
        tell.root(image.name, "pushed content", image.target)
        tell.event(f"Completed push to {destination.what}")

    async def _export(self, source: Stored, destination: Exporting, tell: Teller) -> None:
        tell.event("Exporting")
        async with leased(self._leases, "export"):
            images = [await self._images.get(name) for name in source.names()]
            archive = self._exporter.export(
                images,
                destination.selection,
                docker=destination.docker,
                foreign=destination.foreign,
            )
            await sent(destination.stream, archive)
        tell.event("Completed export")

    async def _tag(self, source: Stored, destination: Stored) -> None:
        image = await self._image(source)
        async with leased(self._leases, "tag"):
            await put_images(self._images, _named(destination, image.target))

    async def _import(self, source: Importing, destination: Stored, tell: Teller) -> None:
        tell.event("Importing")
        images = await self._importer.import_stream(
            received(source.stream),
            "archive",
            destination.selection,
            naming=destination.naming,
            report=tell.report("downloading"),
        )
        tell.saved(images)
        tell.event("Completed import")

    async def _image(self, store: Stored) -> Image:
        if not store.naming.name:
            raise InvalidArgument("transfer: the source image has no name")
        return await self._images.get(store.naming.name)


def _named(store: Stored, target: Descriptor) -> list[Image]:
    records = store.naming.records(target)
    if not records:
        raise InvalidArgument("transfer: the destination image has no name")
    return records
