"""Snapshots per namespace: rows with names and labels over a backend with keys of its own."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from cored import scope
from cored.abc.events import EventBus, SnapshotCommit, SnapshotPrepare, SnapshotRemove
from cored.abc.snapshots import Kind, Snapshot, Snapshotter, Usage
from cored.abc.values import NO_LABELS, Labels, Mount
from cored.database import Database
from cored.dataclass import dataclass
from cored.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound
from cored.filters import parse
from cored.metadata.content import changed_labels
from cored.metadata.guard import Guard
from cored.metadata.names import check_labels
from cored.metadata.records import check_lease, hold, label_field, let_go, touch
from cored.metadata.rows import dumped
from cored.scope import Scope

__all__ = ["NamespacedSnapshotter", "renamed_from"]

_SELECT = """
    SELECT key, backend_key, kind, parent, labels, created_at, updated_at FROM snapshots
    WHERE namespace = ? AND snapshotter = ?
"""
# what a backend is told of; the rest is between client and daemon
_INHERITED = "containerd.io/snapshot/"
_TARGET = "containerd.io/snapshot.ref"
_RENAMED = "+"


@dataclass(frozen=True, slots=True)
class _Row:
    snapshot: Snapshot
    backend_key: str


class _Claims:
    """Keys that a request is making, renaming or removing: the next one waits for its end.

    Rows and backend change one after the other; two requests in between would tear them apart.
    """

    def __init__(self) -> None:
        self._taken: set[tuple[str, str]] = set()
        self._freed = asyncio.Condition()

    @asynccontextmanager
    async def of(self, namespace: str, *keys: str) -> AsyncIterator[None]:
        """Hold ``keys``, all or none."""
        wanted = {(namespace, key) for key in keys}
        async with self._freed:
            await self._freed.wait_for(lambda: self._taken.isdisjoint(wanted))
            self._taken |= wanted
        try:
            yield
        finally:
            self._taken -= wanted
            await asyncio.shield(self._tell())

    async def _tell(self) -> None:
        async with self._freed:
            self._freed.notify_all()


class NamespacedSnapshotter(Snapshotter):
    """The :class:`Snapshotter` ``id`` as the daemon works with it."""

    def __init__(
        self, database: Database, id: str, backend: Snapshotter, events: EventBus, guard: Guard
    ) -> None:
        self._db = database
        self._id = id
        self._backend = backend
        self._events = events
        self._guard = guard
        self._claims = _Claims()
        self.capabilities = backend.capabilities
        self.exports: Mapping[str, str] = getattr(backend, "exports", {})

    async def stat(self, key: str) -> Snapshot:
        return self._find(self._db.read, scope.namespace(), key).snapshot

    async def update(
        self, key: str, labels: Mapping[str, str | None], *, replace: bool = False
    ) -> Snapshot:
        if not key:
            raise InvalidArgument("snapshot: its name is empty")
        check_labels(f"snapshot {key!r}", labels)
        namespace = scope.namespace()

        def work(connection: sqlite3.Connection) -> _Row:
            row = self._find(connection, namespace, key)
            kept = changed_labels(row.snapshot.labels, labels, replace)
            connection.execute(
                "UPDATE snapshots SET labels = ?, updated_at = ?"
                " WHERE namespace = ? AND snapshotter = ? AND key = ?",
                (dumped(kept), time.time_ns(), namespace, self._id, key),
            )
            return self._find(connection, namespace, key)

        changed = await self._db.write(work)
        passed = _passed(changed.snapshot.labels)
        if passed:
            await self._backend.update(changed.backend_key, dict(passed))
        self._guard.mutated()
        return changed.snapshot

    async def usage(self, key: str) -> Usage:
        return await self._backend.usage(self._backend_key(key))

    async def mounts(self, key: str) -> list[Mount]:
        return await self._backend.mounts(self._backend_key(key))

    async def prepare(self, key: str, parent: str = "", labels: Labels = NO_LABELS) -> list[Mount]:
        return await self._create(Kind.ACTIVE, self._backend.prepare, key, parent, labels)

    async def view(self, key: str, parent: str = "", labels: Labels = NO_LABELS) -> list[Mount]:
        return await self._create(Kind.VIEW, self._backend.view, key, parent, labels)

    async def commit(
        self, name: str, key: str, labels: Labels = NO_LABELS, *, parent: str | None = None
    ) -> None:
        check_labels(f"snapshot {name!r}", labels)
        if not name:
            raise InvalidArgument(f"snapshot {key!r}: cannot be committed without a name")
        where = scope.current()
        async with self._guard.using(), self._claims.of(where.namespace, name, key):
            await self._check_new(where, name)
            row = self._find(self._db.read, where.namespace, key)
            if row.snapshot.kind is not Kind.ACTIVE:
                raise FailedPrecondition(f"snapshot {key!r}: is {row.snapshot.kind}, not active")
            below = self._parent(self._db.read, where.namespace, parent or "")
            check_lease(self._db.read, where)
            made = renamed_key(row.backend_key, name)
            # all labels: when a crash comes before the row, the backend knows what it was to be
            await self._backend.commit(made, row.backend_key, labels, parent=below or None)
            over = row.snapshot.parent or parent or ""

            def work(connection: sqlite3.Connection) -> None:
                self._delete(connection, where, key)
                self._insert(connection, where, Kind.COMMITTED, name, made, over, labels)

            await self._db.write(work, durable=not where.passing)
        self._guard.mutated()
        await self._events.publish(SnapshotCommit(key, name, self._id))

    async def remove(self, key: str) -> None:
        where = scope.current()
        namespace = where.namespace

        def work(connection: sqlite3.Connection) -> str:
            row = self._find(connection, namespace, key)
            child = connection.execute(
                "SELECT key FROM snapshots WHERE namespace = ? AND snapshotter = ? AND parent = ?",
                (namespace, self._id, key),
            ).fetchone()
            if child is not None:
                raise FailedPrecondition(
                    f"snapshot {key!r}: cannot remove, has children", hint=f"such as {child[0]!r}"
                )
            self._delete(connection, where, key)
            return row.backend_key

        async with self._guard.using(), self._claims.of(namespace, key):
            backend_key = await self._db.write(work, durable=not where.passing)
            await self._backend.remove(backend_key)
        self._guard.mutated(deletion=True)
        await self._events.publish(SnapshotRemove(key, self._id))

    async def walk(self, filters: Sequence[str] = ()) -> AsyncIterator[Snapshot]:
        wanted = parse(filters).match
        rows = self._db.read.execute(f"{_SELECT} ORDER BY key", (scope.namespace(), self._id))
        for row in rows.fetchall():
            snapshot = _row(row).snapshot
            if wanted(_fields(snapshot)):
                yield snapshot

    async def check(self, key: str) -> Sequence[str]:
        return await self._backend.check(self._backend_key(key))

    async def cleanup(self) -> None:
        await self._backend.cleanup()

    async def _create(
        self,
        kind: Kind,
        make: Callable[[str, str, Labels], Awaitable[list[Mount]]],
        key: str,
        parent: str,
        labels: Labels,
    ) -> list[Mount]:
        check_labels(f"snapshot {key!r}", labels)
        if not key:
            raise InvalidArgument("snapshot: its key is empty")
        where = scope.current()
        async with self._guard.using(), self._claims.of(where.namespace, key):
            if target := labels.get(_TARGET):
                await self._check_new(where, target)
            await self._check_new(where, key)
            below = self._parent(self._db.read, where.namespace, parent)
            made = _fresh_key(where.namespace, key)
            try:
                mounts = await make(made, below, _passed(labels))
            except AlreadyExists:
                if target:
                    await self._adopt(where, target, parent, below, labels)
                raise

            def work(connection: sqlite3.Connection) -> None:
                self._check_free(connection, where.namespace, key)
                self._parent(connection, where.namespace, parent)
                self._insert(connection, where, kind, key, made, parent, labels)

            try:
                await self._db.write(work, durable=not where.passing)
            except BaseException:
                # who is cut off is so perhaps when the row is about to be written
                await asyncio.shield(self._undone(where, key, made))
                raise
        self._guard.mutated()
        if kind is Kind.ACTIVE:
            await self._events.publish(SnapshotPrepare(key, parent, self._id))
        return mounts

    async def _undone(self, where: Scope, key: str, made: str) -> None:
        """Neither row nor snapshot of a creation that failed."""

        def work(connection: sqlite3.Connection) -> None:
            row = connection.execute(
                f"{_SELECT} AND key = ?", (where.namespace, self._id, key)
            ).fetchone()
            if row is not None and _row(row).backend_key == made:  # not somebody else's
                self._delete(connection, where, key)

        try:
            await self._db.write(work)
        finally:
            await self._backend.remove(made)

    async def _check_new(self, where: Scope, name: str) -> None:
        """AlreadyExists when the snapshot that the client is about to make is there by name.

        By then the client's lease holds it, as if the client had made it.
        """
        try:
            self._check_free(self._db.read, where.namespace, name)
        except AlreadyExists:
            await self._db.write(lambda c: hold(c, where, f"snapshots/{self._id}", name))
            raise

    async def _adopt(
        self, where: Scope, target: str, parent: str, below: str, labels: Labels
    ) -> None:
        """A remote snapshotter has the layer that was to be made: it joins the namespace."""
        wanted = f'kind==committed,labels."{_TARGET}"=={json.dumps(target)}'
        async for found in self._backend.walk([wanted]):
            if found.parent != below:
                continue
            kind, name = Kind.COMMITTED, found.name
            await self._db.write(
                lambda c: self._insert(c, where, kind, target, name, parent, labels)  # noqa: B023
            )
            raise AlreadyExists(f"snapshot {target!r}: already exists")

    def _insert(
        self,
        connection: sqlite3.Connection,
        where: Scope,
        kind: Kind,
        key: str,
        backend_key: str,
        parent: str,
        labels: Labels,
    ) -> None:
        touch(connection, where.namespace)
        now = time.time_ns()
        row = (str(kind), parent, dumped(dict(labels)), now, now)
        try:
            connection.execute(
                "INSERT INTO snapshots VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (where.namespace, self._id, key, backend_key, *row),
            )
        except sqlite3.IntegrityError as error:
            raise AlreadyExists(f"snapshot {key!r}: already exists") from error
        hold(connection, where, f"snapshots/{self._id}", key)

    def _delete(self, connection: sqlite3.Connection, where: Scope, key: str) -> None:
        connection.execute(
            "DELETE FROM snapshots WHERE namespace = ? AND snapshotter = ? AND key = ?",
            (where.namespace, self._id, key),
        )
        let_go(connection, where, f"snapshots/{self._id}", key)

    def _find(self, connection: sqlite3.Connection, namespace: str, key: str) -> _Row:
        row = connection.execute(f"{_SELECT} AND key = ?", (namespace, self._id, key)).fetchone()
        if row is None:
            raise NotFound(f"snapshot {key!r}: not found")
        return _row(row)

    def _backend_key(self, key: str) -> str:
        return self._find(self._db.read, scope.namespace(), key).backend_key

    def _check_free(self, connection: sqlite3.Connection, namespace: str, key: str) -> None:
        row = connection.execute(f"{_SELECT} AND key = ?", (namespace, self._id, key)).fetchone()
        if row is not None:
            raise AlreadyExists(f"snapshot {key!r}: already exists")

    def _parent(self, connection: sqlite3.Connection, namespace: str, parent: str) -> str:
        """The backend's key of a parent, '' for none. NotFound; InvalidArgument."""
        if not parent:
            return ""
        try:
            row = self._find(connection, namespace, parent)
        except NotFound as error:
            raise NotFound(f"parent snapshot {parent!r}: not found") from error
        if row.snapshot.kind is not Kind.COMMITTED:
            raise InvalidArgument(f"parent snapshot {parent!r}: is not committed")
        return row.backend_key


