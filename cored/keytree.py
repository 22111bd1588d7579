"""The tree of snapshot keys: which there are, of what kind, on which parent. SQLite, no files."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Mapping
from typing import Any

from cored.abc.snapshots import Kind, Snapshot, Usage
from cored.abc.values import Labels
from cored.database import Database
from cored.dataclass import dataclass
from cored.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound

__all__ = ["SCHEMA", "KeyTree", "Node"]

SCHEMA = [
    """
    CREATE TABLE snapshots (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        name TEXT NOT NULL UNIQUE,
        kind TEXT NOT NULL,
        parent INTEGER REFERENCES snapshots (id),
        labels TEXT NOT NULL,
        created_at INTEGER NOT NULL,
        updated_at INTEGER NOT NULL,
        size INTEGER,
        inodes INTEGER
    );
    CREATE INDEX snapshots_parent ON snapshots (parent);
    """
]
_SELECT = """
    SELECT s.id, s.name, s.kind, COALESCE(p.name, ''), s.labels, s.created_at, s.updated_at,
           s.size, s.inodes
    FROM snapshots s LEFT JOIN snapshots p ON p.id = s.parent
"""
_ANCESTORS = """
    WITH RECURSIVE up (id, parent, depth) AS (
        SELECT id, parent, 0 FROM snapshots WHERE name = ?
        UNION ALL SELECT s.id, s.parent, depth + 1 FROM snapshots s JOIN up ON s.id = up.parent
    )
    SELECT id FROM up ORDER BY depth
"""


@dataclass(frozen=True, slots=True)
class Node:
    """One snapshot; ``usage`` is None until somebody has measured it."""

    id: int
    snapshot: Snapshot
    usage: Usage | None


class KeyTree:
    """Keys with their parents in one database. Errors are those of the Snapshotter's contract."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def find(self, key: str) -> Node:
        """The snapshot of ``key``. NotFound."""
        return _find(self._db.read, key)

    def all(self) -> list[Node]:
        """All snapshots, by name."""
        return [_node(row) for row in self._db.read.execute(_SELECT + "ORDER BY s.name")]

    def ids(self) -> set[int]:
        """The ids of all snapshots."""
        return {number for (number,) in self._db.read.execute("SELECT id FROM snapshots")}

    def last_id(self) -> int:
        """The highest id that any snapshot ever had; ids are not used twice."""
        row = self._db.read.execute("SELECT COALESCE(MAX(seq), 0) FROM sqlite_sequence").fetchone()
        return int(row[0])

    def ancestors(self, key: str) -> list[int]:
        """The ids of ``key`` and of all below it, from the top down; empty without a key."""
        return [number for (number,) in self._db.read.execute(_ANCESTORS, (key,))]

    def check_insert(self, key: str, parent: str) -> None:
        """Raise what :meth:`insert` would."""
        _check_insert(self._db.read, key, parent)

    async def insert(
        self,
        id: int,
        key: str,
        kind: Kind,
        parent: str,
        labels: Labels,
        *,
        durable: bool = True,
    ) -> None:
        """Add a snapshot with an id that was never used. AlreadyExists; NotFound, and
        FailedPrecondition for the parent."""

        def work(connection: sqlite3.Connection) -> None:
            over = _check_insert(connection, key, parent)
            now = time.time_ns()
            connection.execute(
                "INSERT INTO snapshots VALUES (?, ?, ?, ?, ?, ?, ?, NULL, NULL)",
                (id, key, str(kind), over, json.dumps(dict(labels)), now, now),
            )

        await self._db.write(work, durable=durable)

    def check_commit(self, name: str, key: str, parent: str | None) -> None:
        """Raise what :meth:`commit` would."""
        _check_commit(self._db.read, name, key, parent)

    async def commit(self, name: str, key: str, labels: Labels, parent: str | None) -> None:
        """Rename the active ``key`` to the committed ``name``, over ``parent`` if it has none."""

        def work(connection: sqlite3.Connection) -> None:
            id, over = _check_commit(connection, name, key, parent)
            now = time.time_ns()
            connection.execute(
                "UPDATE snapshots SET name = ?, kind = ?, parent = ?, labels = ?,"
                " created_at = ?, updated_at = ? WHERE id = ?",
                (name, str(Kind.COMMITTED), over, json.dumps(dict(labels)), now, now, id),
            )

        await self._db.write(work)

    async def delete(self, key: str) -> int:
        """Forget ``key`` and answer its id. NotFound; FailedPrecondition with children."""

        def work(connection: sqlite3.Connection) -> int:
            id = _find(connection, key).id
            child = connection.execute("SELECT name FROM snapshots WHERE parent = ?", (id,))
            if row := child.fetchone():
                raise FailedPrecondition(
                    f"snapshot {key!r}: has children", hint=f"remove {row[0]!r} first"
                )
            connection.execute("DELETE FROM snapshots WHERE id = ?", (id,))
            return id

        return await self._db.write(work)

    async def relabel(self, key: str, labels: Mapping[str, str | None], replace: bool) -> Node:
        """Set labels, remove those that are None, and with ``replace`` all others."""

        def work(connection: sqlite3.Connection) -> Node:
            node = _find(connection, key)
            merged = {**({} if replace else node.snapshot.labels), **labels}
            kept = {name: value for name, value in merged.items() if value is not None}
            connection.execute(
                "UPDATE snapshots SET labels = ?, updated_at = ? WHERE id = ?",
                (json.dumps(kept), time.time_ns(), node.id),
            )
            return _find(connection, key)

        return await self._db.write(work)

    async def measured(self, id: int, usage: Usage) -> None:
        """Store what a committed snapshot takes."""
        values = (usage.size, usage.inodes, id)
        await self._db.write(
            lambda c: c.execute("UPDATE snapshots SET size = ?, inodes = ? WHERE id = ?", values)
        )


