"""The gRPC service ``system``: the daemon and its host as a whole."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from cored.abc.records import ImageStore, NamespaceStore
from cored.abc.service import Service
from cored.hookspecs import PluginContext, Provider, hookimpl

__all__ = ["cored_grpc_service"]


@asynccontextmanager
async def _opened(context: PluginContext) -> AsyncIterator[Service]:
    from cored.engine.containers import Containers
    from cored.engine.disk_usage import DiskUsage
    from cored.engine.installation import Installation
    from cored.engine.networks import Catalog
    from cored.engine.tasks import Tasks
    from cored_service_workloads.system_service import SystemParts, SystemService

    yield SystemService(
        SystemParts(
            containers=context.require(Containers),
            tasks=context.require(Tasks),
            images=context.require(ImageStore),  # type: ignore[type-abstract]
            namespaces=context.require(NamespaceStore),  # type: ignore[type-abstract]
            networks=context.require(Catalog),
            usage=context.require(DiskUsage),
            installation=context.require(Installation),
        )
    )


@hookimpl
def cored_grpc_service() -> Provider[Service]:
    return Provider("system", _opened)
