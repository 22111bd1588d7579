"""cored.workloads.v1.Workloads"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from google.protobuf.empty_pb2 import Empty

from cored._pb.cored.workloads.v1 import workloads_pb2 as pb
from cored.abc.records import Image
from cored.abc.service import Service
from cored.engine import logs
from cored.engine.containers import Containers
from cored.engine.images import Images
from cored.engine.importing import Importer
from cored.engine.progress import Report
from cored.engine.pull import Puller
from cored.engine.registry import Credentials, known_user
from cored.engine.selection import single
from cored.engine.tasks import Tasks
from cored.errors import FailedPrecondition, InvalidArgument, NotFound
from cored_service_workloads.messages import (
    config_message,
    config_value,
    container_message,
    image_message,
    runtime_message,
    stdio_value,
    timestamp,
)
from cored_service_workloads.transfer import reported

__all__ = ["WorkloadsService"]


class WorkloadsService(Service):
    service = "cored.workloads.v1.Workloads"

    def __init__(
        self,
        containers: Containers,
        images: Images,
        puller: Puller,
        importer: Importer,
        tasks: Tasks,
    ) -> None:
        self._containers = containers
        self._images = images
        self._puller = puller
        self._importer = importer
        self._tasks = tasks

    async def Pull(self, request: pb.PullRequest) -> AsyncIterator[pb.TransferProgress]:
        user = Credentials(request.username, request.password) if request.username else None

        async def work(report: Report) -> Sequence[Image]:
            return await self._puller.pull(
                request.reference,
                single(request.platform, request.snapshotter),
                access=known_user(user),
                report=report,
            )

        async for message in reported(work):
            yield message

    async def Import(
        self, requests: AsyncIterator[pb.ImportRequest]
    ) -> AsyncIterator[pb.TransferProgress]:
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
            return await self._importer.import_stream(
                data(),
                options.source or "archive",
                single(options.platform, options.snapshotter),
                name=options.name,
                report=report,
            )

        async for message in reported(work):
            yield message

    async def ListImages(self, request: pb.ListImagesRequest) -> pb.ListImagesResponse:
        return pb.ListImagesResponse(
            images=[await self._image(image) for image in await self._images.list()]
        )

    async def RemoveImage(self, request: pb.RemoveImageRequest) -> pb.RemoveImageResponse:
        name = await self._images.remove(request.reference, force=request.force)
        return pb.RemoveImageResponse(untagged=[name])

    async def Create(self, request: pb.CreateRequest) -> pb.CreateResponse:
        made = await self._containers.create(
            config_value(request.config), stdio_value(request.stdio)
        )
        return pb.CreateResponse(id=made.record.id, name=made.name, warnings=made.warnings)

    async def Start(self, request: pb.StartRequest) -> pb.StartResponse:
        stdio = stdio_value(request.stdio) if request.HasField("stdio") else None
        return pb.StartResponse(pid=await self._containers.start(request.container, stdio))

    async def Wait(self, request: pb.WaitRequest) -> pb.WaitResponse:
        exit = await self._containers.wait(request.container)
        return pb.WaitResponse(exit_status=exit.status, exited_at=timestamp(exit.exited_at))

    async def Kill(self, request: pb.KillRequest) -> Empty:
        await self._containers.kill(request.container, request.signal or 9, all=request.all)
        return Empty()

    async def Stop(self, request: pb.StopRequest) -> Empty:
        await self._containers.stop(request.container, request.timeout_seconds or 10)
        return Empty()

    async def Remove(self, request: pb.RemoveRequest) -> Empty:
        await self._containers.remove(request.container, force=request.force)
        return Empty()

    async def List(self, request: pb.ListRequest) -> pb.ListResponse:
        views = await self._containers.list(all=request.all)
        return pb.ListResponse(containers=map(container_message, views))

    async def Inspect(self, request: pb.InspectRequest) -> pb.InspectResponse:
        view = await self._containers.view(request.container)
        record = view.record
        return pb.InspectResponse(
            container=container_message(view),
            config=config_message(view.config),
            spec=record.spec.value if record.spec else b"",
            snapshotter=record.snapshotter,
            snapshot_key=record.snapshot_key,
            runtime=record.runtime,
            log_path=str(self._containers.log_path(record) or ""),
        )

    async def Resize(self, request: pb.ResizeRequest) -> Empty:
        await self._containers.resize(request.container, request.width, request.height)
        return Empty()

    async def Logs(self, request: pb.LogsRequest) -> AsyncIterator[pb.LogRecord]:
        record = await self._containers.find(request.container)
        since = request.since.ToNanoseconds() if request.HasField("since") else 0
        path = self._containers.log_path(record)
        if path is None:
            raise FailedPrecondition(
                f"container {request.container!r}: keeps no log", hint="its log driver is none"
            )
        found = logs.read(
            path,
            follow=(lambda: self._containers.running(record.id)) if request.follow else None,
            tail=request.tail,
            since=since,
        )
        async for entry in found:
            yield pb.LogRecord(stream=entry.stream, time=timestamp(entry.time), data=entry.data)

    async def ListRuntimes(self, request: pb.ListRuntimesRequest) -> pb.ListRuntimesResponse:
        found = await self._tasks.runtimes()
        return pb.ListRuntimesResponse(runtimes=map(runtime_message, found))

    async def _image(self, image: Image) -> pb.Image:
        try:
            config_digest = (await self._images.unpacked(image)).config_digest
        except NotFound:
            config_digest = ""
        return image_message(image, await self._images.size(image), config_digest)