def _node(row: Any) -> Node:
    id, name, kind, parent, labels, created_at, updated_at, size, inodes = row
    snapshot = Snapshot(name, Kind(kind), parent, json.loads(labels), created_at, updated_at)
    return Node(id, snapshot, None if size is None else Usage(size, inodes))


def _find(connection: sqlite3.Connection, key: str) -> Node:
    row = connection.execute(_SELECT + "WHERE s.name = ?", (key,)).fetchone()
    if row is None:
        raise NotFound(f"snapshot {key!r}: not found")
    return _node(row)


def _check_free(connection: sqlite3.Connection, name: str) -> None:
    if connection.execute("SELECT 1 FROM snapshots WHERE name = ?", (name,)).fetchone():
        raise AlreadyExists(f"snapshot {name!r}: already exists")


def _check_parent(connection: sqlite3.Connection, parent: str) -> int | None:
    """The id of a possible parent, None for ''."""
    if not parent:
        return None
    row = connection.execute("SELECT id, kind FROM snapshots WHERE name = ?", (parent,)).fetchone()
    if row is None:
        raise NotFound(f"parent snapshot {parent!r}: not found")
    if row[1] != Kind.COMMITTED:
        raise InvalidArgument(
            f"parent snapshot {parent!r}: is {row[1]}, not committed", hint="commit it first"
        )
    return int(row[0])


def _check_insert(connection: sqlite3.Connection, key: str, parent: str) -> int | None:
    if not key:
        raise InvalidArgument("snapshot key: must not be empty")
    _check_free(connection, key)
    return _check_parent(connection, parent)


def _check_commit(
    connection: sqlite3.Connection, name: str, key: str, parent: str | None
) -> tuple[int, int | None]:
    """The ids of what is committed and of its parent."""
    if not name:
        raise InvalidArgument("snapshot name: must not be empty")
    _check_free(connection, name)
    node = _find(connection, key)
    if node.snapshot.kind is not Kind.ACTIVE:
        raise FailedPrecondition(f"snapshot {key!r}: is {node.snapshot.kind}, not active")
    if parent and node.snapshot.parent and parent != node.snapshot.parent:
        raise InvalidArgument(
            f"snapshot {key!r}: has the parent {node.snapshot.parent!r} already,"
            f" cannot be put on {parent!r}"
        )
    return node.id, _check_parent(connection, parent or node.snapshot.parent)
