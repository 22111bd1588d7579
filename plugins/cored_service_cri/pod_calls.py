"""The RPCs about pods."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator

from cored._pb.cri.v1 import api_pb2 as pb
from cored.errors import NotFound
from cored_service_cri import messages, resources
from cored_service_cri.parts import Calls
from cored_service_cri.values import Pod

__all__ = ["PAGE", "PodCalls"]

PAGE = 100
"""How many of a list go into one message of a stream."""


class PodCalls(Calls):
    async def RunPodSandbox(self, request: pb.RunPodSandboxRequest) -> pb.RunPodSandboxResponse:
        # whatever becomes of the caller: a pod is there whole, or not at all
        made = self.parts.pods.run(request.config, request.runtime_handler)
        return pb.RunPodSandboxResponse(pod_sandbox_id=await asyncio.shield(made))

    async def StopPodSandbox(self, request: pb.StopPodSandboxRequest) -> pb.StopPodSandboxResponse:
        try:
            pod = self.parts.registry.pod(request.pod_sandbox_id)
        except NotFound:
            return pb.StopPodSandboxResponse()
        await asyncio.shield(self._stop(pod))
        return pb.StopPodSandboxResponse()

    async def RemovePodSandbox(
        self, request: pb.RemovePodSandboxRequest
    ) -> pb.RemovePodSandboxResponse:
        try:
            pod = self.parts.registry.pod(request.pod_sandbox_id)
        except NotFound:
            return pb.RemovePodSandboxResponse()
        await asyncio.shield(self._remove(pod))
        return pb.RemovePodSandboxResponse()

    async def PodSandboxStatus(
        self, request: pb.PodSandboxStatusRequest
    ) -> pb.PodSandboxStatusResponse:
        pod = self.parts.registry.pod(request.pod_sandbox_id)
        members = self.parts.registry.members(pod.id)
        return pb.PodSandboxStatusResponse(
            status=messages.pod_status(pod),
            info=await self._pod_info(pod) if request.verbose else {},
            containers_statuses=map(messages.status, members),
            timestamp=time.time_ns(),
        )

    async def ListPodSandbox(self, request: pb.ListPodSandboxRequest) -> pb.ListPodSandboxResponse:
        return pb.ListPodSandboxResponse(items=self._pods(request.filter))

    async def StreamPodSandboxes(
        self, request: pb.StreamPodSandboxesRequest
    ) -> AsyncIterator[pb.StreamPodSandboxesResponse]:
        found = self._pods(request.filter)
        for start in range(0, max(1, len(found)), PAGE):
            yield pb.StreamPodSandboxesResponse(pod_sandboxes=found[start : start + PAGE])

    async def UpdatePodSandboxResources(
        self, request: pb.UpdatePodSandboxResourcesRequest
    ) -> pb.UpdatePodSandboxResourcesResponse:
        """A kubelet has changed the pod's own cgroup itself; what it says is kept."""
        pod = self.parts.registry.pod(request.pod_sandbox_id)
        config = pb.PodSandboxConfig()
        config.CopyFrom(pod.config)
        for name in ("overhead", "resources"):
            if request.HasField(name):
                old, new = getattr(config.linux, name), getattr(request, name)
                old.CopyFrom(resources.merged(old, new))
        await self.parts.registry.change(Pod(pod.id, config, pod.state))
        return pb.UpdatePodSandboxResourcesResponse()

    async def _stop(self, pod: Pod) -> None:
        members = self.parts.registry.members(pod.id)
        await asyncio.gather(*(self.parts.lives.stop(one, 0) for one in members))
        await self.parts.pods.stop(pod)

    async def _remove(self, pod: Pod) -> None:
        await self._stop(pod)
        for one in self.parts.registry.members(pod.id):
            await self.parts.containers.remove(one)
        await self.parts.pods.remove(self.parts.registry.pods.get(pod.id, pod))

    async def _pod_info(self, pod: Pod) -> dict[str, str]:
        """What crictl inspectp shows beside the status."""
        table = {
            "pid": pod.state.pid,
            "processStatus": "running" if pod.state.ready else "stopped",
            "netNsClosed": not pod.state.ready,
            "runtimeHandler": pod.state.handler,
            "runtimeType": pod.state.runtime,
            "runtimeSpec": await self.parts.registry.spec(pod.id),
        }
        return {"info": json.dumps(table)}

    def _pods(self, wanted: pb.PodSandboxFilter) -> list[pb.PodSandbox]:
        pods = self.parts.registry.pods.values()
        return [messages.pod(one) for one in messages.pods_matching(pods, wanted)]
