"""The gRPC service ``volumes``: volumes as people think of them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from cored.abc.service import Service
from cored.hookspecs import PluginContext, Provider, hookimpl

__all__ = ["cored_grpc_service"]


@asynccontextmanager
async def _opened(context: PluginContext) -> AsyncIterator[Service]:
    from cored.engine.containers import Containers
    from cored_service_workloads.volume_service import VolumesService

    yield VolumesService(context.require(Containers).storage)


@hookimpl
def cored_grpc_service() -> Provider[Service]:
    return Provider("volumes", _opened)
