"""The runtime ``shim``: one shim v2 process beside each container, ours or anybody's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from cored import log
from cored.abc.runtime import Runtime
from cored.abc.sandbox import SandboxController
from cored.errors import CoredError
from cored.hookspecs import PluginContext, PluginKind, Provider, hookimpl
from cored_runtime_shim.choice import Runtimes
from cored_runtime_shim.launch import Launcher
from cored_runtime_shim.runtime import ShimRuntime
from cored_runtime_shim.settings import settings
from cored_runtime_shim.zygote import Zygote

__all__ = ["ShimRuntime", "cored_runtime", "cored_sandbox_controller"]


@asynccontextmanager
async def _opened(context: PluginContext) -> AsyncIterator[Runtime]:
    table = settings(context.settings)
    runtimes = Runtimes(table)
    async with Zygote.opened(table.idle) as zygote:
        runtime = ShimRuntime(context.state, Launcher(context.address, zygote), runtimes)
        runtime.find()
        preparing = asyncio.create_task(_prepare(context, runtimes, zygote), name="preparing")
        try:
            yield runtime
        finally:
            preparing.cancel()
            await asyncio.gather(preparing, return_exceptions=True)
            await runtime.close()


async def _prepare(context: PluginContext, runtimes: Runtimes, zygote: Zygote) -> None:
    """What the first container would wait for. Earlier it would keep the daemon from serving."""
    await context.serving()
    try:
        await runtimes.usual()
        await zygote.ensure()
    except (CoredError, OSError) as error:
        log.get("runtime").warning("containers cannot be started", error=str(error))


@asynccontextmanager
async def _sandboxes(context: PluginContext) -> AsyncIterator[SandboxController]:
    runtime = context.named(PluginKind.RUNTIME, "shim")
    assert isinstance(runtime, ShimRuntime)
    yield runtime.sandboxes


@hookimpl
def cored_runtime() -> Provider[Runtime]:
    return Provider("shim", _opened)


@hookimpl
def cored_sandbox_controller() -> Provider[SandboxController]:
    return Provider("shim", _sandboxes)
