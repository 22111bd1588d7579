"""Sandbox records."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

from cored.abc.records import Sandbox, SandboxStore
from cored.database import Database
from cored.metadata.fields import merged
from cored.metadata.names import check_identifier, check_labels
from cored.metadata.records import Table, label_field
from cored.metadata.rows import sandbox_row, sandbox_value

__all__ = ["Sandboxes"]

_MUTABLE = ("labels", "extensions", "spec", "runtime")


class Sandboxes(SandboxStore):
    """The daemon's :class:`SandboxStore`."""

    def __init__(self, database: Database) -> None:
        self._table = Table(
            database, "sandbox", "sandboxes", "id", sandbox_row, sandbox_value, _field
        )

    async def get(self, id: str) -> Sandbox:
        return self._table.get(id)

    async def list(self, filters: Sequence[str] = ()) -> list[Sandbox]:
        return self._table.list(filters)

    async def create(self, record: Sandbox) -> Sandbox:
        check_identifier("sandbox", record.id)
        check_labels(f"sandbox {record.id!r}", record.labels)
        now = time.time_ns()
        made = replace(record, created_at=now, updated_at=now)
        await self._table.insert(record.id, made)
        return made

    async def update(self, record: Sandbox, fields: Sequence[str] = ()) -> Sandbox:
        what = f"sandbox {record.id!r}"
        check_labels(what, record.labels)
        return await self._table.change(
            record.id,
            lambda old: replace(
                merged(what, old, record, fields, _MUTABLE), updated_at=time.time_ns()
            ),
        )

    async def delete(self, id: str) -> None:
        await self._table.remove(id)


def _field(record: Sandbox, path: tuple[str, ...]) -> str | None:
    match path:
        case ("id",):
            return record.id
        case ("runtime", "name"):
            return record.runtime
        case ("sandboxer",):
            return record.sandboxer or None
        case ("labels", *rest):
            return label_field(record.labels, rest)
        case _:
            return None
