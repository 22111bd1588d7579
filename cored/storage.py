"""``cored storage``: our snapshotters and content store alone, for another daemon to use.

containerd takes them as its ``proxy_plugins``. There are no namespaces, no leases and no garbage
collection here: what there is, and for how long, is the other daemon's to say.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from cored import log
from cored.abc.snapshots import Snapshotter
from cored.config import Config
from cored.daemon import Lock, make_plugins, notify, settle_memory
from cored.directories import directory, private
from cored.hookspecs import PluginKind
from cored.rpc.server import serve
from cored.services.content import ContentService
from cored.services.snapshots import SnapshotsService
from cored.services.version import VersionService

__all__ = ["run", "serving"]


class _Content(ContentService):
    scoped = False


class _Snapshots(SnapshotsService):
    """The other daemon calls a snapshotter by the name that it has there: ours is the default."""

    scoped = False

    async def _one(self, name: str) -> Snapshotter:
        return await super()._one(name if name in self._snapshotters else "")


async def run(config: Config) -> None:
    """Serve until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with serving(config):
        log.get("storage").info("serving", address=config.address, root=str(config.root))
        notify("READY=1")
        await stop.wait()
        notify("STOPPING=1")


@asynccontextmanager
async def serving(config: Config) -> AsyncIterator[None]:
    """Content store and snapshotters on ``config.address`` while the body runs."""

    async def default() -> str:
        return config.snapshotter

    async with AsyncExitStack() as stack:
        stack.enter_context(Lock(private(config.root) / "lock"))
        directory(config.state, 0o711)
        plugins = make_plugins(config)
        plugins.discover_rest()
        await plugins.open(PluginKind.CONTENT_STORE, stack)
        await plugins.open(PluginKind.SNAPSHOTTER, stack)
        services = (
            VersionService(),
            _Content(plugins.named(PluginKind.CONTENT_STORE, config.content_store)),
            _Snapshots(plugins.open_of(PluginKind.SNAPSHOTTER), default),
        )
        server = await stack.enter_async_context(serve(config.address, services, config.grpc))
        await server.complete()
        settle_memory()
        yield
