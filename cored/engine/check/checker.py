"""The whole check: blobs, snapshots, records, what is left over; one thing after the other."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from cored import scope
from cored.abc.content import ContentStore
from cored.abc.records import LeaseStore
from cored.abc.snapshots import Kind, Snapshotter
from cored.archive.pool import WorkerPool
from cored.engine.check import blobs
from cored.engine.check.findings import Damage, Event, Stage, Summary
from cored.engine.check.layers import Known, known
from cored.engine.check.repair import Repairer
from cored.engine.check.snapshots import content_wrong, record_wrong
from cored.engine.registry import ANONYMOUS, Access
from cored.engine.transfers import leased
from cored.errors import NotFound
from cored.metadata.gc import Scheduler
from cored.metadata.graph import Node
from cored.metadata.inventory import BlobRow, Inventory, SnapshotRow
from cored.scope import Scope

__all__ = ["Checker", "Order"]


@dataclass(frozen=True, slots=True)
class Order:
    """What is asked for; without ``contents`` the files of snapshots are not compared.

    ``access`` is for fetching what is to be repaired.
    """

    repair: bool = False
    contents: bool = True
    access: Access = ANONYMOUS


@dataclass(slots=True)
class _Count:
    size: int = 0
    snapshots: int = 0
    contents: int = 0
    damages: list[Damage] = field(default_factory=list)


class Checker:
    """``snapshotters`` are those of namespaces, ``state`` is for mounts of the moment."""

    def __init__(
        self,
        inventory: Inventory,
        content: ContentStore,
        snapshotters: Mapping[str, Snapshotter],
        leases: LeaseStore,
        pool: WorkerPool,
        repairer: Repairer,
        gc: Scheduler,
        state: Path,
    ) -> None:
        self._inventory = inventory
        self._content = content
        self._snapshotters = snapshotters
        self._leases = leases
        self._pool = pool
        self._repairer = repairer
        self._gc = gc
        self._state = state

    async def run(self, order: Order) -> AsyncIterator[Event]:
        """Check everything, in all namespaces; ends with the Summary.

        What a crash has cut short is finished first. The daemon goes on working: what comes or
        goes meanwhile is no damage.
        """
        await self._gc.mend()
        leftovers = await self._inventory.leftovers()  # before a collection of our own views
        count = _Count()
        rows = self._inventory.blobs()
        bad: set[str] = set()
        for number, (digest, named) in enumerate(rows.items(), 1):
            yield Stage(Node("content", "", digest), number, len(rows))
            count.size += named[0].size
            damage = await self._blob(digest, order)
            if damage is not None:
                count.damages.append(damage)
                bad.update([] if damage.repaired else [digest])
                yield damage
        async for event in self._every_snapshot(order, bad, count):
            yield event
        for node, reason in list(self._inventory.dangling()):
            damage = Damage(node, reason, remedy="remove it, or pull its image again")
            count.damages.append(damage)
            yield damage
        if order.repair:
            await self._gc.collect()
            leftovers = await self._inventory.leftovers()
        yield Summary(
            len(rows), count.size, count.snapshots, count.contents,
            len(count.damages), sum(damage.repaired for damage in count.damages),
            tuple(leftovers),
        )  # fmt: skip

    async def _blob(self, digest: str, order: Order) -> Damage | None:
        rows = self._inventory.blobs(digest).get(digest, [])
        reason = await blobs.wrong(self._inventory.content, digest, rows) if rows else ""
        # it may have been deleted while it was read
        rows = self._inventory.blobs(digest).get(digest, []) if reason else []
        if not rows:
            return None
        nodes = [row.node for row in rows]
        users = dict.fromkeys(u for us in self._inventory.users(nodes).values() for u in us)
        damage = Damage(rows[0].node, reason, tuple(users))
        if not order.repair:
            return damage
        remedy = await self._repaired(rows, order.access)
        return replace(damage, repaired=not remedy, remedy=remedy)

    async def _repaired(self, rows: list[BlobRow], access: Access) -> str:
        said = await known(self._inventory, self._content)
        described = (k.described.get(rows[0].digest) for k in said.values())
        return await self._repairer.blob(rows, next(filter(None, described), None), access)

    async def _every_snapshot(
        self, order: Order, bad: set[str], count: _Count
    ) -> AsyncIterator[Event]:
        layers = await known(self._inventory, self._content)
        rows = self._inventory.snapshots()
        count.snapshots = len(rows)
        damaged: dict[Node, Damage] = {}
        by_node = {row.node: row for row in rows}
        for number, row in enumerate(rows, 1):
            yield Stage(row.node, number, len(rows))
            parent = by_node.get(row.node._replace(id=row.parent)) if row.parent else None
            reason = await record_wrong(self._inventory, row, parent)
            if not reason and order.contents and (parent is None or parent.node not in damaged):
                reason = await self._contents(row, layers.get(row.namespace), bad, count)
            if reason and self._inventory.snapshot(row.node) == row:
                damaged[row.node] = Damage(row.node, reason)
        users = self._inventory.users(list(damaged))
        remedies = await self._unpacked(by_node, damaged, layers) if order.repair else {}
        for node, damage in damaged.items():
            remedy = remedies.get(node, "")
            found = replace(
                damage, users=users[node], repaired=order.repair and not remedy, remedy=remedy
            )
            count.damages.append(found)
            yield found

    async def _contents(
        self, row: SnapshotRow, layers: Known | None, bad: set[str], count: _Count
    ) -> str:
        """What is wrong with the files of an image's layer; '' too for all others."""
        layer = layers.layers.get(row.key) if layers and row.kind is Kind.COMMITTED else None
        if layer is None or layer.digest in bad:
            return ""
        with scope.entered(Scope(row.namespace)):
            try:
                async with leased(self._leases, "check"):
                    reason = await content_wrong(
                        self._content, self._snapshotters[row.snapshotter], self._pool,
                        self._state, row, layer,
                    )  # fmt: skip
            except NotFound:
                return ""  # the blob is not kept, or the snapshot has just gone
        count.contents += reason is not None
        return reason or ""

    async def _unpacked(
        self,
        rows: Mapping[Node, SnapshotRow],
        damaged: Mapping[Node, Damage],
        layers: Mapping[str, Known],
    ) -> dict[Node, str]:
        groups: dict[tuple[str, str], list[SnapshotRow]] = {}
        for node in damaged:
            row = rows[node]
            groups.setdefault((row.namespace, row.snapshotter), []).append(row)
        remedies: dict[Node, str] = {}
        for (namespace, snapshotter), group in groups.items():
            with scope.entered(Scope(namespace)):
                async with leased(self._leases, "repair"):
                    remedies |= await self._repairer.snapshots(
                        snapshotter, group, layers.get(namespace, Known())
                    )
        return remedies
