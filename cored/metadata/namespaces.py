"""Namespaces: labels of those that were made, and what is left in them."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence

from cored.abc.events import EventBus, NamespaceCreate, NamespaceDelete, NamespaceUpdate
from cored.abc.records import Namespace, NamespaceStore
from cored.database import Database
from cored.errors import AlreadyExists, FailedPrecondition, NotFound
from cored.filters import parse
from cored.metadata.fields import merged
from cored.metadata.names import check_labels, check_namespace
from cored.metadata.records import label_field
from cored.metadata.rows import dumped

__all__ = ["Namespaces"]

_CONTENTS = ("containers", "images", "blobs", "snapshots", "sandboxes")


class Namespaces(NamespaceStore):
    """The daemon's :class:`NamespaceStore`."""

    def __init__(self, database: Database, events: EventBus) -> None:
        self._db = database
        self._events = events

    async def get(self, name: str) -> Namespace:
        check_namespace(name)
        return _find(self._db.read, name) or Namespace(name)

    async def list(self, filters: Sequence[str] = ()) -> list[Namespace]:
        wanted = parse(filters)
        rows = self._db.read.execute("SELECT name, labels FROM namespaces ORDER BY name")
        found = (Namespace(name, json.loads(labels)) for name, labels in rows)
        return [n for n in found if wanted.match(lambda path, n=n: _field(n, path))]  # type: ignore[misc]

    async def create(self, record: Namespace) -> Namespace:
        check_namespace(record.name)
        check_labels(f"namespace {record.name!r}", record.labels)

        def work(connection: sqlite3.Connection) -> None:
            try:
                connection.execute(
                    "INSERT INTO namespaces VALUES (?, ?)",
                    (record.name, dumped(dict(record.labels))),
                )
            except sqlite3.IntegrityError as error:
                raise AlreadyExists(f"namespace {record.name!r}: already exists") from error

        await self._db.write(work)
        await self._events.publish(
            NamespaceCreate(record.name, record.labels), namespace=record.name
        )
        return record

    async def update(self, record: Namespace, fields: Sequence[str] = ()) -> Namespace:
        what = f"namespace {record.name!r}"
        check_labels(what, record.labels)

        def work(connection: sqlite3.Connection) -> Namespace:
            old = _find(connection, record.name)
            if old is None:
                raise NotFound(f"{what}: not found")
            new = merged(what, old, record, fields, ("labels",))
            connection.execute(
                "UPDATE namespaces SET labels = ? WHERE name = ?",
                (dumped(dict(new.labels)), record.name),
            )
            return new

        changed = await self._db.write(work)
        await self._events.publish(
            NamespaceUpdate(changed.name, changed.labels), namespace=changed.name
        )
        return changed

    async def delete(self, name: str) -> None:
        def work(connection: sqlite3.Connection) -> None:
            if _find(connection, name) is None:
                raise NotFound(f"namespace {name!r}: not found")
            left = [
                f"{count} {what}" for what in _CONTENTS if (count := _count(connection, what, name))
            ]
            if left:
                raise FailedPrecondition(
                    f"namespace {name!r}: must be empty, has {', '.join(left)}",
                    hint="remove them first",
                )
            for table in ("leases", "ingests"):
                connection.execute(f"DELETE FROM {table} WHERE namespace = ?", (name,))
            connection.execute("DELETE FROM namespaces WHERE name = ?", (name,))

        await self._db.write(work)
        await self._events.publish(NamespaceDelete(name), namespace=name)


def _find(connection: sqlite3.Connection, name: str) -> Namespace | None:
    row = connection.execute("SELECT labels FROM namespaces WHERE name = ?", (name,)).fetchone()
    return None if row is None else Namespace(name, json.loads(row[0]))


def _count(connection: sqlite3.Connection, table: str, namespace: str) -> int:
    sql = f"SELECT COUNT(*) FROM {table} WHERE namespace = ?"
    return int(connection.execute(sql, (namespace,)).fetchone()[0])


def _field(record: Namespace, path: tuple[str, ...]) -> str | None:
    match path:
        case ("name",):
            return record.name
        case ("labels", *rest):
            return label_field(record.labels, rest)
        case _:
            return None
