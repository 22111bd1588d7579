"""cored.workloads.v1.Workloads"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

from google.protobuf.empty_pb2 import Empty

from cored._pb.cored.workloads.v1 import workloads_pb2 as pb
from cored.abc.service import Service
from cored.engine import logs
from cored.engine.containers import Containers
from cored.engine.workload import ContainerView, image_id
from cored_service_workloads import fields
from cored_service_workloads.container_filters import Filters
from cored_service_workloads.files import FileCalls, FileParts
from cored_service_workloads.images import ImageCalls, ImageParts
from cored_service_workloads.messages import (
    config_message,
    config_value,
    container_message,
    runtime_message,
    stdio_value,
    timestamp,
)
from cored_service_workloads.processes import ProcessCalls, ProcessParts

__all__ = ["WorkloadsService"]


class WorkloadsService(ImageCalls, ProcessCalls, FileCalls, Service):
    """The calls about lives of containers; the others are inherited."""

    service = "cored.workloads.v1.Workloads"

    lasting = frozenset({"Events", "Stats"})

    def __init__(
        self,
        containers: Containers,
        images: ImageParts,
        processes: ProcessParts,
        files: FileParts,
    ) -> None:
        ImageCalls.__init__(self, images)
        ProcessCalls.__init__(self, processes)
        FileCalls.__init__(self, files)
        self._containers = containers

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
        timeout = 0 if request.at_once else request.timeout_seconds or None
        await self._containers.stop(request.container, timeout, request.signal)
        return Empty()

    async def Remove(self, request: pb.RemoveRequest) -> Empty:
        await self._containers.remove(
            request.container, force=request.force, volumes=request.volumes
        )
        return Empty()

    async def List(self, request: pb.ListRequest) -> pb.ListResponse:
        wanted = Filters(request.filters)
        views = await self._containers.list(all=request.all or wanted.everyone)
        found = await wanted.passing(views, self._containers)
        return pb.ListResponse(
            containers=[await self._message(view, size=request.size) for view in found]
        )

    async def Inspect(self, request: pb.InspectRequest) -> pb.InspectResponse:
        view = await self._containers.view(request.container)
        record = view.record
        return pb.InspectResponse(
            container=await self._message(view, size=False),
            config=config_message(view.config),
            spec=record.spec.value if record.spec else b"",
            snapshotter=record.snapshotter,
            snapshot_key=record.snapshot_key,
            runtime=record.runtime,
            image_id=image_id(record),
            log_path=_shown(view, self._containers.log_path(record)),
        )

    async def Resize(self, request: pb.ResizeRequest) -> Empty:
        await self._containers.resize(request.container, request.width, request.height)
        return Empty()

    async def Logs(self, request: pb.LogsRequest) -> AsyncIterator[pb.LogRecord]:
        record = await self._containers.find(request.container)
        since = request.since.ToNanoseconds() if request.HasField("since") else 0
        place = self._containers.place(record.id)
        path = self._containers.logs.readable(record, place, request.container)
        details = self._containers.logs.attributes(record) if request.details else {}
        found = logs.read(
            path,
            follow=(lambda: self._containers.running(record.id)) if request.follow else None,
            tail=request.tail,
            since=since,
            until=request.until.ToNanoseconds() if request.HasField("until") else 0,
        )
        async for entry in found:
            yield pb.LogRecord(
                stream=entry.stream,
                time=timestamp(entry.time),
                data=entry.data,
                details=details,
            )

    async def _message(self, view: ContainerView, *, size: bool) -> pb.Container:
        message = container_message(view)
        for point in await self._containers.views.mounts(view):
            fields.fill(message.mounts.add(), point)
        if size:
            message.size_written = await self._containers.written(view.record)
            image = await self._containers.image_size(view.record)
            message.size_total = message.size_written + image
        return message

    async def ListRuntimes(self, request: pb.ListRuntimesRequest) -> pb.ListRuntimesResponse:
        found = await self._tasks.runtimes()
        return pb.ListRuntimesResponse(runtimes=map(runtime_message, found))


def _shown(view: ContainerView, path: Path | None) -> str:
    """As docker: of what is kept beside another driver nobody else is to make use."""
    own = view.config.logging.driver in ("", "json-file", "local")
    return str(path) if path is not None and own else ""
