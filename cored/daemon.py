"""Assembly of the daemon: the one place that names concrete classes; one exit stack for all.

Everything opens in order and closes in reverse, in two stages. The first (lock, events, content,
snapshots, metadata, runtime, tasks, and their services) is here; then the server listens. What else
there is (``second_stage.py``) is imported and opened while calls are answered already; calls of its
services wait. What this module imports is what keeps a restarted daemon from serving: see
``tests/unit/test_daemon_startup.py``. Containers are not among what closes: their shims live on
their own.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from types import ModuleType

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
from cored.errors import FailedPrecondition, PermissionDenied
from cored.hookspecs import PluginKind
from cored.metadata.store import Metadata
from cored.plugins import Context, Plugins, discover
from cored.rpc.server import serve
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

__all__ = ["Lock", "assembled", "make_plugins", "notify", "run"]


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
        if config.proxies():
            # imported here: few have any
            from cored.proxies import providers

            for kind, provider in providers(config):
                plugins.offer(kind, provider, "configuration: proxy_plugins")
        exchange = Exchange(lambda envelope: plugins.hook.cored_event(envelope=envelope))
        plugins.provide(EventBus, exchange)  # type: ignore[type-abstract]
        await _open_storage(config, plugins, exchange, stack)
        await _open_tasks(config, plugins, exchange, stack)
        # closed when no call is in flight any more
        rest = await stack.enter_async_context(AsyncExitStack())
        await stack.enter_async_context(
            serve_ttrpc(Path(f"{config.address}.ttrpc"), shim_events(exchange))
        )
        services = _services(plugins, exchange)
        server = await stack.enter_async_context(serve(config.address, services, config.grpc))
        # in a thread: calls are answered meanwhile
        second_stage = await asyncio.to_thread(_second_stage)
        await server.add(await second_stage.opened(config, plugins, rest))
        await server.complete()
        yield plugins


def _second_stage() -> ModuleType:
    from cored import second_stage

    return second_stage


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


async def _open_tasks(
    config: Config, plugins: Plugins, exchange: Exchange, stack: AsyncExitStack
) -> None:
    """The runtime, and all tasks of earlier daemons."""
    metadata = plugins.require(Metadata)
    await plugins.open(PluginKind.RUNTIME, stack)
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
