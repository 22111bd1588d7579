"""The RPCs about containers and what runs in them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

from cored._pb.cri.v1 import api_pb2 as pb
from cored.errors import FailedPrecondition, NotFound
from cored_service_cri import messages
from cored_service_cri.parts import Calls
from cored_service_cri.pod_calls import PAGE
from cored_service_cri.values import Container

__all__ = ["ContainerCalls"]


class ContainerCalls(Calls):
    async def CreateContainer(
        self, request: pb.CreateContainerRequest
    ) -> pb.CreateContainerResponse:
        pod = self.parts.registry.pod(request.pod_sandbox_id)
        made = self.parts.containers.create(pod, request.config)
        return pb.CreateContainerResponse(container_id=await asyncio.shield(made))

    async def StartContainer(self, request: pb.StartContainerRequest) -> pb.StartContainerResponse:
        one = self.parts.registry.container(request.container_id)
        await asyncio.shield(self.parts.lives.start(one))
        return pb.StartContainerResponse()

    async def StopContainer(self, request: pb.StopContainerRequest) -> pb.StopContainerResponse:
        try:
            one = self.parts.registry.container(request.container_id)
        except NotFound:
            return pb.StopContainerResponse()
        await self.parts.lives.stop(one, request.timeout)
        return pb.StopContainerResponse()

    async def RemoveContainer(
        self, request: pb.RemoveContainerRequest
    ) -> pb.RemoveContainerResponse:
        try:
            one = self.parts.registry.container(request.container_id)
        except NotFound:
            return pb.RemoveContainerResponse()
        await asyncio.shield(self.parts.containers.remove(one))
        return pb.RemoveContainerResponse()

    async def ListContainers(self, request: pb.ListContainersRequest) -> pb.ListContainersResponse:
        return pb.ListContainersResponse(containers=self._containers(request.filter))

    async def StreamContainers(
        self, request: pb.StreamContainersRequest
    ) -> AsyncIterator[pb.StreamContainersResponse]:
        found = self._containers(request.filter)
        for start in range(0, max(1, len(found)), PAGE):
            yield pb.StreamContainersResponse(containers=found[start : start + PAGE])

    async def ContainerStatus(
        self, request: pb.ContainerStatusRequest
    ) -> pb.ContainerStatusResponse:
        one = self.parts.registry.container(request.container_id)
        info = await self._container_info(one) if request.verbose else {}
        return pb.ContainerStatusResponse(status=messages.status(one), info=info)

    async def UpdateContainerResources(
        self, request: pb.UpdateContainerResourcesRequest
    ) -> pb.UpdateContainerResourcesResponse:
        one = self.parts.registry.container(request.container_id)
        await asyncio.shield(self.parts.containers.update(one, request.linux))
        return pb.UpdateContainerResourcesResponse()

    async def ReopenContainerLog(
        self, request: pb.ReopenContainerLogRequest
    ) -> pb.ReopenContainerLogResponse:
        one = self.parts.registry.container(request.container_id)
        if one.state.phase != pb.CONTAINER_RUNNING:
            raise FailedPrecondition(f"container {one.id!r}: is not running")
        await asyncio.to_thread(self.parts.output.reopen, one)
        return pb.ReopenContainerLogResponse()

    async def CheckpointContainer(
        self, request: pb.CheckpointContainerRequest
    ) -> pb.CheckpointContainerResponse:
        one = self.parts.registry.container(request.container_id)
        await self.parts.containers.checkpoint(one, request.location, request.timeout)
        return pb.CheckpointContainerResponse()

    async def ExecSync(self, request: pb.ExecSyncRequest) -> pb.ExecSyncResponse:
        one = self.parts.registry.container(request.container_id)
        status, stdout, stderr = await self.parts.execs.sync(
            one, request.cmd, max(0, request.timeout)
        )
        return pb.ExecSyncResponse(stdout=stdout, stderr=stderr, exit_code=status)

    async def Exec(self, request: pb.ExecRequest) -> pb.ExecResponse:
        one = self.parts.registry.container(request.container_id)
        self._check_running(one)
        return pb.ExecResponse(url=self.parts.streaming.exec(one, request))

    async def Attach(self, request: pb.AttachRequest) -> pb.AttachResponse:
        one = self.parts.registry.container(request.container_id)
        self._check_running(one)
        return pb.AttachResponse(url=self.parts.streaming.attach(one, request))

    async def PortForward(self, request: pb.PortForwardRequest) -> pb.PortForwardResponse:
        pod = self.parts.registry.pod(request.pod_sandbox_id)
        if not pod.state.ready:
            raise FailedPrecondition(f"pod sandbox {pod.id!r}: is not ready")
        return pb.PortForwardResponse(url=self.parts.streaming.forward(pod, request))

    def _check_running(self, one: Container) -> None:
        if one.state.phase != pb.CONTAINER_RUNNING:
            raise FailedPrecondition(f"container {one.id!r}: is not running")

    async def _container_info(self, one: Container) -> dict[str, str]:
        """What crictl inspect shows beside the status."""
        task = self.parts.tasks.known().get(("k8s.io", one.id))
        table = {
            "sandboxID": one.pod.id,
            "pid": task.pid if task else 0,
            "snapshotKey": one.id,
            "snapshotter": one.state.snapshotter,
            "runtimeType": one.pod.state.runtime,
            "runtimeSpec": await self.parts.registry.spec(one.id),
        }
        return {"info": json.dumps(table)}

    def _containers(self, wanted: pb.ContainerFilter) -> list[pb.Container]:
        state = wanted.state.state if wanted.HasField("state") else None
        found = messages.matching(self.parts.registry.containers.values(), wanted, state)
        return [messages.container(one) for one in found]
