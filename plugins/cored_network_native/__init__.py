"""The network ``native``: the usual plugins in process, by netlink; any other by its executable."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import import_module

from cored.abc.network import Network
from cored.hookspecs import PluginContext, Provider, hookimpl

__all__ = ["cored_network"]


@asynccontextmanager
async def _opened(context: PluginContext) -> AsyncIterator[Network]:
    from cored.cni.cache import Cache
    from cored.cni.chain import Chain
    from cored.cni.executables import Executables

    # who has another network does not pay for it, and calls are answered meanwhile
    await asyncio.to_thread(import_module, "cored_network_native.caller")
    from cored_network_native.caller import Native

    cache = Cache(context.root / "results")
    cache.tidy()
    native = Native(Executables.configured(context.settings), cache.all)
    try:
        await native.restore()
        yield Chain(native, cache)
    finally:
        await native.close()


@hookimpl
def cored_network() -> Provider[Network]:
    return Provider("native", _opened)
