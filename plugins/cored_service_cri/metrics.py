"""Metrics of pods and containers under the names that cAdvisor gave them."""

from __future__ import annotations

from cored._pb.cri.v1 import api_pb2 as pb

__all__ = ["Metrics"]


class Metrics:
    def descriptors(self) -> list[pb.MetricDescriptor]:
        return []

    async def pods(self) -> list[pb.PodSandboxMetrics]:
        return []
