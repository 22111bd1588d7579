"""cored.workloads.v1.Workloads"""

from __future__ import annotations

from collections.abc import AsyncIterator

from google.protobuf.empty_pb2 import Empty

from cored._pb.cored.workloads.v1 import workloads_pb2 as pb
from cored.abc.service import Service
from cored.engine import logs
from cored.engine.containers import Containers
from cored.engine.tasks import Tasks
from cored.errors import FailedPrecondition
from cored_service_workloads.images import ImageCalls, ImageParts
from cored_service_workloads.messages import (
    config_message,
    config_value,
    container_message,
    runtime_message,
    stdio_value,
    timestamp,
)

__all__ = ["WorkloadsService"]


class WorkloadsService(ImageCalls, Service):
    """The calls about containers; those about images are inherited."""

    service = "cored.workloads.v1.Workloads"

    def __init__(self, containers: Containers, images: ImageParts, tasks: Tasks) -> None:
        super().__init__(images)
        self._containers = containers
        self._tasks = tasks

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
