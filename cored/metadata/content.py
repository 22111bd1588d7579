"""Content per namespace: one backend of blobs, seen by each namespace through rows and labels."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from cored import scope
from cored.abc.content import ContentStore, Info, Reader, Status, Writer
from cored.abc.events import ContentCreate, ContentDelete, EventBus
from cored.abc.values import NO_LABELS, Labels
from cored.database import Database
from cored.errors import AlreadyExists, FailedPrecondition, NotFound
from cored.filters import parse
from cored.metadata.guard import Guard
from cored.metadata.names import check_labels
from cored.metadata.records import check_lease, hold, label_field, let_go, touch
from cored.metadata.rows import dumped
from cored.scope import Scope

__all__ = ["NamespacedContent", "changed_labels"]

_INGEST_LIFE = 24 * 3600 * 1_000_000_000
"""How long an ingest that no lease holds is kept after its last writer came, ns."""
_SELECT = "SELECT digest, size, labels, created_at, updated_at FROM blobs WHERE namespace = ?"


class NamespacedContent(ContentStore):
    """The :class:`ContentStore` that the daemon works with.

    A blob that another namespace brought costs no second write: a writer that expects its digest
    gets it at once (AlreadyExists), after the blob has joined the namespace.
    """

    def __init__(
        self, database: Database, backend: ContentStore, events: EventBus, guard: Guard
    ) -> None:
        self._db = database
        self._backend = backend
        self._events = events
        self._guard = guard

    async def info(self, digest: str) -> Info:
        return _find(self._db.read, scope.namespace(), digest)

    async def update(
        self, digest: str, labels: Mapping[str, str | None], *, replace: bool = False
    ) -> Info:
        check_labels(f"content {digest}", labels)
        namespace = scope.namespace()

        def work(connection: sqlite3.Connection) -> Info:
            old = _find(connection, namespace, digest)
            kept = changed_labels(old.labels, labels, replace)
            connection.execute(
                "UPDATE blobs SET labels = ?, updated_at = ? WHERE namespace = ? AND digest = ?",
                (dumped(kept), time.time_ns(), namespace, digest),
            )
            return _find(connection, namespace, digest)

        info = await self._db.write(work)
        self._guard.mutated()
        return info

    async def walk(self, filters: Sequence[str] = ()) -> AsyncIterator[Info]:
        wanted = parse(filters).match
        rows = self._db.read.execute(f"{_SELECT} ORDER BY digest", (scope.namespace(),)).fetchall()
        for row in rows:
            info = _info(row)
            if wanted(_fields(info)):
                yield info

    async def delete(self, digest: str) -> None:
        where = scope.current()

        def work(connection: sqlite3.Connection) -> None:
            _find(connection, where.namespace, digest)
            connection.execute(
                "DELETE FROM blobs WHERE namespace = ? AND digest = ?", (where.namespace, digest)
            )
            let_go(connection, where, "content", digest)

        await self._db.write(work)
        self._guard.mutated(deletion=True)
        await self._events.publish(ContentDelete(digest))

    async def reader(self, digest: str) -> Reader:
        _find(self._db.read, scope.namespace(), digest)
        return await self._backend.reader(digest)

    async def writer(self, ref: str, *, size: int = 0, expected: str = "") -> Writer:
        where = scope.current()
        while True:
            if expected:
                async with self._guard.using():
                    await self._adopt(where, expected)
            # the row comes first: a collection aborts what has none
            await self._db.write(
                lambda c: _note_ingest(c, where, ref, expected), durable=not where.passing
            )
            try:
                inner = await self._backend.writer(
                    _backend_ref(where.namespace, ref), size=size, expected=expected
                )
            except AlreadyExists:
                if not expected:
                    raise
                continue  # it came in the meantime, through another namespace
            return _Writer(self, inner, where, ref)

    async def status(self, ref: str) -> Status:
        found = await self._backend.status(_backend_ref(scope.namespace(), ref))
        return replace(found, ref=ref)

    async def ingests(self, filters: Sequence[str] = ()) -> AsyncIterator[Status]:
        wanted = parse(filters).match
        prefix = _backend_ref(scope.namespace(), "")
        async for status in self._backend.ingests():
            if status.ref.startswith(prefix):
                mine = replace(status, ref=status.ref.removeprefix(prefix))
                if wanted(lambda path, s=mine: s.ref if path == ("ref",) else None):  # type: ignore[misc]
                    yield mine

    async def abort(self, ref: str) -> None:
        where = scope.current()
        await self._backend.abort(_backend_ref(where.namespace, ref))
        await self._db.write(lambda c: _forget_ingest(c, where, ref))

    async def _adopt(self, where: Scope, digest: str) -> None:
        """AlreadyExists when the blob is there, in this namespace by then; else nothing."""
        try:
            size = (await self._backend.info(digest)).size
        except NotFound:
            return
        new = await self._db.write(
            lambda c: _insert(c, where, digest, size, NO_LABELS), durable=not where.passing
        )
        if new:
            await self._events.publish(ContentCreate(digest, size), namespace=where.namespace)
        raise AlreadyExists(f"content {digest}: already exists")

    async def committed(
        self, inner: Writer, where: Scope, ref: str, size: int, expected: str, labels: Labels
    ) -> str:
        """Finish an ingest: the backend's blob first, then the namespace's row."""
        async with self._guard.using():
            check_lease(self._db.read, where)
            length = inner.status.offset
            digest = await inner.digest()
            try:
                # in the algorithm of ``expected``, which the writer may have heard of just now
                digest = await inner.commit(size, expected, NO_LABELS)
            except AlreadyExists:
                if expected.partition(":")[0] not in ("", digest.partition(":")[0]):
                    digest = expected  # the backend has compared it
                if (size and size != length) or (expected and expected != digest):
                    raise FailedPrecondition(
                        f"content {ref!r}: has digest {digest} and {length} bytes,"
                        f" expected {expected or digest} and {size or length}"
                    ) from None

            def work(connection: sqlite3.Connection) -> bool:
                _forget_ingest(connection, where, ref)
                return _insert(connection, where, digest, length, labels)

            new = await self._db.write(work, durable=not where.passing)
        self._guard.mutated()
        if not new:
            raise AlreadyExists(f"content {digest}: already exists")
        await self._events.publish(ContentCreate(digest, length), namespace=where.namespace)
        return digest


class _Writer(Writer):
    """A backend's writer whose commit also makes the row."""

    def __init__(self, store: NamespacedContent, inner: Writer, where: Scope, ref: str) -> None:
        self._store = store
        self._inner = inner
        self._where = where
        self._ref = ref

    @property
    def status(self) -> Status:
        return replace(self._inner.status, ref=self._ref)

    @property
    def path(self) -> Path | None:
        return self._inner.path

    async def write(self, data: bytes) -> None:
        await self._inner.write(data)

    async def truncate(self, size: int) -> None:
        await self._inner.truncate(size)

    async def digest(self) -> str:
        return await self._inner.digest()

    async def advance(self, offset: int, digest: str) -> None:
        await self._inner.advance(offset, digest)

    async def commit(self, size: int = 0, expected: str = "", labels: Labels = NO_LABELS) -> str:
        check_labels(f"content {expected or self._ref}", labels)
        return await self._store.committed(
            self._inner, self._where, self._ref, size, expected, labels
        )

    async def close(self) -> None:
        await self._inner.close()


