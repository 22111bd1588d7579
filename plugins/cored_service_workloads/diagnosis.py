"""The gRPC service ``diagnosis``: why containers failed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from cored.abc.service import Service
from cored.hookspecs import PluginContext, Provider, hookimpl

__all__ = ["cored_grpc_service"]


@asynccontextmanager
async def _opened(context: PluginContext) -> AsyncIterator[Service]:
    from cored.engine.containers import Containers
    from cored_service_workloads.diagnosis_service import DiagnosisService

    yield DiagnosisService(context.require(Containers).diagnosis)


@hookimpl
def cored_grpc_service() -> Provider[Service]:
    return Provider("diagnosis", _opened)
