"""Container records."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

from cored import scope
from cored.abc.events import ContainerCreate, ContainerDelete, ContainerUpdate, EventBus
from cored.abc.records import Container, ContainerStore
from cored.database import Database
from cored.errors import InvalidArgument
from cored.metadata.fields import merged
from cored.metadata.guard import Guard
from cored.metadata.names import check_identifier, check_labels
from cored.metadata.records import Table, label_field
from cored.metadata.rows import container_row, container_value

__all__ = ["Containers"]

_MUTABLE = ("labels", "image", "spec", "extensions", "snapshot_key")
# masks say it as containerd's clients do, which is not as the field is called
_SPELT = {"snapshotkey": "snapshot_key"}


class Containers(ContainerStore):
    """The daemon's :class:`ContainerStore`."""

    def __init__(self, database: Database, events: EventBus, guard: Guard) -> None:
        self._table = Table(
            database,
            "container",
            "containers",
            "id",
            container_row,
            container_value,
            _field,
            lambda r: {"snapshotter": r.snapshotter, "snapshot_key": r.snapshot_key},
        )
        self._events = events
        self._guard = guard

    async def get(self, id: str) -> Container:
        return self._table.get(id)

    async def list(self, filters: Sequence[str] = ()) -> list[Container]:
        return self._table.list(filters)

    async def create(self, record: Container) -> Container:
        _check(record)
        now = time.time_ns()
        made = replace(record, created_at=now, updated_at=now)
        await self._table.insert(record.id, made, durable=not scope.passing())
        self._guard.mutated()
        await self._events.publish(
            ContainerCreate(made.id, made.image, made.runtime, made.runtime_options)
        )
        return made

    async def update(self, record: Container, fields: Sequence[str] = ()) -> Container:
        what = f"container {record.id!r}"
        if not record.id:
            raise InvalidArgument("container: its id is empty")
        paths = [_SPELT.get(path, path) for path in fields]

        def changed(old: Container) -> Container:
            for name in ("runtime", "snapshotter"):
                if not paths and getattr(record, name) != getattr(old, name):
                    raise InvalidArgument(f"{what}: {name} cannot be changed")
            new = replace(merged(what, old, record, paths, _MUTABLE), updated_at=time.time_ns())
            _check(new)
            return new

        made = await self._table.change(record.id, changed)
        self._guard.mutated(deletion=True)
        await self._events.publish(
            ContainerUpdate(made.id, made.image, made.labels, made.snapshot_key)
        )
        return made

    async def delete(self, id: str) -> None:
        await self._table.remove(id, durable=not scope.passing())
        self._guard.mutated(deletion=True)
        await self._events.publish(ContainerDelete(id))


def _check(record: Container) -> None:
    what = f"container {record.id!r}"
    check_identifier("container", record.id)
    check_labels(what, record.labels)
    if not record.runtime:
        raise InvalidArgument(f"{what}: needs a runtime name")
    if record.spec is None and not record.sandbox:
        raise InvalidArgument(f"{what}: needs a spec")
    if "" in record.extensions:
        raise InvalidArgument(f"{what}: has an extension without a name")
    if record.snapshot_key and not record.snapshotter:
        raise InvalidArgument(f"{what}: has a snapshot key, and no snapshotter")


def _field(record: Container, path: tuple[str, ...]) -> str | None:
    match path:
        case ("id",):
            return record.id
        case ("image",):
            return record.image or None
        case ("runtime", "name"):
            return record.runtime
        case ("snapshotter",):
            return record.snapshotter or None
        case ("sandbox" | "sandboxid",):
            return record.sandbox or None
        case ("labels", *rest):
            return label_field(record.labels, rest)
        case _:
            return None
