"""Image records: names for manifests and indexes."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Sequence
from dataclasses import replace

from cored import scope
from cored.abc.events import EventBus, ImageCreate, ImageDelete, ImageUpdate
from cored.abc.records import Image, ImageStore
from cored.abc.values import Descriptor
from cored.database import Database
from cored.errors import InvalidArgument, NotFound
from cored.metadata.conditions import EXPIRE
from cored.metadata.fields import merged
from cored.metadata.guard import Guard
from cored.metadata.names import check_labels
from cored.metadata.records import Table, hold, label_field, let_go
from cored.metadata.rows import image_row, image_value
from cored.oci import digest
from cored.scope import Scope

__all__ = ["Images"]


class Images(ImageStore):
    """The daemon's :class:`ImageStore`."""

    def __init__(self, database: Database, events: EventBus, guard: Guard) -> None:
        self._table = Table(
            database,
            "image",
            "images",
            "name",
            image_row,
            image_value,
            _field,
            lambda record: {"digest": record.target.digest},
        )
        self._events = events
        self._guard = guard

    async def get(self, name: str) -> Image:
        return self._table.get(name)

    async def list(self, filters: Sequence[str] = ()) -> list[Image]:
        return self._table.list(filters)

    async def create(self, record: Image) -> Image:
        _check(record)
        now = record.created_at or time.time_ns()
        made = replace(record, created_at=now, updated_at=now)
        where = scope.current()
        await self._table.insert(record.name, made, lambda c, new: _hold(c, where, new))
        self._guard.mutated()
        await self._events.publish(ImageCreate(made.name, made.labels))
        return made

    async def update(self, record: Image, fields: Sequence[str] = ()) -> Image:
        _check_name(record)
        now = record.updated_at or time.time_ns()

        def changed(old: Image) -> Image:
            new = replace(_merged(old, record, fields), updated_at=now)
            _check(new)
            return new

        where = scope.current()
        made = await self._table.change(record.name, changed, lambda c, new: _hold(c, where, new))
        self._guard.mutated(deletion=True)
        await self._events.publish(ImageUpdate(made.name, made.labels))
        return made

    async def delete(self, name: str, *, target: Descriptor | None = None) -> None:
        where = scope.current()

        def check(connection: sqlite3.Connection, record: Image) -> None:
            let_go(connection, where, "images", name)
            wanted = target.digest if target is not None else ""
            if wanted and record.target.digest != wanted:
                raise NotFound(
                    f"image {name!r}: points to {record.target.digest} by now, not to {wanted}",
                    hint="nothing was deleted",
                )

        await self._table.remove(name, check)
        self._guard.mutated(deletion=True)
        await self._events.publish(ImageDelete(name))


def _hold(connection: sqlite3.Connection, where: Scope, record: Image) -> None:
    """Only an image that expires needs a lease."""
    if EXPIRE in record.labels:
        hold(connection, where, "images", record.name)


def _merged(old: Image, new: Image, fields: Sequence[str]) -> Image:
    """Annotations belong to the target, but masks name them beside it."""
    what = f"image {old.name!r}"
    mine = [path for path in fields if path.partition(".")[0] == "annotations"]
    rest = [path for path in fields if path not in mine]
    result = merged(what, old, new, rest, ("labels", "target")) if rest or not mine else old
    if mine:
        target = merged(what, result.target, new.target, mine, ("annotations",))
        result = replace(result, target=target)
    return result


def _check_name(record: Image) -> None:
    if not record.name:
        raise InvalidArgument("image: its name is empty")


def _check(record: Image) -> None:
    what = f"image {record.name!r}"
    _check_name(record)
    check_labels(what, record.labels)
    target = record.target
    if not target.media_type or target.size <= 0:
        raise InvalidArgument(f"{what}: its target needs a digest, a media type and a size")
    digest.check(target.digest)


def _field(record: Image, path: tuple[str, ...]) -> str | None:
    match path:
        case ("name",):
            return record.name
        case ("target", "digest"):
            return record.target.digest
        case ("target", "mediatype"):
            return record.target.media_type
        case ("labels", *rest):
            return label_field(record.labels, rest)
        case ("annotations", *rest):
            return label_field(record.target.annotations, rest)
        case _:
            return None
