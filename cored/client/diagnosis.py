"""cored.workloads.v1.Diagnosis, typed: why a container failed."""

from __future__ import annotations

from cored._pb.cored.workloads.v1 import diagnosis_pb2 as pb
from cored.client.channel import Channel

__all__ = ["why"]


def why(channel: Channel, container: str, timeout: float | None = None) -> pb.WhyResponse:
    """Its causes, the last lines of its log, its earlier lives. NotFound."""
    request = pb.WhyRequest(container=container)
    path = "/cored.workloads.v1.Diagnosis/Why"
    return channel.unary(path, request, pb.WhyResponse, timeout=timeout)
