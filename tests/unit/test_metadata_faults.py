"""The metadata store when a step in the middle fails, or its client is cut off."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from cored_content_local import LocalContentStore
from cored_snapshotter_native import CopyDriver

from cored import scope
from cored.abc.records import Lease
from cored.config import GcConfig
from cored.engine.events import Exchange
from cored.errors import NotFound
from cored.layered import LayeredSnapshotter
from cored.metadata.store import Metadata
from cored.scope import Scope


async def test_a_collection_that_fails_is_not_the_last(tmp_path: Path) -> None:
    config = GcConfig(startup_delay=0, schedule_delay=0, deletion_threshold=1, pause_threshold=1000)
    content = LocalContentStore(tmp_path / "content")
    async with LayeredSnapshotter.opened(CopyDriver(), tmp_path / "native") as native:
        stores = {"native": native}
        async with Metadata.opened(tmp_path, Exchange(), content, stores, config) as store:
            scope.enter(Scope("one"))
            again = asyncio.Event()
            collect = store.gc._collector.run
            fails = [OSError("no space left on device"), RuntimeError("a fault of ours")]

            async def run() -> Any:
                if fails:
                    raise fails.pop()
                again.set()
                return await collect()

            store.gc._collector.run = run  # type: ignore[method-assign]
            async with asyncio.timeout(60):
                while not again.is_set():
                    await store.leases.create(Lease("lease"))
                    await store.leases.delete("lease")


async def test_a_broken_backend_keeps_no_other_from_being_swept(tmp_path: Path) -> None:
    content = LocalContentStore(tmp_path / "content")
    quiet = GcConfig(startup_delay=3600, deletion_threshold=0, mutation_threshold=0)
    async with LayeredSnapshotter.opened(CopyDriver(), tmp_path / "native") as native:
        other: Any = Broken()
        stores = {"broken": other, "native": native}
        async with Metadata.opened(tmp_path, Exchange(), content, stores, quiet) as store:
            scope.enter(Scope("one"))
            await native.prepare("nobody/1/knows")
            await store.gc.collect()
            with pytest.raises(NotFound):
                await native.stat("nobody/1/knows")


class Broken:
    """A snapshotter whose disk is."""

    capabilities = ()

    async def walk(self, filters: object = ()) -> Any:
        raise OSError("input/output error")
        yield


async def test_a_snapshot_whose_client_was_cut_off_can_be_made_again(tmp_path: Path) -> None:
    content = LocalContentStore(tmp_path / "content")
    quiet = GcConfig(startup_delay=3600, deletion_threshold=0, mutation_threshold=0)
    async with LayeredSnapshotter.opened(CopyDriver(), tmp_path / "native") as native:
        async with Metadata.opened(
            tmp_path, Exchange(), content, {"native": native}, quiet
        ) as store:
            scope.enter(Scope("one"))
            snapshotter: Any = store.snapshotters["native"]
            write, asked = snapshotter._db.write, asyncio.Event()

            async def slow(work: Any) -> Any:
                found = asyncio.ensure_future(write(work))
                asked.set()
                return await found

            snapshotter._db.write = slow
            try:
                preparing = asyncio.create_task(snapshotter.prepare("key"))
                await asked.wait()
                # the row is on its way to the disk
                preparing.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await preparing
            finally:
                snapshotter._db.write = write
            await store.leases.list()
            with pytest.raises(NotFound):
                await snapshotter.stat("key")
            assert await snapshotter.prepare("key")
