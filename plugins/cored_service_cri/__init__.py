"""Kubernetes' Container Runtime Interface: the service ``cri``; ``cri-images`` is in imaging.py.

Its settings: ``cgroup_driver`` is cgroupfs or systemd ('' is systemd where systemd runs).
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from cored.abc.service import Service
from cored.hookspecs import PluginContext, Provider, hookimpl

__all__ = ["cored_grpc_service"]


@asynccontextmanager
async def _opened(context: PluginContext) -> AsyncIterator[Service]:
    # not before the daemon serves
    from cored_service_cri.opening import opened

    async with opened(context) as service:
        yield service


@hookimpl
def cored_grpc_service() -> Provider[Service]:
    return Provider("cri", _opened)
