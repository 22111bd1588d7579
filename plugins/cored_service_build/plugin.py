"""Opens the builder: its cache, its directories, its service."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from cored.abc.content import ContentStore
from cored.abc.differ import Differ
from cored.abc.records import ContainerStore, ImageStore, LeaseStore, NamespaceStore
from cored.abc.service import Service
from cored.hookspecs import PluginContext, PluginKind, Provider, hookimpl

__all__ = ["cored_grpc_service"]


@asynccontextmanager
async def _opened(context: PluginContext) -> AsyncIterator[Service]:
    # not before the daemon serves
    from cored.archive.pool import WorkerPool
    from cored.database import Database
    from cored.engine.containers import Containers
    from cored.engine.export import Exporter
    from cored.engine.images import Images
    from cored.engine.pull import Puller
    from cored.engine.push import Pusher
    from cored.engine.snapshotters import Snapshotters
    from cored.engine.tasks import Tasks
    from cored.engine.unpack import Unpacker
    from cored_service_build.builder import CONTEXTS, Builder, Parts
    from cored_service_build.cache import MIGRATIONS, Cache
    from cored_service_build.running import Runner
    from cored_service_build.service import BuildService

    settings = context.settings
    content = context.require(ContentStore)  # type: ignore[type-abstract]
    leases = context.require(LeaseStore)  # type: ignore[type-abstract]
    containers = context.require(ContainerStore)  # type: ignore[type-abstract]
    snapshotters, pool = context.require(Snapshotters), context.require(WorkerPool)
    differ = context.named(PluginKind.DIFFER, str(settings.get("differ", "walking")))
    assert isinstance(differ, Differ)
    unpack = context.state / "unpack"
    work = context.state / "work"
    for place in (unpack, work):
        place.mkdir(mode=0o700, exist_ok=True)
    runner = Runner(
        context.require(Tasks),
        containers,
        context.require(Containers).networking,
        context.require(Containers).host,
        work,
    )
    async with Database.opened(context.root / "cache.db", MIGRATIONS) as database:
        parts = Parts(
            cache=Cache(database, leases, content),
            images=context.require(Images),
            image_store=context.require(ImageStore),  # type: ignore[type-abstract]
            content=content,
            leases=leases,
            namespaces=context.require(NamespaceStore),  # type: ignore[type-abstract]
            containers=containers,
            snapshotters=snapshotters,
            puller=context.require(Puller),
            unpacker=Unpacker(content, snapshotters, pool, unpack),
            pool=pool,
            differ=differ,
            runner=runner,
            root=context.root,
            state=context.state,
        )
        builder = Builder(
            parts,
            int(settings.get("parallel", 0)),
            int(settings.get("contexts", CONTEXTS)),
        )
        await builder.clean()
        exporter, pusher = context.require(Exporter), context.require(Pusher)
        try:
            yield BuildService(builder, exporter, pusher, content)
        finally:
            await builder.endings.wait()


@hookimpl
def cored_grpc_service() -> Provider[Service]:
    return Provider("build", _opened)
