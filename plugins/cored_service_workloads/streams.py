"""The gRPC service ``streams``: what processes read and write, for clients anywhere."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from cored.abc.service import Service
from cored.hookspecs import PluginContext, Provider, hookimpl

__all__ = ["cored_grpc_service"]


@asynccontextmanager
async def _opened(context: PluginContext) -> AsyncIterator[Service]:
    from cored.engine.containers import Containers
    from cored_service_workloads.stream_service import StreamsService

    service = StreamsService(context.require(Containers), context.state)
    try:
        yield service
    finally:
        await service.close()


@hookimpl
def cored_grpc_service() -> Provider[Service]:
    return Provider("streams", _opened)
