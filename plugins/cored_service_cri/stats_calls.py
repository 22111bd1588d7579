"""The RPCs about usage: stats as kubelet's summary has them, metrics as cAdvisor named them."""

from __future__ import annotations

from collections.abc import AsyncIterator

from cored._pb.cri.v1 import api_pb2 as pb
from cored_service_cri import messages
from cored_service_cri.parts import Calls
from cored_service_cri.pod_calls import PAGE
from cored_service_cri.values import Pod

__all__ = ["StatsCalls"]


class StatsCalls(Calls):
    async def ContainerStats(self, request: pb.ContainerStatsRequest) -> pb.ContainerStatsResponse:
        one = self.parts.registry.container(request.container_id)
        return pb.ContainerStatsResponse(stats=await self.parts.stats.container(one))

    async def ListContainerStats(
        self, request: pb.ListContainerStatsRequest
    ) -> pb.ListContainerStatsResponse:
        return pb.ListContainerStatsResponse(stats=await self._container_stats(request.filter))

    async def StreamContainerStats(
        self, request: pb.StreamContainerStatsRequest
    ) -> AsyncIterator[pb.StreamContainerStatsResponse]:
        found = await self._container_stats(request.filter)
        for start in range(0, max(1, len(found)), PAGE):
            yield pb.StreamContainerStatsResponse(container_stats=found[start : start + PAGE])

    async def PodSandboxStats(
        self, request: pb.PodSandboxStatsRequest
    ) -> pb.PodSandboxStatsResponse:
        pod = self.parts.registry.pod(request.pod_sandbox_id)
        return pb.PodSandboxStatsResponse(stats=await self.parts.stats.pod(pod))

    async def ListPodSandboxStats(
        self, request: pb.ListPodSandboxStatsRequest
    ) -> pb.ListPodSandboxStatsResponse:
        found = await self.parts.stats.pods(self._ready(request.filter))
        return pb.ListPodSandboxStatsResponse(stats=found)

    async def StreamPodSandboxStats(
        self, request: pb.StreamPodSandboxStatsRequest
    ) -> AsyncIterator[pb.StreamPodSandboxStatsResponse]:
        found = await self.parts.stats.pods(self._ready(request.filter))
        for start in range(0, max(1, len(found)), PAGE):
            yield pb.StreamPodSandboxStatsResponse(pod_sandbox_stats=found[start : start + PAGE])

    async def ListMetricDescriptors(
        self, request: pb.ListMetricDescriptorsRequest
    ) -> pb.ListMetricDescriptorsResponse:
        del request
        return pb.ListMetricDescriptorsResponse(descriptors=self.parts.metrics.descriptors())

    async def ListPodSandboxMetrics(
        self, request: pb.ListPodSandboxMetricsRequest
    ) -> pb.ListPodSandboxMetricsResponse:
        del request
        return pb.ListPodSandboxMetricsResponse(pod_metrics=await self.parts.metrics.pods())

    async def StreamPodSandboxMetrics(
        self, request: pb.StreamPodSandboxMetricsRequest
    ) -> AsyncIterator[pb.StreamPodSandboxMetricsResponse]:
        del request
        found = await self.parts.metrics.pods()
        for start in range(0, max(1, len(found)), PAGE):
            yield pb.StreamPodSandboxMetricsResponse(
                pod_sandbox_metrics=found[start : start + PAGE]
            )

    async def _container_stats(self, wanted: pb.ContainerStatsFilter) -> list[pb.ContainerStats]:
        """Of those that run: the others have no counters any more."""
        containers = self.parts.registry.containers.values()
        found = messages.matching(containers, wanted, pb.CONTAINER_RUNNING)
        return await self.parts.stats.containers(found)

    def _ready(self, wanted: pb.PodSandboxStatsFilter) -> list[Pod]:
        asked = pb.PodSandboxFilter(id=wanted.id, label_selector=wanted.label_selector)
        asked.state.state = pb.SANDBOX_READY
        return messages.pods_matching(self.parts.registry.pods.values(), asked)
