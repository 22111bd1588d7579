"""The second part of the daemon's assembly: storage, and containerd's services over it.

Imported and opened while the first answers calls already.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AsyncExitStack

from cored import log
from cored.abc.content import ContentStore
from cored.abc.records import ContainerStore, ImageStore, LeaseStore, NamespaceStore, SandboxStore
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
from cored.services.containers import ContainersService
from cored.services.content import ContentService
from cored.services.images import ImagesService
from cored.services.leases import LeasesService
from cored.services.namespaces import NamespacesService
from cored.services.snapshots import SnapshotsService

__all__ = ["opened"]


async def opened(config: Config, plugins: Plugins, stack: AsyncExitStack) -> Sequence[Service]:
    """Open all of it, which ``stack`` closes; the services."""
    metadata = await _open_metadata(config, plugins, stack)
    pool = await stack.enter_async_context(WorkerPool.opened(config.unpack_workers))
    plugins.provide(WorkerPool, pool)
    checkpoints = Checkpoints(
        plugins.require(Tasks),
        metadata.containers,
        metadata.content,
        pool,
        directory(config.state / "checkpoints", 0o700),
    )
    checkpoints.clean()
    plugins.provide(Checkpoints, checkpoints)
    snapshotters = Snapshotters(metadata.snapshotters, metadata.namespaces, config.snapshotter)
    plugins.provide(Snapshotters, snapshotters)
    return (
        NamespacesService(metadata.namespaces),
        LeasesService(metadata.leases, metadata.gc),
        ContentService(metadata.content),
        ImagesService(metadata.images, metadata.gc),
        SnapshotsService(metadata.snapshotters, snapshotters.default),
        ContainersService(metadata.containers),
    )


async def _open_metadata(config: Config, plugins: Plugins, stack: AsyncExitStack) -> Metadata:
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
        Metadata.opened(config.root, plugins.require(Exchange), backend, snapshotters, config.gc)
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
    return metadata
