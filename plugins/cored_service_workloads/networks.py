"""The gRPC service ``networks``: networks as people think of them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from cored.abc.service import Service
from cored.hookspecs import PluginContext, Provider, hookimpl

__all__ = ["cored_grpc_service"]


@asynccontextmanager
async def _opened(context: PluginContext) -> AsyncIterator[Service]:
    from cored.engine.memberships import Memberships
    from cored.engine.networks import Catalog
    from cored_service_workloads.network_service import NetworksService

    yield NetworksService(context.require(Catalog), context.require(Memberships))


@hookimpl
def cored_grpc_service() -> Provider[Service]:
    return Provider("networks", _opened)
