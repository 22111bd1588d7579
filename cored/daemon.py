"""Assembly of the daemon: the one place that names concrete classes; one exit stack for all.

Everything opens here in order (lock, events, plugins by kind, metadata, engine, services, server)
and closes in reverse. Containers are not among what closes: their shims live on their own.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from cored import linux, log, proxies
from cored.abc.content import ContentStore
from cored.abc.events import EventBus
from cored.abc.network import Network
from cored.abc.records import ContainerStore, ImageStore, LeaseStore, NamespaceStore, SandboxStore
from cored.abc.runtime import Runtime
from cored.abc.service import Service
from cored.archive.pool import WorkerPool
from cored.config import Config
from cored.engine.adjustments import Adjustments
from cored.engine.check import Checker
from cored.engine.check.repair import Repairer
from cored.engine.checkpoints import Checkpoints
from cored.engine.commit import Committer
from cored.engine.containers import Containers
from cored.engine.events import Exchange
from cored.engine.export import Exporter
from cored.engine.files import Files
from cored.engine.host import probe
from cored.engine.image_details import ImageDetails
from cored.engine.image_mounts import ImageMounts
from cored.engine.image_removal import ImageRemoval
from cored.engine.images import Images
from cored.engine.importing import Importer
from cored.engine.journal import Journal
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
from cored.errors import FailedPrecondition, PermissionDenied, from_os_error
from cored.hookspecs import PluginKind
from cored.metadata.store import Metadata
from cored.plugins import Context, Plugins, discover
from cored.rpc.server import serve
from cored.rpc.ttrpc_server import serve as serve_ttrpc
from cored.services.shim_events import shim_events

__all__ = ["Lock", "assembled", "directory", "make_plugins", "notify", "run"]


async def run(config: Config) -> None:
    """Serve until SIGTERM or SIGINT; then finish what is in flight. Containers stay."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    logger = log.get("daemon")
    async with assembled(config):
        logger.info("serving", address=config.address, root=str(config.root), pid=os.getpid())
        notify("READY=1")
        await stop.wait()
        logger.info("stopping: finishing calls in flight, containers stay")
        notify("STOPPING=1")


@asynccontextmanager
async def assembled(config: Config) -> AsyncIterator[Plugins]:
    """A whole daemon, serving on ``config.address`` while the body runs."""
    if os.geteuid() != 0:
        raise PermissionDenied(
            "cored: needs root to mount and to make namespaces", hint="run it with sudo"
        )
    async with AsyncExitStack() as stack:
        stack.enter_context(Lock(directory(config.root, 0o711) / "lock"))
        directory(config.state, 0o711)
        plugins = make_plugins(config)
        for kind, provider in proxies.providers(config):
            plugins.offer(kind, provider, "configuration: proxy_plugins")
        exchange = Exchange(lambda envelope: plugins.hook.cored_event(envelope=envelope))
        plugins.provide(EventBus, exchange)  # type: ignore[type-abstract]
        await _open_storage(config, plugins, exchange, stack)
        await _open_engine(config, plugins, exchange, stack)
        services = await _services(config, plugins, exchange, stack)
        await stack.enter_async_context(
            serve_ttrpc(Path(f"{config.address}.ttrpc"), shim_events(exchange))
        )
        await stack.enter_async_context(serve(config.address, services, config.grpc))
        yield plugins


