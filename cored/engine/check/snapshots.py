"""One snapshot against its record, its chain, its directory, and its layer's archive."""

from __future__ import annotations

import time
from pathlib import Path

from cored.abc.content import ContentStore
from cored.abc.snapshots import Kind, Snapshotter
from cored.abc.values import Descriptor
from cored.archive.jobs import VerifyJob
from cored.archive.place import mounted
from cored.archive.pool import WorkerPool
from cored.errors import CoredError, NotFound
from cored.metadata.inventory import Inventory, SnapshotRow

__all__ = ["content_wrong", "record_wrong"]


async def record_wrong(inventory: Inventory, row: SnapshotRow, parent: SnapshotRow | None) -> str:
    """What is wrong with a snapshot as far as records and directories go; '' for nothing."""
    snapshotter = inventory.snapshotters.get(row.snapshotter)
    if snapshotter is None:
        return f"its snapshotter {row.snapshotter!r} is not open"
    if row.parent and (parent is None or parent.kind is not Kind.COMMITTED):
        return f"its parent {row.parent!r} is {'missing' if parent is None else parent.kind}"
    try:
        found = await snapshotter.stat(row.backend_key)
        if found.kind is not row.kind:
            return f"is {found.kind} in the snapshotter, {row.kind} in its record"
        if found.parent != (parent.backend_key if parent else ""):
            return "stands on another snapshot than its record says"
        return "; ".join(await snapshotter.check(row.backend_key))
    except NotFound:
        return "is missing in the snapshotter"
    except CoredError as error:
        return f"cannot be read: {error.message}"


async def content_wrong(
    content: ContentStore,
    snapshotter: Snapshotter,
    pool: WorkerPool,
    state: Path,
    row: SnapshotRow,
    layer: Descriptor,
) -> str | None:
    """What is wrong with the files of a committed snapshot, seen through a view of it.

    '' for nothing, None when they were not looked at: the layer's archive is not a local file.
    """
    async with await content.reader(layer.digest) as reader:
        if reader.path is None:
            return None
        path = str(reader.path)
        key = f"check-{time.time_ns()}-{row.key}"
        mounts = await snapshotter.view(key, row.key)
        try:
            async with mounted(mounts, state) as directory:
                result = await pool.run(VerifyJob(path, directory, most=3))
        finally:
            await snapshotter.remove(key)
    if not result.damaged:
        return ""
    more = "" if result.damaged <= len(result.problems) else ", ..."
    count = f"{result.damaged} of {result.entries} entries are not as in its layer"
    return f"{count}: {', '.join(result.problems)}{more}"
