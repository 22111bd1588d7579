"""cored.stores.v1.Stores: snapshotters, and the check of everything."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping

from cored._pb.cored.stores.v1 import stores_pb2 as pb
from cored.abc.service import Service
from cored.abc.snapshots import Snapshotter
from cored.engine.check import Checker, Damage, Event, Order, Stage, Summary
from cored.engine.registry import Credentials, known_user
from cored.engine.snapshotters import Snapshotters
from cored.errors import NotFound
from cored.hookspecs import PluginKind
from cored.plugins import LoadedPlugin, Plugins
from cored.services.garbage import node_message

__all__ = ["StoresService"]


class StoresService(Service):
    service = "cored.stores.v1.Stores"

    def __init__(
        self,
        plugins: Plugins,
        backends: Mapping[str, Snapshotter],
        snapshotters: Snapshotters,
        checker: Checker,
    ) -> None:
        self._plugins = plugins
        self._backends = backends
        self._snapshotters = snapshotters
        self._checker = checker

    async def Snapshotters(self, request: pb.SnapshottersRequest) -> pb.SnapshottersResponse:
        default = await self._snapshotters.default()
        answer = pb.SnapshottersResponse()
        for plugin in self._offered():
            message = answer.snapshotters.add(
                id=plugin.id, error=plugin.error, default=plugin.id == default
            )
            if plugin.provider is not None:
                message.capabilities.extend(plugin.provider.capabilities)
            backend = None if plugin.error else self._backends.get(plugin.id)
            if backend is not None:
                message.root = getattr(backend, "exports", {}).get("root", "")
                await _measure(backend, message)
        return answer

    async def Check(self, request: pb.CheckRequest) -> AsyncIterator[pb.CheckEvent]:
        user = Credentials(request.username, request.password) if request.username else None
        order = Order(
            repair=request.repair, contents=not request.skip_contents, access=known_user(user)
        )
        async for event in self._checker.run(order):
            yield _event(event)

    def _offered(self) -> Iterator[LoadedPlugin]:
        return (plugin for plugin in self._plugins if plugin.kind is PluginKind.SNAPSHOTTER)


async def _measure(backend: Snapshotter, message: pb.Snapshotter) -> None:
    async for snapshot in backend.walk():
        try:
            usage = await backend.usage(snapshot.name)
        except NotFound:
            continue  # removed since it was listed
        message.snapshots += 1
        message.size += usage.size
        message.inodes += usage.inodes


def _event(event: Event) -> pb.CheckEvent:
    match event:
        case Stage(what, done, total):
            return pb.CheckEvent(stage=pb.Stage(what=node_message(what), done=done, total=total))
        case Damage():
            damage = pb.Damage(
                what=node_message(event.node),
                reason=event.reason,
                users=map(node_message, event.users),
                repaired=event.repaired,
                remedy=event.remedy,
            )
            return pb.CheckEvent(damage=damage)
        case Summary():
            summary = pb.Summary(
                blobs=event.blobs,
                size=event.size,
                snapshots=event.snapshots,
                contents=event.contents,
                damaged=event.damaged,
                repaired=event.repaired,
                leftovers=map(node_message, event.leftovers),
            )
            return pb.CheckEvent(summary=summary)
