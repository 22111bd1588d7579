"""The second stage of the daemon's assembly: what opens while the first answers calls already.

Images, networks, containers as people think of them, sandboxes, mounts, checks, and their services.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import cored
from cored.abc.network import Network
from cored.abc.service import Service
from cored.archive.pool import WorkerPool
from cored.config import Config
from cored.directories import directory, emptied
from cored.engine.adjustments import Adjustments
from cored.engine.check import Checker
from cored.engine.check.repair import Repairer
from cored.engine.chronicle import Chronicle
from cored.engine.commit import Committer
from cored.engine.containers import Containers
from cored.engine.disk_usage import DiskUsage
from cored.engine.events import Exchange, FromTheStart
from cored.engine.export import Exporter
from cored.engine.files import Files
from cored.engine.host import probe
from cored.engine.image_details import ImageDetails
from cored.engine.image_mounts import ImageMounts
from cored.engine.image_removal import ImageRemoval
from cored.engine.images import Images
from cored.engine.importing import Importer
from cored.engine.installation import Installation
from cored.engine.journal import Journal
from cored.engine.logdrivers import LogDrivers, PluggedDriver
from cored.engine.loop import LoopHandler
from cored.engine.memberships import Memberships
from cored.engine.mounts import MountManager
from cored.engine.networking import Networking
from cored.engine.networks import Catalog, Connections, Resolvers
from cored.engine.policy import Policy
from cored.engine.pull import Puller
from cored.engine.push import Pusher
from cored.engine.registry import Registry
from cored.engine.roots import Roots
from cored.engine.sandboxes import Sandboxes
from cored.engine.snapshotters import Snapshotters
from cored.engine.streams import Streams
from cored.engine.tasks import Tasks
from cored.engine.transfers import end_transfers
from cored.engine.unpack import Unpacker
from cored.engine.volumes import Catalog as Volumes
from cored.engine.volumes import LocalDriver
from cored.hookspecs import PluginKind
from cored.metadata.store import Metadata
from cored.oci.security import Host
from cored.plugins import Plugins
from cored.services.diff import DiffService
from cored.services.garbage import GarbageService
from cored.services.introspection import IntrospectionService
from cored.services.mounts import MountsService
from cored.services.sandbox_controller import SandboxControllerService
from cored.services.sandbox_store import SandboxStoreService
from cored.services.stores import StoresService
from cored.services.streaming import StreamingService
from cored.services.transfer import TransferService

__all__ = ["opened"]


async def opened(config: Config, plugins: Plugins, stack: AsyncExitStack) -> Sequence[Service]:
    """Open all of it, which ``stack`` closes; the services."""
    metadata = plugins.require(Metadata)
    await plugins.open(PluginKind.DIFFER, stack)
    await plugins.open(PluginKind.SANDBOX_CONTROLLER, stack)
    await plugins.open(PluginKind.NETWORK, stack)
    await plugins.open(PluginKind.VOLUME_DRIVER, stack)
    await plugins.open(PluginKind.LOG_DRIVER, stack)
    exchange = plugins.require(Exchange)
    sandboxes = Sandboxes(
        plugins.open_of(PluginKind.SANDBOX_CONTROLLER), metadata.sandboxes, exchange
    )
    plugins.provide(
        Sandboxes, await stack.enter_async_context(sandboxes.opened(metadata.namespaces))
    )
    await _open_mounts(config, plugins, metadata, stack)
    await _open_images(config, plugins, metadata, exchange, stack)
    plugins.provide(Installation, _installation(config, plugins))
    await plugins.open(PluginKind.SERVICE, stack)
    return (*_services(config, plugins), *plugins.open_of(PluginKind.SERVICE).values())


def _installation(config: Config, plugins: Plugins) -> Installation:
    return Installation(
        cored.__version__,
        config.snapshotter,
        config.network,
        config.runtime,
        config.logging.driver,
        config.log_level,
        str(config.root),
        str(config.state),
        {str(kind): tuple(plugins.open_of(kind)) for kind in PluginKind},
    )


async def _open_mounts(
    config: Config, plugins: Plugins, metadata: Metadata, stack: AsyncExitStack
) -> None:
    manager = MountManager(
        metadata.activations,
        directory(config.state / "mounts", 0o700),
        {"loop": LoopHandler()},
        (config.root,),
    )
    plugins.provide(MountManager, await stack.enter_async_context(manager.opened()))
    metadata.gc.also(manager.sweep)


async def _open_images(
    config: Config,
    plugins: Plugins,
    metadata: Metadata,
    exchange: Exchange,
    stack: AsyncExitStack,
) -> None:
    """Pull, import, and images as people name them."""
    await end_transfers(metadata.leases, metadata.namespaces)
    registry = await stack.enter_async_context(
        Registry.opened([Path(root) for root in config.registry_config_dirs], config.registry)
    )
    plugins.provide(Registry, registry)
    plugins.provide(Streams, Streams())
    plugins.provide(Pusher, Pusher(registry, metadata.content, metadata.leases))
    plugins.provide(Exporter, Exporter(metadata.content))
    pool, snapshotters = plugins.require(WorkerPool), plugins.require(Snapshotters)
    unpacker = Unpacker(metadata.content, snapshotters, pool, emptied(config.state / "unpack"))
    plugins.provide(Unpacker, unpacker)
    hooks = plugins.hook
    plugins.provide(
        Puller,
        Puller(
            registry,
            metadata.content,
            metadata.images,
            metadata.leases,
            unpacker,
            Policy(hooks.cored_image_pull, hooks.cored_image_manifest),
        ),
    )
    spool = directory(config.root / "spool", 0o700)
    plugins.provide(Checker, _checker(config, metadata, registry, unpacker, pool, spool))
    plugins.provide(
        Importer, Importer(metadata.content, metadata.images, metadata.leases, unpacker, spool)
    )
    images = Images(metadata.images, metadata.content)
    plugins.provide(Images, images)
    _open_image_care(plugins, metadata, images, unpacker)
    roots = Roots(snapshotters, unpacker, metadata.leases)
    plugins.provide(Roots, roots)
    host = await asyncio.to_thread(probe)
    plugins.provide(Host, host)
    containers = Containers(
        metadata.containers,
        metadata.namespaces,
        plugins.require(Tasks),
        images,
        metadata.snapshotters,
        roots,
        await _networking(config, plugins, stack),
        Volumes(
            directory(config.root / "volumes", 0o711),
            {"local": LocalDriver(), **plugins.open_of(PluginKind.VOLUME_DRIVER)},
            exchange,
        ),
        exchange,
        directory(config.root / "containers", 0o700),
        host,
        LogDrivers(config.logging, _log_drivers(config, plugins)),
    )
    plugins.provide(Containers, await stack.enter_async_context(containers.opened()))
    await _open_container_care(config, plugins, metadata, exchange, stack)
    plugins.provide(
        Memberships,
        Memberships(
            containers,
            metadata.containers,
            metadata.namespaces,
            plugins.require(Catalog),
            plugins.require(Connections),
        ),
    )


def _log_drivers(config: Config, plugins: Plugins) -> Mapping[str, PluggedDriver]:
    """Those of plugins, and what the processes that write need to open them again."""
    found = {}
    for plugin in plugins:
        if plugin.kind is PluginKind.LOG_DRIVER and plugin.instance is not None:
            name = f"{plugin.kind}.{plugin.id}"
            context = {
                "id": plugin.id,
                "root": str(config.root / name),
                "state": str(config.state / name),
                "settings": dict(config.for_plugin(plugin.kind, plugin.id)),
                "address": config.address,
            }
            found[plugin.id] = PluggedDriver(plugin.instance, plugin.source, context)
    return found


async def _open_container_care(
    config: Config,
    plugins: Plugins,
    metadata: Metadata,
    exchange: Exchange,
    stack: AsyncExitStack,
) -> None:
    """What is done with containers that are there."""
    containers = plugins.require(Containers)
    chronicle = await asyncio.to_thread(Chronicle, config.root / "events" / "journal")
    events = plugins.require(FromTheStart).stream
    journal = Journal(events, metadata.containers, chronicle)
    plugins.provide(Journal, await stack.enter_async_context(journal.opened()))
    adjustments = Adjustments(containers, metadata.containers, plugins.require(Tasks))
    plugins.provide(Adjustments, adjustments)
    files = Files(
        containers, plugins.require(Snapshotters), emptied(config.state / "container-files")
    )
    plugins.provide(Files, files)
    committer = Committer(
        containers,
        adjustments,
        files,
        plugins.require(Images),
        metadata.images,
        metadata.content,
        metadata.leases,
        plugins.open_of(PluginKind.DIFFER),
        plugins.require(Unpacker),
    )
    plugins.provide(Committer, committer)
    usage = DiskUsage(
        plugins.require(ImageDetails), plugins.require(ImageRemoval), metadata.content,
        containers.storage,
    )  # fmt: skip
    plugins.provide(DiskUsage, usage)


async def _networking(config: Config, plugins: Plugins, stack: AsyncExitStack) -> Networking:
    """Networks as people use them, over the network plugin."""
    catalog = Catalog(
        config.root / "networks",
        [Path(path) for path in config.network_config_dirs],
        config.root / "addresses",
    )
    resolvers = Resolvers(directory(config.state / "resolvers", 0o755))
    network: Network = plugins.named(PluginKind.NETWORK, config.network)
    connections = Connections(network, catalog, resolvers, config.state / "netns")
    plugins.provide(Network, network)  # type: ignore[type-abstract]
    plugins.provide(Catalog, catalog)
    plugins.provide(Connections, await stack.enter_async_context(connections.opened()))
    return Networking(connections)


def _open_image_care(
    plugins: Plugins, metadata: Metadata, images: Images, unpacker: Unpacker
) -> None:
    """Listings, removal and mounts of images."""
    tasks, snapshotters = plugins.require(Tasks), plugins.require(Snapshotters)
    details = ImageDetails(images, metadata.images, metadata.content, snapshotters)
    plugins.provide(ImageDetails, details)
    removal = ImageRemoval(
        images,
        details,
        metadata.images,
        metadata.containers,
        metadata.content,
        metadata.snapshotters,
        metadata.gc,
        lambda namespace, id: (namespace, id) in tasks.known(),
    )
    plugins.provide(ImageRemoval, removal)
    plugins.provide(ImageMounts, ImageMounts(images, unpacker, snapshotters))


def _checker(
    config: Config,
    metadata: Metadata,
    registry: Registry,
    unpacker: Unpacker,
    pool: WorkerPool,
    spool: Path,
) -> Checker:
    content, snapshotters = metadata.content, metadata.snapshotters
    repairer = Repairer(
        metadata.inventory, content, snapshotters, metadata.leases, registry, unpacker, pool, spool
    )
    return Checker(
        metadata.inventory, content, snapshotters, metadata.leases, pool, repairer,
        metadata.gc, config.state / "unpack",
    )  # fmt: skip


def _services(config: Config, plugins: Plugins) -> Sequence[Service]:
    metadata = plugins.require(Metadata)
    streams = plugins.require(Streams)
    return (
        IntrospectionService(
            plugins, plugins.require(Tasks), config.root, directory(config.opt, 0o711)
        ),
        DiffService(plugins.open_of(PluginKind.DIFFER)),
        MountsService(plugins.require(MountManager)),
        SandboxStoreService(metadata.sandboxes),
        SandboxControllerService(plugins.require(Sandboxes)),
        GarbageService(metadata.gc),
        StoresService(
            plugins,
            metadata.inventory.snapshotters,
            plugins.require(Snapshotters),
            plugins.require(Checker),
        ),
        StreamingService(streams),
        TransferService(
            streams,
            metadata.images,
            metadata.leases,
            plugins.require(Puller),
            plugins.require(Pusher),
            plugins.require(Importer),
            plugins.require(Exporter),
        ),
    )
