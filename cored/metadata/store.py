"""All metadata of a daemon, opened together."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from cored.abc.content import ContentStore
from cored.abc.events import EventBus
from cored.abc.snapshots import Snapshotter
from cored.config import GcConfig
from cored.database import Database
from cored.metadata.activations import Activations
from cored.metadata.containers import Containers
from cored.metadata.content import NamespacedContent
from cored.metadata.gc import Collector, Scheduler
from cored.metadata.guard import Guard
from cored.metadata.images import Images
from cored.metadata.inventory import Inventory
from cored.metadata.leases import Leases
from cored.metadata.namespaces import Namespaces
from cored.metadata.sandboxes import Sandboxes
from cored.metadata.schema import MIGRATIONS
from cored.metadata.snapshots import NamespacedSnapshotter

__all__ = ["Metadata"]


@dataclass(frozen=True)
class Metadata:
    """The stores of records, and content and snapshots as each namespace sees them."""

    namespaces: Namespaces
    containers: Containers
    images: Images
    leases: Leases
    sandboxes: Sandboxes
    activations: Activations
    content: NamespacedContent
    snapshotters: Mapping[str, NamespacedSnapshotter]
    inventory: Inventory
    gc: Scheduler

    @classmethod
    @asynccontextmanager
    async def opened(
        cls,
        root: Path,
        events: EventBus,
        content: ContentStore,
        snapshotters: Mapping[str, Snapshotter],
        gc: GcConfig | None = None,
    ) -> AsyncIterator[Metadata]:
        """Open ``<root>/metadata.db`` over the backends."""
        guard = Guard()
        async with Database.opened(root / "metadata.db", MIGRATIONS) as database:
            collector = Collector(database, content, snapshotters, events, guard)
            async with Scheduler.opened(collector, guard, gc or GcConfig()) as scheduler:
                yield cls(
                    namespaces=Namespaces(database, events),
                    containers=Containers(database, events, guard),
                    images=Images(database, events, guard),
                    leases=Leases(database, guard),
                    sandboxes=Sandboxes(database),
                    activations=Activations(database, guard),
                    content=NamespacedContent(database, content, events, guard),
                    snapshotters={
                        id: NamespacedSnapshotter(database, id, backend, events, guard)
                        for id, backend in snapshotters.items()
                    },
                    inventory=Inventory(database, content, snapshotters, guard),
                    gc=scheduler,
                )