def notify(state: str) -> None:
    """Tell systemd (sd_notify(3)); nothing where there is none."""
    target = os.environ.get("NOTIFY_SOCKET")
    if not target:
        return
    import socket

    if target.startswith("@"):
        target = "\0" + target[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.sendto(state.encode(), target)


class Lock:
    """One daemon per root: an flock that the kernel lets go of when we die."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(self._fd, 32, 0).decode(errors="replace").strip()
            os.close(self._fd)
            raise FailedPrecondition(
                f"root {self._path.parent}: in use by another cored (pid {holder or 'unknown'})",
                hint="stop it, or choose another --root",
            ) from error
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, f"{os.getpid()}\n".encode(), 0)

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)


def directory(path: Path, mode: int) -> Path:
    """See that a directory is there."""
    try:
        path.mkdir(mode=mode, parents=True, exist_ok=True)
    except OSError as error:
        raise from_os_error(f"directory {path}", error) from error
    return path


def _empty(path: Path) -> Path:
    """A directory for mounts of the moment, without those that a crash has left."""
    directory(path, 0o700)
    for place in path.iterdir():
        linux.unmount_all(place, lazy=True)
        place.rmdir()
    return path


def make_plugins(config: Config) -> Plugins:
    """All plugins of the installation, none of them open."""
    manager, failed = discover()

    def context(plugins: Plugins, kind: PluginKind, id: str) -> Context:
        return Context(
            id=id,
            kind=kind,
            root=directory(config.root / f"{kind}.{id}", 0o711),
            state=directory(config.state / f"{kind}.{id}", 0o711),
            settings=config.for_plugin(kind, id),
            address=config.address,
            plugins=plugins,
        )

    return Plugins(manager, failed, context, frozenset(config.disabled_plugins))


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


async def _open_engine(
    config: Config, plugins: Plugins, exchange: Exchange, stack: AsyncExitStack
) -> None:
    """Workers, differs, runtime and networks, and what the daemon does with them."""
    metadata = plugins.require(Metadata)
    pool = await stack.enter_async_context(WorkerPool.opened(config.unpack_workers))
    plugins.provide(WorkerPool, pool)
    await plugins.open(PluginKind.DIFFER, stack)
    await plugins.open(PluginKind.RUNTIME, stack)
    await plugins.open(PluginKind.NETWORK, stack)
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
    checkpoints = Checkpoints(
        tasks,
        metadata.containers,
        metadata.content,
        pool,
        directory(config.state / "checkpoints", 0o700),
    )
    checkpoints.clean()
    plugins.provide(Checkpoints, checkpoints)
    await plugins.open(PluginKind.SANDBOX_CONTROLLER, stack)
    sandboxes = Sandboxes(
        plugins.open_of(PluginKind.SANDBOX_CONTROLLER), metadata.sandboxes, exchange
    )
    plugins.provide(
        Sandboxes, await stack.enter_async_context(sandboxes.opened(metadata.namespaces))
    )
    await _open_mounts(config, plugins, metadata, stack)
    await _open_images(config, plugins, metadata, pool, exchange, stack)


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
    pool: WorkerPool,
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
    snapshotters = Snapshotters(metadata.snapshotters, metadata.namespaces, config.snapshotter)
    plugins.provide(Snapshotters, snapshotters)
    unpacker = Unpacker(metadata.content, snapshotters, pool, _empty(config.state / "unpack"))
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
    containers = Containers(
        metadata.containers,
        metadata.namespaces,
        plugins.require(Tasks),
        images,
        metadata.snapshotters,
        Roots(snapshotters, unpacker, metadata.leases),
        await _networking(config, plugins, stack),
        Volumes(directory(config.root / "volumes", 0o711), {"local": LocalDriver()}, exchange),
        exchange,
        directory(config.root / "containers", 0o700),
        await asyncio.to_thread(probe),
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


async def _open_container_care(
    config: Config,
    plugins: Plugins,
    metadata: Metadata,
    exchange: Exchange,
    stack: AsyncExitStack,
) -> None:
    """What is done with containers that are there."""
    containers = plugins.require(Containers)
    journal = Journal(exchange, metadata.containers)
    plugins.provide(Journal, await stack.enter_async_context(journal.opened()))
    adjustments = Adjustments(containers, metadata.containers, plugins.require(Tasks))
    plugins.provide(Adjustments, adjustments)
    files = Files(
        containers, plugins.require(Snapshotters), _empty(config.state / "container-files")
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


async def _services(
    config: Config, plugins: Plugins, exchange: Exchange, stack: AsyncExitStack
) -> Sequence[Service]:
    from cored.services.containers import ContainersService
    from cored.services.content import ContentService
    from cored.services.diff import DiffService
    from cored.services.events import EventsService
    from cored.services.garbage import GarbageService
    from cored.services.images import ImagesService
    from cored.services.introspection import IntrospectionService
    from cored.services.leases import LeasesService
    from cored.services.mounts import MountsService
    from cored.services.namespaces import NamespacesService
    from cored.services.sandbox_controller import SandboxControllerService
    from cored.services.sandbox_store import SandboxStoreService
    from cored.services.snapshots import SnapshotsService
    from cored.services.stores import StoresService
    from cored.services.streaming import StreamingService
    from cored.services.tasks import TasksService
    from cored.services.transfer import TransferService
    from cored.services.version import VersionService

    metadata = plugins.require(Metadata)
    tasks = plugins.require(Tasks)
    await plugins.open(PluginKind.SERVICE, stack)
    return (
        VersionService(),
        IntrospectionService(plugins, tasks, config.root, directory(config.opt, 0o711)),
        NamespacesService(metadata.namespaces),
        LeasesService(metadata.leases, metadata.gc),
        ContentService(metadata.content),
        ImagesService(metadata.images, metadata.gc),
        SnapshotsService(metadata.snapshotters, plugins.require(Snapshotters).default),
        DiffService(plugins.open_of(PluginKind.DIFFER)),
        ContainersService(metadata.containers),
        TasksService(tasks, metadata.containers, plugins.require(Checkpoints)),
        EventsService(exchange),
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
        StreamingService(plugins.require(Streams)),
        TransferService(
            plugins.require(Streams),
            metadata.images,
            metadata.leases,
            plugins.require(Puller),
            plugins.require(Pusher),
            plugins.require(Importer),
            plugins.require(Exporter),
        ),
        *plugins.open_of(PluginKind.SERVICE).values(),
    )
