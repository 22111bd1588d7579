"""The network ``cni``: every plugin is an executable, as the specification has it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from cored.abc.network import Network
from cored.hookspecs import PluginContext, Provider, hookimpl

__all__ = ["cored_network"]


@asynccontextmanager
async def _opened(context: PluginContext) -> AsyncIterator[Network]:
    from cored.cni.cache import Cache
    from cored.cni.chain import Chain
    from cored.cni.executables import Executables

    cache = Cache(context.root / "results")
    cache.tidy()
    yield Chain(Executables.configured(context.settings), cache)


@hookimpl
def cored_network() -> Provider[Network]:
    return Provider("cni", _opened)
