"""The first stage of the daemon's assembly: storage, tasks, and the services that need no more.

What is imported here is what keeps a restarted daemon from serving.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from cored import log
from cored.abc.content import ContentStore
from cored.abc.events import EventBus
from cored.abc.records import ContainerStore, ImageStore, LeaseStore, NamespaceStore, SandboxStore
from cored.abc.runtime import Runtime
from cored.abc.service import Service
from cored.archive.pool import WorkerPool
from cored.config import Config
from cored.directories import directory
from cored.engine.checkpoints import Checkpoints
from cored.engine.events import Exchange
from cored.engine.snapshotters import Snapshotters
from cored.engine.tasks import Tasks
from cored.hookspecs import PluginKind
from cored.metadata.store import Metadata
from cored.plugins import Plugins
from cored.rpc.server import Server, serve
from cored.rpc.ttrpc_server import serve as serve_ttrpc
from cored.services.containers import ContainersService
from cored.services.content import ContentService
from cored.services.events import EventsService
from cored.services.images import ImagesService
from cored.services.leases import LeasesService
from cored.services.namespaces import NamespacesService
from cored.services.shim_events import shim_events
from cored.services.snapshots import SnapshotsService
from cored.services.tasks import TasksService
from cored.services.version import VersionService

__all__ = ["opened", "serving"]


async def opened(config: Config, plugins: Plugins, stack: AsyncExitStack) -> Sequence[Service]:
    """Open all of it, which ``stack`` closes; the services."""
    exchange = Exchange(lambda envelope: plugins.hook.cored_event(envelope=envelope))
    plugins.provide(EventBus, exchange)  # type: ignore[type-abstract]
    plugins.provide(Exchange, exchange)
    await _open_storage(config, plugins, exchange, stack)
    await _open_tasks(config, plugins, exchange, stack)
    return _services(plugins, exchange)


@asynccontextmanager
async def serving(
    config: Config, plugins: Plugins, services: Sequence[Service]
) -> AsyncIterator[Server]:
    """Answer clients and shims on their sockets while the body runs."""
    bus = plugins.require(EventBus)  # type: ignore[type-abstract]
    async with serve_ttrpc(Path(f"{config.address}.ttrpc"), shim_events(bus)):
        async with serve(config.address, services, config.grpc, config.tcp) as server:
            yield server


async def _open_storage(
    config: Config, plugins: Plugins, exchange: Exchange, stack: AsyncExitStack
) -> None:
    """Content, snapshots and the metadata over both; what follows sees them per namespace."""
    await plugins.open(PluginKind.CONTENT_STORE, stack)
    backend = plugins.named(PluginKind.CONTENT_STORE, config.content_store)
    await plugins.open(PluginKind.SNAPSHOTTER, stack)
    snapshotters = plugins.open_of(PluginKind.SNAPSHOTTER)
    if config.snapshotter not in snapshotters:
        log.get("daemon").warning(
            "the default snapshotter is not open: name another one in requests, or in the config",
            snapshotter=config.snapshotter,
            open=list(snapshotters),
        )
    metadata = await stack.enter_async_context(
        Metadata.opened(config.root, exchange, backend, snapshotters, config.gc)
    )
    plugins.replace(PluginKind.CONTENT_STORE, config.content_store, metadata.content)
    for id, snapshotter in metadata.snapshotters.items():
        plugins.replace(PluginKind.SNAPSHOTTER, id, snapshotter)
    plugins.provide(Metadata, metadata)
    plugins.provide(ContentStore, metadata.content)  # type: ignore[type-abstract]
    plugins.provide(NamespaceStore, metadata.namespaces)  # type: ignore[type-abstract]
    plugins.provide(ContainerStore, metadata.containers)  # type: ignore[type-abstract]
    plugins.provide(ImageStore, metadata.images)  # type: ignore[type-abstract]
    plugins.provide(LeaseStore, metadata.leases)  # type: ignore[type-abstract]
    plugins.provide(SandboxStore, metadata.sandboxes)  # type: ignore[type-abstract]


async def _open_tasks(
    config: Config, plugins: Plugins, exchange: Exchange, stack: AsyncExitStack
) -> None:
    """The runtime, and all tasks of earlier daemons."""
    metadata = plugins.require(Metadata)
    runtime: Runtime = plugins.named(PluginKind.RUNTIME, config.runtime)
    adjusters = plugins.hook.cored_container_spec.get_hookimpls()
    tasks = await stack.enter_async_context(
        Tasks.opened(
            runtime,
            metadata.containers,
            exchange,
            (
                lambda namespace, id, spec: plugins.hook.cored_container_spec(
                    namespace=namespace, id=id, spec=spec
                )
            )
            if adjusters
            else None,
        )
    )
    plugins.provide(Tasks, tasks)
    pool = await stack.enter_async_context(WorkerPool.opened(config.unpack_workers))
    plugins.provide(WorkerPool, pool)
    checkpoints = Checkpoints(
        tasks,
        metadata.containers,
        metadata.content,
        pool,
        directory(config.state / "checkpoints", 0o700),
    )
    checkpoints.clean()
    plugins.provide(Checkpoints, checkpoints)
    snapshotters = Snapshotters(metadata.snapshotters, metadata.namespaces, config.snapshotter)
    plugins.provide(Snapshotters, snapshotters)


def _services(plugins: Plugins, exchange: Exchange) -> Sequence[Service]:
    metadata = plugins.require(Metadata)
    return (
        VersionService(),
        NamespacesService(metadata.namespaces),
        LeasesService(metadata.leases, metadata.gc),
        ContentService(metadata.content),
        ImagesService(metadata.images, metadata.gc),
        SnapshotsService(metadata.snapshotters, plugins.require(Snapshotters).default),
        ContainersService(metadata.containers),
        TasksService(plugins.require(Tasks), metadata.containers, plugins.require(Checkpoints)),
        EventsService(exchange),
    )
