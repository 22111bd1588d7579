"""Garbage collection: mark in one transaction, sweep, at the times that containerd would choose."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Container, Coroutine, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from cored import log
from cored.abc.content import ContentStore
from cored.abc.events import ContentDelete, EventBus, ImageDelete, SnapshotRemove
from cored.abc.snapshots import Snapshot, Snapshotter
from cored.config import GcConfig
from cored.database import Database
from cored.dataclass import dataclass
from cored.errors import CoredError, FailedPrecondition, NotFound, Unavailable
from cored.metadata.explain import Chain, explain, known, named
from cored.metadata.graph import Graph, Node
from cored.metadata.guard import Guard
from cored.metadata.rows import dumped
from cored.metadata.snapshots import renamed_from

__all__ = ["Collected", "Collector", "Scheduler", "known_blobs"]

# what a collection looks at: type of node, rows as (namespace, id), how to delete one of them
_KINDS = (
    ("lease", "leases", "id"),
    ("image", "images", "name"),
    ("content", "blobs", "digest"),
    ("ingests", "ingests", "ref"),
    ("mounts", "activations", "name"),
)


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
        self.sweepers: list[Callable[[], Coroutine[Any, Any, None]]] = []
        """What owners of other things do when rows of theirs may have gone."""

    async def run(self) -> Collected:
        """Collect now. Requests that make or remove things wait meanwhile."""
        start = time.monotonic()
        async with self._guard.collecting():
            for id, snapshotter in self._snapshotters.items():
                await self._tried(f"snapshotter {id}", self._mend(id, snapshotter))
            removed = await self._db.write(_sweep)
            for id, snapshotter in self._snapshotters.items():
                await self._tried(f"snapshotter {id}", self._sweep_snapshots(id, snapshotter))
            await self._tried("content store", self._sweep_content())
            for sweep in self.sweepers:
                await self._tried("what belongs to rows", sweep())
        for node in removed:
            await self._tell(node)
        done = Collected(tuple(removed), time.monotonic() - start)
        self._log.debug("collected", removed=len(removed), seconds=round(done.seconds, 4))
        return done

    async def mend(self) -> None:
        """Only finish what a crash cut short."""
        async with self._guard.collecting():
            for id, snapshotter in self._snapshotters.items():
                await self._tried(f"snapshotter {id}", self._mend(id, snapshotter))

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
        """A backend that is away (a proxy's peer), or damaged, is swept the next time."""
        try:
            await sweep
        except Exception as error:
            self._log.warning("not swept", what=what, error=str(error) or repr(error))

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

    async def _mend(self, id: str, snapshotter: Snapshotter) -> None:
        """Finish, in the rows, the commits that a crash cut short; drop rows with no backend."""
        found = {s.name: s async for s in snapshotter.walk()}
        rows = self._db.read.execute(
            "SELECT backend_key, namespace, key FROM snapshots WHERE snapshotter = ?", (id,)
        )
        known = {backend_key: (namespace, key) for backend_key, namespace, key in rows}
        committed = {renamed_from(name)[0]: found[name] for name in found.keys() - known.keys()}
        for backend_key in known.keys() - found.keys():
            namespace, key = known[backend_key]
            start = "/".join(backend_key.split("/", 2)[:2]) + "/"
            made = committed.get(start)
            self._log.warning(
                "snapshot without a backend", snapshotter=id, key=key, mended=made is not None
            )
            over = known.get(made.parent, ("", ""))[1] if made else ""
            await self._db.write(partial(_mended, namespace, id, key, made, over))

    async def _sweep_snapshots(self, id: str, snapshotter: Snapshotter) -> None:
        """Remove what only the backend knows."""
        known = {
            key
            for (key,) in self._db.read.execute(
                "SELECT backend_key FROM snapshots WHERE snapshotter = ?", (id,)
            )
        }
        extra = {s.name: s.parent async for s in snapshotter.walk() if s.name not in known}
        while extra:
            # children before their parents
            for name in extra.keys() - set(extra.values()):
                del extra[name]
                try:
                    await snapshotter.remove(name)
                except (NotFound, FailedPrecondition) as error:
                    self._log.warning("snapshot not removed", snapshotter=id, error=str(error))

    async def _sweep_content(self) -> None:
        open_ = {status.ref async for status in self._content.ingests()}
        known = known_blobs(self._db.read, open_)
        stale = [info.digest async for info in self._content.walk() if info.digest not in known]
        for digest in stale:
            try:
                await self._content.delete(digest)
            except NotFound:
                continue  # gone already: what we wanted
        refs = {ref for (ref,) in self._db.read.execute("SELECT backend_ref FROM ingests")}
        for ref in open_ - refs:
            try:
                await self._content.abort(ref)
            except Unavailable:
                continue  # somebody writes: it goes, or becomes a blob, when they are done
            except CoredError as error:
                self._log.warning("ingest not removed", ref=ref, error=str(error))


def known_blobs(connection: sqlite3.Connection, ingests: Container[str]) -> set[str]:
    """The digests that rows know: of blobs, and of those that ingests have become.

    A crash between a blob and its row leaves the row of an ingest that is not among the backend's
    ``ingests`` any more: who goes on with that finds the blob.
    """
    known = {digest for (digest,) in connection.execute("SELECT digest FROM blobs")}
    rows = connection.execute("SELECT expected, backend_ref FROM ingests WHERE expected != ''")
    return known | {expected for expected, ref in rows if ref not in ingests}


def _sweep(connection: sqlite3.Connection) -> list[Node]:
    """Delete the rows that are not marked; answer what they were."""
    graph = Graph.read(connection)
    kept = graph.marked()
    removed = []
    for type, table, column in _KINDS:
        for namespace, id in connection.execute(
            f"SELECT namespace, {column} FROM {table}"
        ).fetchall():
            node = Node(type, namespace, id)
            if node not in kept:
                connection.execute(
                    f"DELETE FROM {table} WHERE namespace = ? AND {column} = ?", (namespace, id)
                )
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


def _mended(
    namespace: str,
    id: str,
    key: str,
    made: Snapshot | None,
    parent: str,
    connection: sqlite3.Connection,
) -> None:
    """Replace the row ``key`` by one for ``made``, held by the same leases; drop it for None."""
    row = (namespace, id, key)
    name = renamed_from(made.name)[1] if made else ""
    where = "WHERE namespace = ? AND snapshotter = ? AND key = ?"
    taken = connection.execute(f"SELECT 1 FROM snapshots {where}", (namespace, id, name)).fetchone()
    if made is None or taken:
        connection.execute(f"DELETE FROM snapshots {where}", row)
        return
    connection.execute(
        "UPDATE snapshots SET key = ?, backend_key = ?, kind = ?, parent = ?, labels = ?,"
        f" created_at = ?, updated_at = ? {where}",
        (
            *(name, made.name, str(made.kind), parent, dumped(dict(made.labels))),
            *(made.created_at, made.updated_at, *row),
        ),
    )
    connection.execute(
        "INSERT OR IGNORE INTO lease_resources SELECT namespace, lease, type, ? FROM"
        " lease_resources WHERE namespace = ? AND type = ? AND id = ?",
        (name, namespace, f"snapshots/{id}", key),
    )


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

    def also(self, sweep: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Have ``sweep`` run at the end of each collection, while requests still wait."""
        self._collector.sweepers.append(sweep)

    async def collect(self) -> Collected:
        """Collect now and return when it is done."""
        return await self._collector.run()

    async def mend(self) -> None:
        """Finish what a crash cut short, without collecting anything."""
        await self._collector.mend()

    async def unreachable(self) -> list[Node]:
        """What a collection would remove now."""
        return self._collector.unreachable()

    async def explain(self, namespace: str, id: str) -> dict[Node, list[Chain]]:
        """By each thing that ``id`` names: what keeps it. Empty when nothing has this name."""
        return self._collector.explain(namespace, id)

    def _changed(self) -> None:
        deletions, mutations = self._guard.deletions, self._guard.mutations
        config = self._config
        # without a deletion, too: leases expire, and labels change
        enough = config.mutation_threshold and mutations >= config.mutation_threshold
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
            except Exception as error:
                # whatever it is (a full disk): the daemon would not collect ever again
                log.get("gc").error("collection failed", error=str(error) or repr(error))
            await self._wanted.wait()
            await asyncio.sleep(max(self._config.schedule_delay, self._pause))
