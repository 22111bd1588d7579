"""The runtime ``shim``: one shim v2 process beside each container, ours or anybody's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from cored import log
from cored.abc.runtime import Runtime
from cored.errors import FailedPrecondition
from cored.hookspecs import PluginContext, Provider, hookimpl
from cored_runtime_shim.oci import OciRuntimes
from cored_runtime_shim.runtime import ShimRuntime
from cored_runtime_shim.zygote import Zygote

__all__ = ["ShimRuntime", "cored_runtime"]


@asynccontextmanager
async def _opened(context: PluginContext) -> AsyncIterator[Runtime]:
    runtimes = OciRuntimes(str(context.settings.get("runtime", "")))
    try:
        await asyncio.to_thread(runtimes.choose)
    except FailedPrecondition as error:
        log.get("runtime").warning("containers cannot be started", error=str(error))
    async with Zygote.opened() as zygote:
        runtime = ShimRuntime(context.state, context.address, zygote, runtimes)
        try:
            yield runtime
        finally:
            runtime.close()


@hookimpl
def cored_runtime() -> Provider[Runtime]:
    return Provider("shim", _opened)
