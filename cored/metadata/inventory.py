"""All that the rows say is there, over all namespaces, beside what the backends have."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from cored.abc.content import ContentStore
from cored.abc.snapshots import Kind, Snapshotter
from cored.abc.values import Labels
from cored.database import Database
from cored.dataclass import dataclass
from cored.errors import AlreadyExists, NotFound
from cored.metadata.explain import explain
from cored.metadata.gc import known_blobs
from cored.metadata.graph import Graph, Node
from cored.metadata.guard import Guard

__all__ = ["BlobRow", "Inventory", "SnapshotRow"]

_CHUNK = 1 << 20
_BLOBS = "SELECT namespace, digest, size, labels FROM blobs"
_SNAPSHOTS = "SELECT namespace, snapshotter, key, backend_key, kind, parent FROM snapshots"


@dataclass(frozen=True, slots=True)
class BlobRow:
    """One namespace's record of a blob."""

    namespace: str
    digest: str
    size: int
    labels: Labels

    @property
    def node(self) -> Node:
        return Node("content", self.namespace, self.digest)


@dataclass(frozen=True, slots=True)
class SnapshotRow:
    """One namespace's record of a snapshot; ``parent`` is a key in the same namespace."""

    namespace: str
    snapshotter: str
    key: str
    backend_key: str
    kind: Kind
    parent: str

    @property
    def node(self) -> Node:
        return Node(f"snapshots/{self.snapshotter}", self.namespace, self.key)


class Inventory:
    """``content`` and ``snapshotters`` are the backends, without namespaces."""

    def __init__(
        self,
        database: Database,
        content: ContentStore,
        snapshotters: Mapping[str, Snapshotter],
        guard: Guard,
    ) -> None:
        self._db = database
        self.content = content
        self.snapshotters = snapshotters
        self._guard = guard

    def blobs(self, digest: str = "") -> dict[str, list[BlobRow]]:
        """The records of blobs by digest: of all, or of one."""
        only = " WHERE digest = ?" if digest else ""
        found: dict[str, list[BlobRow]] = {}
        rows = self._db.read.execute(f"{_BLOBS}{only} ORDER BY digest", (digest,) if digest else ())
        for namespace, name, size, labels in rows:
            found.setdefault(name, []).append(BlobRow(namespace, name, size, json.loads(labels)))
        return found

    def snapshots(self) -> list[SnapshotRow]:
        """The records of all snapshots, parents before their children."""
        rows = {row.node: row for row in map(_snapshot, self._db.read.execute(_SNAPSHOTS))}
        ordered: dict[Node, SnapshotRow] = {}
        for row in rows.values():
            path = []
            step: SnapshotRow | None = row
            while step is not None and step.node not in ordered and step not in path:
                path.append(step)
                step = rows.get(step.node._replace(id=step.parent))
            ordered.update((each.node, each) for each in reversed(path))
        return list(ordered.values())

    def snapshot(self, node: Node) -> SnapshotRow | None:
        """The record as it is now."""
        where = " WHERE namespace = ? AND snapshotter = ? AND key = ?"
        values = (node.namespace, node.type.partition("/")[2], node.id)
        row = self._db.read.execute(_SNAPSHOTS + where, values).fetchone()
        return None if row is None else _snapshot(row)

    def dangling(self) -> Iterator[tuple[Node, str]]:
        """Images and containers whose records name what has none, with the reason."""
        yield from self._dangling(
            "image",
            "SELECT i.namespace, i.name, i.digest FROM images i LEFT JOIN blobs b ON"
            " b.namespace = i.namespace AND b.digest = i.digest WHERE b.digest IS NULL",
            "its target {} is not in the content store",
        )
        yield from self._dangling(
            "container",
            "SELECT c.namespace, c.id, c.snapshot_key FROM containers c LEFT JOIN snapshots s ON"
            " s.namespace = c.namespace AND s.snapshotter = c.snapshotter"
            " AND s.key = c.snapshot_key WHERE c.snapshot_key != '' AND s.key IS NULL",
            "its snapshot {!r} is not there",
        )

    def image_names(self) -> list[str]:
        """The names of all namespaces' images."""
        return [name for (name,) in self._db.read.execute("SELECT DISTINCT name FROM images")]

    def users(self, nodes: list[Node]) -> dict[Node, tuple[Node, ...]]:
        """By node: the images, containers, leases... that keep it."""
        graph = Graph.read(self._db.read)
        return {node: tuple(chain.nodes[0] for chain in explain(graph, node)) for node in nodes}

    async def leftovers(self) -> list[Node]:
        """What backends hold and no row knows; the next collection removes it.

        No request is under way while it looks, so that nothing half-made is taken for one.
        """
        found = []
        async with self._guard.collecting():
            ingests = [status.ref async for status in self.content.ingests()]
            known = known_blobs(self._db.read, ingests)
            async for info in self.content.walk():
                if info.digest not in known:
                    found.append(Node("content", "", info.digest))
            refs = {ref for (ref,) in self._db.read.execute("SELECT backend_ref FROM ingests")}
            found += [Node("ingests", "", ref) for ref in ingests if ref not in refs]
            keys = {(row.snapshotter, row.backend_key) for row in self.snapshots()}
            for id, snapshotter in self.snapshotters.items():
                async for snapshot in snapshotter.walk():
                    if (id, snapshot.name) not in keys:
                        found.append(Node(f"snapshots/{id}", "", snapshot.name))
                found += [
                    Node(f"snapshots/{id}", "", path) for path in await snapshotter.leftovers()
                ]
        return found

    async def replace(self, digest: str, size: int, source: Path) -> None:
        """Put the file ``source`` into a blob's place. FailedPrecondition unless it fits.

        Records and labels stay. A crash in the middle leaves the blob missing, never damaged.
        """
        async with self._guard.using():
            with suppress(NotFound):  # missing, or of an earlier attempt
                await self.content.delete(digest)
            try:
                writer = await self.content.writer(f"repair-{digest}", size=size, expected=digest)
            except AlreadyExists:
                return  # somebody has pulled it in between
            async with writer:
                await writer.truncate(0)
                with source.open("rb") as file:
                    while data := file.read(_CHUNK):
                        await writer.write(data)
                await writer.commit(size, digest)

    def _dangling(self, type: str, sql: str, why: str) -> Iterator[tuple[Node, str]]:
        for namespace, id, missing in self._db.read.execute(sql):
            yield Node(type, namespace, id), why.format(missing)


def _snapshot(row: sqlite3.Row | tuple[str, ...]) -> SnapshotRow:
    namespace, snapshotter, key, backend_key, kind, parent = row
    return SnapshotRow(namespace, snapshotter, key, backend_key, Kind(kind), parent)