def _fresh_key(namespace: str, key: str) -> str:
    """A key that the backend has never seen."""
    return f"{namespace}/{time.time_ns():x}/{key}"


def renamed_key(backend_key: str, name: str) -> str:
    """The backend's key of a snapshot that is committed as ``name``: it tells where it is from."""
    namespace, stamp, _ = backend_key.split("/", 2)
    return f"{namespace}/{stamp}{_RENAMED}/{name}"


def renamed_from(backend_key: str) -> tuple[str, str]:
    """Of a key made by :func:`renamed_key`: how the former key began, and the name; '' if not."""
    start, mark, name = backend_key.partition(f"{_RENAMED}/")
    return (f"{start}/", name) if mark and start.count("/") == 1 else ("", "")


def _passed(labels: Labels) -> dict[str, str]:
    return {k: v for k, v in labels.items() if k.startswith(_INHERITED) or k == _TARGET}


def _row(row: tuple[Any, ...]) -> _Row:
    key, backend_key, kind, parent, labels, created, updated = row
    return _Row(
        Snapshot(key, Kind(kind), parent, json.loads(labels), created, updated), backend_key
    )


def _fields(snapshot: Snapshot) -> Callable[[tuple[str, ...]], str | None]:
    def value(path: tuple[str, ...]) -> str | None:
        match path:
            case ("name",):
                return snapshot.name
            case ("parent",):
                return snapshot.parent
            case ("kind",):
                return str(snapshot.kind)
            case ("labels", *rest):
                return label_field(snapshot.labels, rest)
            case _:
                return None

    return value
