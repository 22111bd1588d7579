"""containerd.services.sandbox.v1.Controller"""

from __future__ import annotations

from dataclasses import replace

from cored._pb.containerd.services.sandbox.v1 import sandbox_pb2 as pb
from cored._pb.containerd.types import metrics_pb2, platform_pb2
from cored.abc.records import Sandbox
from cored.abc.sandbox import SandboxOptions
from cored.abc.service import Service
from cored.engine.sandboxes import Sandboxes
from cored.errors import InvalidArgument
from cored.metadata.names import check_identifier
from cored.services.sandbox_store import sandbox_value
from cored.services.wire import mount_values, timestamp, typed_message, typed_value

__all__ = ["SandboxControllerService"]


class SandboxControllerService(Service):
    service = "containerd.services.sandbox.v1.Controller"
    lasting = frozenset({"Wait"})

    def __init__(self, sandboxes: Sandboxes) -> None:
        self._sandboxes = sandboxes

    async def Create(self, request: pb.ControllerCreateRequest) -> pb.ControllerCreateResponse:
        record = Sandbox(request.sandbox_id)
        if request.HasField("sandbox"):
            record = sandbox_value(request.sandbox)
            record = replace(record, id=request.sandbox_id or record.id)
        check_identifier("sandbox", record.id)
        options = SandboxOptions(
            rootfs=mount_values(request.rootfs),
            options=typed_value(request, "options"),
            netns=request.netns_path,
            annotations=dict(request.annotations),
        )
        await self._sandboxes.create(request.sandboxer, record, options)
        return pb.ControllerCreateResponse(sandbox_id=record.id)

    async def Start(self, request: pb.ControllerStartRequest) -> pb.ControllerStartResponse:
        started = await self._sandboxes.start(request.sandboxer, request.sandbox_id)
        return pb.ControllerStartResponse(
            sandbox_id=started.id,
            pid=started.pid,
            created_at=timestamp(started.created_at),
            labels=started.labels,
            address=started.address,
            version=started.version,
            spec=typed_message(started.spec),
        )

    async def Platform(
        self, request: pb.ControllerPlatformRequest
    ) -> pb.ControllerPlatformResponse:
        controller = self._sandboxes.controller(request.sandboxer)
        found = await controller.platform(request.sandbox_id)
        return pb.ControllerPlatformResponse(
            platform=platform_pb2.Platform(
                os=found.os, architecture=found.architecture, variant=found.variant
            )
        )

    async def Stop(self, request: pb.ControllerStopRequest) -> pb.ControllerStopResponse:
        controller = self._sandboxes.controller(request.sandboxer)
        await controller.stop(request.sandbox_id, request.timeout_secs)
        return pb.ControllerStopResponse()

    async def Wait(self, request: pb.ControllerWaitRequest) -> pb.ControllerWaitResponse:
        exit = await self._sandboxes.wait(request.sandboxer, request.sandbox_id)
        return pb.ControllerWaitResponse(
            exit_status=exit.status, exited_at=timestamp(exit.exited_at)
        )

    async def Status(self, request: pb.ControllerStatusRequest) -> pb.ControllerStatusResponse:
        controller = self._sandboxes.controller(request.sandboxer)
        found = await controller.status(request.sandbox_id, verbose=request.verbose)
        return pb.ControllerStatusResponse(
            sandbox_id=found.id,
            pid=found.pid,
            state=found.state,
            info=found.info,
            created_at=timestamp(found.created_at),
            exited_at=timestamp(found.exited_at),
            extra=typed_message(found.extra),
            address=found.address,
            version=found.version,
        )

    async def Shutdown(
        self, request: pb.ControllerShutdownRequest
    ) -> pb.ControllerShutdownResponse:
        await self._sandboxes.controller(request.sandboxer).shutdown(request.sandbox_id)
        return pb.ControllerShutdownResponse()

    async def Metrics(self, request: pb.ControllerMetricsRequest) -> pb.ControllerMetricsResponse:
        controller = self._sandboxes.controller(request.sandboxer)
        moment, data = await controller.metrics(request.sandbox_id)
        return pb.ControllerMetricsResponse(
            metrics=metrics_pb2.Metric(
                timestamp=timestamp(moment), id=request.sandbox_id, data=typed_message(data)
            )
        )

    async def Update(self, request: pb.ControllerUpdateRequest) -> pb.ControllerUpdateResponse:
        controller = self._sandboxes.controller(request.sandboxer)
        if not request.HasField("sandbox"):
            raise InvalidArgument(f"sandbox {request.sandbox_id!r}: its new record is missing")
        record = replace(sandbox_value(request.sandbox), id=request.sandbox_id)
        await controller.update(record, tuple(request.fields))
        return pb.ControllerUpdateResponse()
