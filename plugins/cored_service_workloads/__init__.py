"""The gRPC service ``workloads``: images and containers as people think of them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from cored.abc.service import Service
from cored.hookspecs import PluginContext, Provider, hookimpl

__all__ = ["cored_grpc_service"]


@asynccontextmanager
async def _opened(context: PluginContext) -> AsyncIterator[Service]:
    from cored.engine.containers import Containers
    from cored.engine.images import Images
    from cored.engine.importing import Importer
    from cored.engine.pull import Puller
    from cored.engine.tasks import Tasks
    from cored_service_workloads.service import WorkloadsService

    yield WorkloadsService(
        context.require(Containers),
        context.require(Images),
        context.require(Puller),
        context.require(Importer),
        context.require(Tasks),
    )


@hookimpl
def cored_grpc_service() -> Provider[Service]:
    return Provider("workloads", _opened)
