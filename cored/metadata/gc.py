"""Garbage collection: mark in one transaction, sweep, at the times that containerd would choose."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from cored import log
from cored.abc.content import ContentStore
from cored.abc.events import ContentDelete, EventBus, ImageDelete, SnapshotRemove
from cored.abc.snapshots import Snapshotter
from cored.config import GcConfig
from cored.database import Database
from cored.errors import CoredError, FailedPrecondition, NotFound
from cored.metadata.explain import Chain, explain, known, named
from cored.metadata.graph import Graph, Node
from cored.metadata.guard import Guard

__all__ = ["Collected", "Collector", "Scheduler"]

_INGEST_LIFE = 24 * 3600 * 1_000_000_000


@dataclass(frozen=True, slots=True)
class Collected:
    """What one collection took away, and how long it took, seconds."""

    removed: tuple[Node, ...]
    seconds: float


class Collector:
    """Removes what nothing refers to, from the metadata and then from the backends."""

    def __init__(
        self,
        database: Database,
        content: ContentStore,
        snapshotters: Mapping[str, Snapshotter],
        events: EventBus,
        guard: Guard,
    ) -> None:
        self._db = database
        self._content = content
        self._snapshotters = snapshotters
        self._events = events
        self._guard = guard
        self._log = log.get("gc")
        self.sweepers: list[Callable[[], Awaitable[None]]] = []
        """What owners of other things do when rows of theirs may have gone."""

    async def run(self) -> Collected:
        """Collect now. Requests that make or remove things wait meanwhile."""
        start = time.monotonic()
        async with self._guard.collecting():
            removed = await self._db.write(_sweep)
            for id, snapshotter in self._snapshotters.items():
                await self._tried(f"snapshotter {id}", self._sweep_snapshots(id, snapshotter))
            await self._tried("content store", self._sweep_content())
            for sweep in self.sweepers:
                await sweep()
        for node in removed:
            await self._tell(node)
        done = Collected(tuple(removed), time.monotonic() - start)
        self._log.debug("collected", removed=len(removed), seconds=round(done.seconds, 4))
        return done

    def unreachable(self) -> list[Node]:
        """What :meth:`run` would remove now, looked up without removing it."""
        kept = Graph.read(self._db.read).marked()
        never = ("container", "sandbox")
        return [n for n in known(self._db.read) if n not in kept and n.type not in never]

    def explain(self, namespace: str, id: str) -> dict[Node, list[Chain]]:
        """What ``id`` names, and the chains of references that keep each."""
        graph = Graph.read(self._db.read)
        return {node: explain(graph, node) for node in named(known(self._db.read), namespace, id)}

    async def _tried(self, what: str, sweep: Coroutine[Any, Any, None]) -> None:
        """A backend that is away (a proxy's peer) is swept the next time."""
        try:
            await sweep
        except CoredError as error:
            self._log.warning("not swept", what=what, error=str(error))

    async def _tell(self, node: Node) -> None:
        match node.type.partition("/"):
            case ("content", _, _):
                await self._events.publish(ContentDelete(node.id), namespace=node.namespace)
            case ("snapshots", _, snapshotter):
                await self._events.publish(
                    SnapshotRemove(node.id, snapshotter), namespace=node.namespace
                )
            case ("image", _, _):
                await self._events.publish(ImageDelete(node.id), namespace=node.namespace)
            case _:
                pass

    async def _sweep_snapshots(self, id: str, snapshotter: Snapshotter) -> None:
        """Bring backend and rows together: what only one of them knows, a crash left."""
        known = {
            key
            for (key,) in self._db.read.execute(
                "SELECT backend_key FROM snapshots WHERE snapshotter = ?", (id,)
            )
        }
        found = {s.name: s.parent async for s in snapshotter.walk()}
        extra = {name: parent for name, parent in found.items() if name not in known}
        while extra:
            # children before their parents
            leaves = [name for name in extra if name not in extra.values()]
            for name in leaves:
                del extra[name]
                try:
                    await snapshotter.remove(name)
                except (NotFound, FailedPrecondition) as error:
                    self._log.warning("snapshot not removed", snapshotter=id, error=str(error))
        missing = known - found.keys()
        if missing:
            self._log.warning("snapshots without a backend dropped", snapshotter=id, n=len(missing))
            await self._db.write(
                lambda c: c.executemany(
                    "DELETE FROM snapshots WHERE snapshotter = ? AND backend_key = ?",
                    [(id, key) for key in missing],
                )
            )

    async def _sweep_content(self) -> None:
        known = {d for (d,) in self._db.read.execute("SELECT DISTINCT digest FROM blobs")}
        stale = [info.digest async for info in self._content.walk() if info.digest not in known]
        for digest in stale:
            try:
                await self._content.delete(digest)
            except NotFound:
                continue  # gone already: what we wanted
        refs = {ref for (ref,) in self._db.read.execute(
            "SELECT i.backend_ref FROM ingests i JOIN lease_resources r"
            " ON r.namespace = i.namespace AND r.type = 'ingests' AND r.id = i.ref"
        )}  # fmt: skip
        old = time.time_ns() - _INGEST_LIFE
        abandoned = [
            status.ref
            async for status in self._content.ingests()
            if status.ref not in refs and status.updated_at < old
        ]
        for ref in abandoned:
            try:
                await self._content.abort(ref)
            except CoredError as error:
                self._log.warning("ingest not removed", ref=ref, error=str(error))


def _sweep(connection: sqlite3.Connection) -> list[Node]:
    """Delete the rows that are not marked; answer what they were."""
    graph = Graph.read(connection)
    kept = graph.marked()
    removed = []
    for type, sql, delete in (
        (
            "content",
            "SELECT namespace, digest FROM blobs",
            "DELETE FROM blobs WHERE namespace = ? AND digest = ?",
        ),
        (
            "lease",
            "SELECT namespace, id FROM leases",
            "DELETE FROM leases WHERE namespace = ? AND id = ?",
        ),
        (
            "mounts",
            "SELECT namespace, name FROM activations",
            "DELETE FROM activations WHERE namespace = ? AND name = ?",
        ),
    ):
        for namespace, id in connection.execute(sql).fetchall():
            node = Node(type, namespace, id)
            if node not in kept:
                connection.execute(delete, (namespace, id))
                removed.append(node)
    for namespace, snapshotter, key in connection.execute(
        "SELECT namespace, snapshotter, key FROM snapshots"
    ).fetchall():
        node = Node(f"snapshots/{snapshotter}", namespace, key)
        if node not in kept:
            connection.execute(
                "DELETE FROM snapshots WHERE namespace = ? AND snapshotter = ? AND key = ?",
                (namespace, snapshotter, key),
            )
            removed.append(node)
    return removed


class Scheduler:
    """Runs the collector: soon after the start, after enough changes, and when asked to."""

    def __init__(self, collector: Collector, guard: Guard, config: GcConfig) -> None:
        self._collector = collector
        self._guard = guard
        self._config = config
        self._wanted = asyncio.Event()
        self._pause = 0.0

    @classmethod
    @asynccontextmanager
    async def opened(
        cls, collector: Collector, guard: Guard, config: GcConfig
    ) -> AsyncIterator[Scheduler]:
        """Collect in the background while the body runs."""
        scheduler = cls(collector, guard, config)
        guard.on_change = scheduler._changed
        task = asyncio.create_task(scheduler._run(), name="gc")
        try:
            yield scheduler
        finally:
            guard.on_change = None
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def also(self, sweep: Callable[[], Awaitable[None]]) -> None:
        """Have ``sweep`` run at the end of each collection, while requests still wait."""
        self._collector.sweepers.append(sweep)

    async def collect(self) -> Collected:
        """Collect now and return when it is done."""
        return await self._collector.run()

    async def unreachable(self) -> list[Node]:
        """What a collection would remove now."""
        return self._collector.unreachable()

    async def explain(self, namespace: str, id: str) -> dict[Node, list[Chain]]:
        """By each thing that ``id`` names: what keeps it. Empty when nothing has this name."""
        return self._collector.explain(namespace, id)

    def _changed(self) -> None:
        deletions, mutations = self._guard.deletions, self._guard.mutations
        config = self._config
        enough = deletions and config.mutation_threshold and mutations >= config.mutation_threshold
        if enough or (config.deletion_threshold and deletions >= config.deletion_threshold):
            self._wanted.set()

    async def _run(self) -> None:
        await asyncio.sleep(self._config.startup_delay)
        while True:
            self._wanted.clear()
            try:
                done = await self._collector.run()
                # never busy for more than this share of the time
                self._pause = done.seconds / max(self._config.pause_threshold, 0.001)
            except CoredError as error:
                log.get("gc").error("collection failed", error=str(error))
            await self._wanted.wait()
            await asyncio.sleep(max(self._config.schedule_delay, self._pause))
