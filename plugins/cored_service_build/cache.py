"""The cache: what steps made, by a digest of all that went into them.

A record names a snapshot and a layer's blob; a lease of its own keeps both from collection, and the
record is dropped when they have gone all the same. Records outlive builds and daemons.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Awaitable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from cored import scope
from cored.abc.content import ContentStore
from cored.abc.records import Lease, LeaseStore, Resource
from cored.abc.snapshots import Snapshotter
from cored.abc.values import Descriptor
from cored.database import Database
from cored.errors import Aborted, AlreadyExists, NotFound
from cored_service_build.values import Layer

__all__ = ["MIGRATIONS", "Cache", "Made", "Record", "key_of"]

MIGRATIONS = (
    """
    CREATE TABLE steps (
      namespace TEXT NOT NULL, key TEXT NOT NULL, instruction TEXT NOT NULL,
      snapshotter TEXT NOT NULL, inputs TEXT NOT NULL, made TEXT NOT NULL, size INTEGER NOT NULL,
      created_at INTEGER NOT NULL, used_at INTEGER NOT NULL,
      PRIMARY KEY (namespace, key)
    ) WITHOUT ROWID;
    CREATE INDEX steps_by_instruction ON steps (namespace, instruction, used_at);
    """,
)

Inputs = Mapping[str, Any]
# ns; a write for each step of each build would cost more than all else of a build that is cached
_EXACT = 60 * 10**9


@dataclass(frozen=True, slots=True)
class Made:
    """What a step made: the snapshot's chain id, its layer (None when nothing changed), and when
    (ns). ``stored`` ends when the layer's blob is in the content store, None: it is there."""

    chain_id: str
    layer: Layer | None
    created_at: int = 0
    stored: Awaitable[None] | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Record:
    """One entry, for listings; times in ns."""

    key: str
    instruction: str
    size: int
    created_at: int
    used_at: int


def key_of(inputs: Inputs) -> str:
    """The digest of everything that decides what a step makes."""
    text = json.dumps(inputs, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


class Cache:
    """The records of all namespaces; those of the current scope's count."""

    def __init__(self, database: Database, leases: LeaseStore, content: ContentStore) -> None:
        self._db = database
        self._leases = leases
        self._content = content

    async def find(self, key: str, snapshotter: str, snapshots: Snapshotter) -> Made | None:
        """What was made under a key, if all of it is still there; to be held."""
        row = self._db.read.execute(
            "SELECT made, snapshotter, created_at FROM steps WHERE namespace = ? AND key = ?",
            (scope.namespace(), key),
        ).fetchone()
        if row is None or row[1] != snapshotter:
            return None
        made = _made(json.loads(row[0]))
        try:
            await self._check(made, snapshots)
        except NotFound:
            await self.forget(key)
            return None
        return Made(made.chain_id, made.layer, row[2])

    async def hold(
        self, found: Sequence[tuple[str, Made]], snapshotter: str, snapshots: Snapshotter
    ) -> None:
        """Keep what was found, by key, as long as the current lease. Aborted: it has just gone."""
        lease = scope.current().lease
        try:
            if lease is not None:
                held = [each for _, made in found for each in _resources(made, snapshotter)]
                await self._leases.add(lease, *held)
            for _, made in found:
                await self._check(made, snapshots)
        except NotFound as error:
            raise Aborted(
                "build: what a step had made was pruned meanwhile", hint="build again"
            ) from error
        await self._used([key for key, _ in found])

    async def _used(self, keys: Sequence[str]) -> None:
        now, namespace = time.time_ns(), scope.namespace()
        long_ago = self._db.read.execute(
            "SELECT ?, namespace, key FROM steps WHERE namespace = ? AND used_at < ?"
            f" AND key IN ({', '.join('?' * len(keys))})",
            (now, namespace, now - _EXACT, *keys),
        ).fetchall()
        if long_ago:
            await self._db.write(
                lambda c: c.executemany(
                    "UPDATE steps SET used_at = ? WHERE namespace = ? AND key = ?", long_ago
                )
            )

    async def _check(self, made: Made, snapshots: Snapshotter) -> None:
        if made.chain_id:
            await snapshots.stat(made.chain_id)
        if made.layer:
            await self._content.info(made.layer.blob.digest)

    async def put(
        self, key: str, instruction: str, inputs: Inputs, snapshotter: str, made: Made
    ) -> None:
        """Keep what a step made. The lease is there before the record."""
        with suppress(AlreadyExists):
            await self._leases.create(Lease(_lease(key), {"cored.io/build-cache": key}))
        await self._leases.add(_lease(key), *_resources(made, snapshotter))
        now = made.created_at
        size = made.layer.blob.size if made.layer else 0
        row = (
            scope.namespace(), key, instruction, snapshotter, json.dumps(inputs),
            json.dumps(_plain(made)), size, now, now,
        )  # fmt: skip
        await self._db.write(
            lambda c: c.execute("INSERT OR REPLACE INTO steps VALUES (?,?,?,?,?,?,?,?,?)", row)
        )

    async def forget(self, key: str) -> None:
        """Drop a record with its lease; fine when it is gone."""
        namespace = scope.namespace()
        await self._db.write(
            lambda c: c.execute(
                "DELETE FROM steps WHERE namespace = ? AND key = ?", (namespace, key)
            )
        )
        with suppress(NotFound):
            await self._leases.delete(_lease(key))

    def similar(self, instruction: str) -> list[Inputs]:
        """The inputs of the records of an instruction, the latest used first."""
        rows = self._db.read.execute(
            "SELECT inputs FROM steps WHERE namespace = ? AND instruction = ?"
            " ORDER BY used_at DESC LIMIT 8",
            (scope.namespace(), instruction),
        )
        return [json.loads(text) for (text,) in rows]

    def records(self) -> list[Record]:
        """All records of the namespace, the latest used first."""
        rows = self._db.read.execute(
            "SELECT key, instruction, size, created_at, used_at FROM steps WHERE namespace = ?"
            " ORDER BY used_at DESC, key",
            (scope.namespace(),),
        )
        return [Record(*row) for row in rows]

    async def prune(self, keep_size: int = 0, unused_for: float = 0.0) -> list[Record]:
        """Forget the least recently used until no more than ``keep_size`` bytes are left.

        With ``unused_for`` (seconds) only those go that were not used for so long.
        """
        records = self.records()
        left = sum(record.size for record in records)
        limit = time.time_ns() - int(unused_for * 1e9)
        gone: list[Record] = []
        for record in reversed(records):
            if record.used_at > limit or (keep_size and left <= keep_size):
                continue
            await self.forget(record.key)
            left -= record.size
            gone.append(record)
        return gone


def _resources(made: Made, snapshotter: str) -> list[Resource]:
    """What a lease has to hold so that it stays."""
    held = []
    if made.chain_id:
        held.append(Resource(made.chain_id, f"snapshots/{snapshotter}"))
    if made.layer:
        held.append(Resource(made.layer.blob.digest, "content"))
    return held


def _lease(key: str) -> str:
    return f"build-cache-{key[:40]}"


def _plain(made: Made) -> dict[str, Any]:
    layer = made.layer
    return {
        "chain": made.chain_id,
        "layer": [layer.blob.media_type, layer.blob.digest, layer.blob.size, layer.diff_id]
        if layer
        else None,
    }


def _made(document: Mapping[str, Any]) -> Made:
    layer: Sequence[Any] | None = document["layer"]
    if layer is None:
        return Made(document["chain"], None)
    return Made(document["chain"], Layer(Descriptor(*layer[:3]), layer[3]))
