"""Leases and what they hold."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Sequence
from dataclasses import replace

from cored import scope
from cored.abc.records import Lease, LeaseStore, Resource
from cored.database import Database
from cored.errors import InvalidArgument, Unimplemented
from cored.metadata.guard import Guard
from cored.metadata.names import check_labels
from cored.metadata.records import Table, hold, label_field
from cored.metadata.rows import lease_row, lease_value
from cored.oci import digest
from cored.scope import Scope

__all__ = ["Leases"]


class Leases(LeaseStore):
    """The daemon's :class:`LeaseStore`."""

    def __init__(self, database: Database, guard: Guard) -> None:
        self._db = database
        self._table = Table(database, "lease", "leases", "id", lease_row, lease_value, _field)
        self._guard = guard

    async def create(self, record: Lease, *, durable: bool = True) -> Lease:
        if not record.id:
            raise InvalidArgument("lease: its id is empty")
        check_labels(f"lease {record.id!r}", record.labels)
        made = replace(record, created_at=time.time_ns())
        await self._table.insert(record.id, made, durable=durable)
        return made

    async def delete(self, id: str, *, durable: bool = True) -> None:
        await self._table.remove(id, durable=durable)
        self._guard.mutated(deletion=True)

    async def list(self, filters: Sequence[str] = ()) -> list[Lease]:
        return self._table.list(filters)

    async def add(self, id: str, *resources: Resource) -> None:
        self._table.get(id)
        for resource in resources:
            _check(id, resource)
        asking = scope.current()
        where = Scope(asking.namespace, id)

        def work(connection: sqlite3.Connection) -> None:
            for resource in resources:
                hold(connection, where, resource.type, resource.id)

        await self._db.write(work, durable=not (asking.passing and id == asking.lease))

    async def discard(self, id: str, resource: Resource) -> None:
        self._table.get(id)
        _check(id, resource)
        namespace = scope.namespace()

        def work(connection: sqlite3.Connection) -> None:
            connection.execute(
                "DELETE FROM lease_resources WHERE namespace = ? AND lease = ? AND type = ?"
                " AND id = ?",
                (namespace, id, resource.type, resource.id),
            )

        await self._db.write(work)
        self._guard.mutated(deletion=True)

    async def resources(self, id: str) -> Sequence[Resource]:
        self._table.get(id)
        rows = self._db.read.execute(
            "SELECT id, type FROM lease_resources WHERE namespace = ? AND lease = ? ORDER BY 2, 1",
            (scope.namespace(), id),
        )
        return [Resource(*row) for row in rows]


def _check(id: str, resource: Resource) -> None:
    """InvalidArgument; Unimplemented for a type of resources that leases do not know."""
    what = f"lease {id!r}: resource type {resource.type!r}"
    kind, *rest = resource.type.split("/")
    if kind not in ("content", "ingests", "images", "snapshots"):
        raise Unimplemented(
            f"{what}: is unknown", hint="content, ingests, images, or snapshots/<snapshotter>"
        )
    if len(rest) != (kind == "snapshots"):
        raise InvalidArgument(
            f"{what}: invalid", hint="only snapshots have one more part, the snapshotter's id"
        )
    if kind == "content":
        try:
            digest.check(resource.id)
        except InvalidArgument as error:
            raise InvalidArgument(f"lease {id!r}: {error.message}") from error


def _field(record: Lease, path: tuple[str, ...]) -> str | None:
    match path:
        case ("id",):
            return record.id
        case ("labels", *rest):
            return label_field(record.labels, rest)
        case _:
            return None
