"""gRPC's service that tells a client which services there are."""

from __future__ import annotations

from collections.abc import Sequence

import grpc
from grpc_reflection.v1alpha import reflection as servicers
from grpc_reflection.v1alpha import reflection_pb2 as pb

__all__ = ["NAME", "reflection"]

NAME: str = servicers.SERVICE_NAME


def reflection(names: Sequence[str]) -> dict[str, grpc.RpcMethodHandler]:
    """Its methods by path; it shows the services of these names."""
    servicer = servicers.aio.ReflectionServicer(names)
    method = grpc.stream_stream_rpc_method_handler(
        servicer.ServerReflectionInfo,
        request_deserializer=pb.ServerReflectionRequest.FromString,
        response_serializer=pb.ServerReflectionResponse.SerializeToString,
    )
    return {f"/{NAME}/ServerReflectionInfo": method}