def changed_labels(old: Labels, changes: Mapping[str, str | None], replace: bool) -> dict[str, str]:
    """Labels after an update: None (or, as containerd has it, '') removes one."""
    kept = {} if replace else dict(old)
    kept.update({key: value or "" for key, value in changes.items()})
    return {key: value for key, value in kept.items() if value or key not in changes}


def _backend_ref(namespace: str, ref: str) -> str:
    return f"{namespace}/{ref}"


def _note_ingest(connection: sqlite3.Connection, where: Scope, ref: str, expected: str) -> None:
    """A lease keeps an ingest; without one it has a day, which a lease later does not take away."""
    touch(connection, where.namespace)
    life = 0 if where.lease is not None else time.time_ns() + _INGEST_LIFE
    connection.execute(
        "INSERT INTO ingests VALUES (?, ?, ?, ?, ?) ON CONFLICT (namespace, ref) DO UPDATE"
        " SET expected = excluded.expected, expires_at = MAX(expires_at, excluded.expires_at)",
        (where.namespace, ref, _backend_ref(where.namespace, ref), expected, life),
    )
    hold(connection, where, "ingests", ref)


def _forget_ingest(connection: sqlite3.Connection, where: Scope, ref: str) -> None:
    connection.execute(
        "DELETE FROM ingests WHERE namespace = ? AND ref = ?", (where.namespace, ref)
    )
    let_go(connection, where, "ingests", ref)


def _insert(
    connection: sqlite3.Connection, where: Scope, digest: str, size: int, labels: Labels
) -> bool:
    """Add a blob to a namespace and to the request's lease; False when it was there."""
    touch(connection, where.namespace)
    now = time.time_ns()
    done = connection.execute(
        "INSERT OR IGNORE INTO blobs VALUES (?, ?, ?, ?, ?, ?)",
        (where.namespace, digest, size, dumped(dict(labels)), now, now),
    )
    hold(connection, where, "content", digest)
    return done.rowcount == 1


def _find(connection: sqlite3.Connection, namespace: str, digest: str) -> Info:
    row = connection.execute(f"{_SELECT} AND digest = ?", (namespace, digest)).fetchone()
    if row is None:
        raise NotFound(f"content {digest}: not found")
    return _info(row)


def _info(row: tuple[str, int, str, int, int]) -> Info:
    digest, size, labels, created, updated = row
    return Info(digest, size, json.loads(labels), created, updated)


def _fields(info: Info) -> Callable[[tuple[str, ...]], str | None]:
    def value(path: tuple[str, ...]) -> str | None:
        match path:
            case ("digest",):
                return info.digest
            case ("size",):
                return str(info.size)
            case ("labels", *rest):
                return label_field(info.labels, rest)
            case _:
                return None

    return value
