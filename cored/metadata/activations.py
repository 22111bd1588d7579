"""Records of activated mounts, each with the number that its directory has."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Sequence
from dataclasses import replace

from cored import scope
from cored.abc.mounts import Activation, ActiveMount
from cored.abc.values import Labels, Mount
from cored.database import Database
from cored.errors import AlreadyExists, InvalidArgument, NotFound
from cored.filters import parse
from cored.metadata.fields import merged
from cored.metadata.guard import Guard
from cored.metadata.names import check_labels
from cored.metadata.records import hold, label_field, touch
from cored.metadata.rows import dumped

__all__ = ["Activations"]

_SELECT = "SELECT name, record FROM activations WHERE namespace = ? AND ready"


class Activations:
    """The activations of all namespaces. A row comes before the mounts and goes before them."""

    def __init__(self, database: Database, guard: Guard) -> None:
        self._db = database
        self.guard = guard

    async def begin(self, name: str, labels: Labels) -> int:
        """Reserve a name for mounts about to be made; the number of their directory.

        AlreadyExists when it is ready; what an earlier attempt left unfinished is replaced.
        """
        if not name:
            raise InvalidArgument("mounts: an activation needs a name")
        check_labels(f"mounts {name!r}", labels)
        where = scope.current()

        def work(connection: sqlite3.Connection) -> int:
            touch(connection, where.namespace)
            key = (where.namespace, name)
            row = connection.execute(
                "SELECT ready FROM activations WHERE namespace = ? AND name = ?", key
            ).fetchone()
            if row is not None and row[0]:
                raise AlreadyExists(f"mounts {name!r}: already active")
            connection.execute("DELETE FROM activations WHERE namespace = ? AND name = ?", key)
            number = connection.execute(
                "INSERT INTO activations (namespace, name, ready, record)"
                " VALUES (?, ?, 0, '{}') RETURNING number",
                key,
            ).fetchone()[0]
            hold(connection, where, "mounts", name)
            return int(number)

        return await self._db.write(work)

    async def finish(self, made: Activation) -> None:
        """The mounts are there."""
        namespace = scope.namespace()
        await self._db.write(
            lambda connection: connection.execute(
                "UPDATE activations SET ready = 1, record = ? WHERE namespace = ? AND name = ?",
                (_row(made), namespace, made.name),
            )
        )
        self.guard.mutated()

    async def get(self, name: str) -> Activation:
        """A ready activation. NotFound."""
        return _find(self._db.read, scope.namespace(), name)

    async def list(self, filters: Sequence[str] = ()) -> list[Activation]:
        """All ready ones that match: name, labels."""
        wanted = parse(filters)
        rows = self._db.read.execute(f"{_SELECT} ORDER BY name", (scope.namespace(),))
        found = [_value(*row) for row in rows]
        return [a for a in found if wanted.match(lambda path, a=a: _field(a, path))]  # type: ignore[misc]

    async def update(self, record: Activation, fields: Sequence[str]) -> Activation:
        """Change labels. NotFound."""
        what = f"mounts {record.name!r}"
        check_labels(what, record.labels)
        namespace = scope.namespace()

        def work(connection: sqlite3.Connection) -> Activation:
            old = _find(connection, namespace, record.name)
            new = merged(what, old, record, fields, ("labels",))
            new = replace(new, updated_at=time.time_ns())
            connection.execute(
                "UPDATE activations SET record = ? WHERE namespace = ? AND name = ?",
                (_row(new), namespace, record.name),
            )
            return new

        changed = await self._db.write(work)
        self.guard.mutated(deletion=True)
        return changed

    async def remove(self, name: str) -> int:
        """Forget a name; the number of the directory that is to go. NotFound."""
        namespace = scope.namespace()

        def work(connection: sqlite3.Connection) -> int:
            row = connection.execute(
                "DELETE FROM activations WHERE namespace = ? AND name = ? RETURNING number",
                (namespace, name),
            ).fetchone()
            connection.execute(
                "DELETE FROM lease_resources WHERE namespace = ? AND type = 'mounts' AND id = ?",
                (namespace, name),
            )
            if row is None:
                raise NotFound(f"mounts {name!r}: not found")
            return int(row[0])

        return await self._db.write(work)

    def numbers(self) -> dict[int, tuple[str, str]]:
        """The directories that have a row, of all namespaces: (namespace, name)."""
        rows = self._db.read.execute("SELECT number, namespace, name FROM activations")
        return {number: (namespace, name) for number, namespace, name in rows}


def _find(connection: sqlite3.Connection, namespace: str, name: str) -> Activation:
    row = connection.execute(f"{_SELECT} AND name = ?", (namespace, name)).fetchone()
    if row is None:
        raise NotFound(f"mounts {name!r}: not found")
    return _value(*row)


def _row(value: Activation) -> str:
    return dumped(
        {
            "active": [
                [_mount_row(a.mount), a.point, a.mounted_at, dict(a.data)] for a in value.active
            ],
            "system": [_mount_row(m) for m in value.system],
            "labels": dict(value.labels),
            "created_at": value.created_at,
            "updated_at": value.updated_at,
        }
    )


def _mount_row(mount: Mount) -> list[object]:
    return [mount.type, mount.source, mount.target, list(mount.options)]


def _value(name: str, text: str) -> Activation:
    row = json.loads(text)
    return Activation(
        name=name,
        active=tuple(ActiveMount(_mount(m), *rest) for m, *rest in row["active"]),
        system=tuple(_mount(m) for m in row["system"]),
        labels=row["labels"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )


def _mount(row: list[object]) -> Mount:
    type, source, target, options = row
    return Mount(str(type), str(source), str(target), tuple(options))  # type: ignore[arg-type]


def _field(value: Activation, path: tuple[str, ...]) -> str | None:
    match path:
        case ("name",):
            return value.name
        case ("labels", *rest):
            return label_field(value.labels, rest)
        case _:
            return None
