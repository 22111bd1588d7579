"""What the stores of records share: a table of JSON records, keyed by (namespace, name)."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from typing import Generic, TypeVar

from cored import scope
from cored.database import Database
from cored.errors import AlreadyExists, NotFound
from cored.filters import parse
from cored.scope import Scope

__all__ = ["Columns", "Table", "check_lease", "hold", "label_field", "let_go", "touch"]

T = TypeVar("T")
# how much is remembered of what has been read: parsing costs more than reading
_NAMESPACES = 16
_RECORDS = 2048
Field = Callable[[T, tuple[str, ...]], str | None]
Columns = Callable[[T], Mapping[str, str]]
Also = Callable[[sqlite3.Connection, T], None]
"""What else a transaction does, with the record that it wrote or removed."""


def touch(connection: sqlite3.Connection, namespace: str) -> None:
    """A namespace comes to life by use."""
    connection.execute("INSERT OR IGNORE INTO namespaces VALUES (?, '{}')", (namespace,))


def hold(connection: sqlite3.Connection, where: Scope, type: str, id: str) -> None:
    """Attach a resource to the lease of the request, if it came with one."""
    if where.lease is None:
        return
    try:
        connection.execute(
            "INSERT OR IGNORE INTO lease_resources VALUES (?, ?, ?, ?)",
            (where.namespace, where.lease, type, id),
        )
    except sqlite3.IntegrityError as error:
        raise _no_lease(where) from error


def check_lease(connection: sqlite3.Connection, where: Scope) -> None:
    """NotFound, as :func:`hold` would, before something is done that cannot be undone."""
    if (
        where.lease is not None
        and not connection.execute(
            "SELECT 1 FROM leases WHERE namespace = ? AND id = ?", (where.namespace, where.lease)
        ).fetchone()
    ):
        raise _no_lease(where)


def let_go(connection: sqlite3.Connection, where: Scope, type: str, id: str) -> None:
    """Take a resource that is gone from the lease of the request; other leases still name it."""
    connection.execute(
        "DELETE FROM lease_resources WHERE namespace = ? AND lease = ? AND type = ? AND id = ?",
        (where.namespace, where.lease, type, id),
    )


def label_field(labels: Mapping[str, str], rest: Sequence[str]) -> str | None:
    """A label for filters: ``labels."a.b"`` and ``labels.a.b`` name the same one."""
    return labels.get(".".join(rest))


def _no_lease(where: Scope) -> NotFound:
    return NotFound(
        f"lease {where.lease!r}: does not exist",
        hint="it may have been deleted or have expired; make another",
    )


class Table(Generic[T]):
    """One table; ``what`` names a record in errors, ``columns`` are those it has of its own."""

    def __init__(
        self,
        database: Database,
        what: str,
        table: str,
        key: str,
        row: Callable[[T], str],
        value: Callable[[str, str], T],
        field: Field[T],
        columns: Columns[T] | None = None,
    ) -> None:
        self._db = database
        self._what = what
        self._table = table
        self._key = key
        self._row = row
        self._value = value
        self._field = field
        self._columns = columns or (lambda record: {})
        self._known: dict[tuple[str, str], tuple[str, T]] = {}
        self._listed: dict[str, tuple[int, Sequence[T]]] = {}

    def get(self, name: str) -> T:
        """The record. NotFound."""
        namespace = scope.namespace()
        return self._parsed(namespace, name, self._text(self._db.read, namespace, name))

    def list(self, filters: Sequence[str]) -> list[T]:
        """All records that match, by name."""
        wanted = parse(filters)
        records = self._all(scope.namespace())
        if not filters:
            return [*records]
        return [r for r in records if wanted.match(lambda path, r=r: self._field(r, path))]  # type: ignore[misc]

    def _all(self, namespace: str) -> Sequence[T]:
        """All records, read once for as long as nothing in the whole database changes."""
        # changes with every commit of another connection, and this one commits nothing
        (version,) = self._db.read.execute("PRAGMA data_version").fetchone()
        found = self._listed.get(namespace)
        if found is not None and found[0] == version:
            return found[1]
        rows = self._db.read.execute(
            f"SELECT {self._key}, record FROM {self._table} WHERE namespace = ? ORDER BY 1",
            (namespace,),
        )
        records = [self._parsed(namespace, name, text) for name, text in rows]
        if len(self._listed) >= _NAMESPACES:
            self._listed.clear()
        if len(records) <= _RECORDS:
            self._listed[namespace] = (version, records)
        return records

    def _parsed(self, namespace: str, name: str, text: str) -> T:
        """The record of a row; the one from before when the row is the same."""
        found = self._known.get((namespace, name))
        if found is not None and found[0] == text:
            return found[1]
        record = self._value(name, text)
        if len(self._known) >= _RECORDS:
            self._known.clear()
        self._known[namespace, name] = (text, record)
        return record

    async def insert(
        self, name: str, record: T, also: Also[T] | None = None, *, durable: bool = True
    ) -> None:
        """Add a record. AlreadyExists."""
        namespace = scope.namespace()
        columns = {"namespace": namespace, self._key: name, "record": self._row(record)}
        columns.update(self._columns(record))
        sql = f"INSERT INTO {self._table} ({', '.join(columns)}) VALUES ({_marks(columns)})"

        def work(connection: sqlite3.Connection) -> None:
            touch(connection, namespace)
            try:
                connection.execute(sql, tuple(columns.values()))
            except sqlite3.IntegrityError as error:
                raise AlreadyExists(f"{self._what} {name!r}: already exists") from error
            if also is not None:
                also(connection, record)

        await self._db.write(work, durable=durable)

    async def change(self, name: str, changed: Callable[[T], T], also: Also[T] | None = None) -> T:
        """Replace a record by what ``changed`` makes of it, in one transaction. NotFound."""
        namespace = scope.namespace()

        def work(connection: sqlite3.Connection) -> T:
            record = changed(self._get(connection, namespace, name))
            columns = {"record": self._row(record), **self._columns(record)}
            assignments = ", ".join(f"{column} = ?" for column in columns)
            connection.execute(
                f"UPDATE {self._table} SET {assignments} WHERE namespace = ? AND {self._key} = ?",
                (*columns.values(), namespace, name),
            )
            if also is not None:
                also(connection, record)
            return record

        return await self._db.write(work)

    async def remove(self, name: str, also: Also[T] | None = None, *, durable: bool = True) -> None:
        """Delete a record, unless ``also`` raises. NotFound."""
        namespace = scope.namespace()

        def work(connection: sqlite3.Connection) -> None:
            record = self._get(connection, namespace, name)
            if also is not None:
                also(connection, record)
            connection.execute(
                f"DELETE FROM {self._table} WHERE namespace = ? AND {self._key} = ?",
                (namespace, name),
            )

        await self._db.write(work, durable=durable)

    def _get(self, connection: sqlite3.Connection, namespace: str, name: str) -> T:
        return self._value(name, self._text(connection, namespace, name))

    def _text(self, connection: sqlite3.Connection, namespace: str, name: str) -> str:
        row = connection.execute(
            f"SELECT record FROM {self._table} WHERE namespace = ? AND {self._key} = ?",
            (namespace, name),
        ).fetchone()
        if row is None:
            raise NotFound(f"{self._what} {name!r}: not found")
        return str(row[0])


def _marks(columns: Mapping[str, str]) -> str:
    return ", ".join("?" * len(columns))
