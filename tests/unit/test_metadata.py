"""The metadata store: namespaces apart, references followed, and nothing lost over a restart."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cored_content_local import LocalContentStore
from cored_snapshotter_native import CopyDriver

from cored import scope
from cored.abc.content import write_blob
from cored.abc.records import Container, Image, Lease, Namespace, Resource, Sandbox
from cored.abc.values import Descriptor, Typed
from cored.config import GcConfig
from cored.engine.events import Exchange
from cored.errors import AlreadyExists, FailedPrecondition, Internal, InvalidArgument, NotFound
from cored.layered import LayeredSnapshotter
from cored.metadata.store import Metadata
from cored.scope import Scope

SPEC = Typed("spec", b"{}")
TARGET = Descriptor("application/vnd.oci.image.manifest.v1+json", "sha256:" + "0" * 64, 10)
# nothing by itself: collections are the tests' own
QUIET = GcConfig(startup_delay=3600, deletion_threshold=0, mutation_threshold=0)


@asynccontextmanager
async def opened(root: Path) -> AsyncIterator[Metadata]:
    content = LocalContentStore(root / "content")
    async with LayeredSnapshotter.opened(CopyDriver(), root / "native") as native:
        async with Metadata.opened(root, Exchange(), content, {"native": native}, QUIET) as store:
            scope.enter(Scope("one"))
            yield store


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Metadata]:
    async with opened(tmp_path) as metadata:
        yield metadata


def here(lease: str | None = None) -> None:
    """Fixtures' scopes do not reach their tests."""
    scope.enter(Scope("one", lease))


def container(id: str = "c", **more: object) -> Container:
    return Container(id, runtime="io.containerd.runc.v2", spec=SPEC, **more)  # type: ignore[arg-type]


async def test_everything_is_there_after_a_restart(tmp_path: Path) -> None:
    async with opened(tmp_path) as first:
        made = await first.containers.create(
            container(labels={"x": "y"}, extensions={"e": Typed("t", b"\x00\xff")})
        )
        image = await first.images.create(Image("name", TARGET, {"l": "1"}))
        await first.leases.create(Lease("lease", {"k": "v"}))
        await first.sandboxes.create(Sandbox("s", runtime="r"))
        digest = await write_blob(first.content, "ref", b"data", labels={"z": "1"})
        await first.snapshotters["native"].prepare("key")
    async with opened(tmp_path) as second:
        assert await second.containers.get("c") == made
        assert await second.images.get("name") == image
        assert [lease.id for lease in await second.leases.list()] == ["lease"]
        assert (await second.sandboxes.get("s")).runtime == "r"
        assert (await second.content.info(digest)).labels == {"z": "1"}
        assert (await second.snapshotters["native"].stat("key")).name == "key"


async def test_namespaces_do_not_see_each_other(store: Metadata) -> None:
    here()
    await store.containers.create(container())
    digest = await write_blob(store.content, "ref", b"data", labels={"mine": "1"})
    await store.snapshotters["native"].prepare("key")
    scope.enter(Scope("two"))
    for attempt in (
        store.containers.get("c"),
        store.content.info(digest),
        store.snapshotters["native"].stat("key"),
    ):
        with pytest.raises(NotFound):
            await attempt
    await store.containers.create(container())
    await store.snapshotters["native"].prepare("key")
    with pytest.raises(AlreadyExists):
        await store.content.writer("ref", expected=digest)
    assert (await store.content.info(digest)).labels == {}


async def test_a_namespace_lives_by_use_and_goes_when_empty(store: Metadata) -> None:
    assert await store.namespaces.get("never-made") == Namespace("never-made")
    here()
    await store.images.create(Image("name", TARGET))
    assert [found.name for found in await store.namespaces.list()] == ["one"]
    with pytest.raises(FailedPrecondition, match="1 images"):
        await store.namespaces.delete("one")
    await store.images.delete("name")
    await store.namespaces.delete("one")
    with pytest.raises(NotFound):
        await store.namespaces.delete("one")


async def test_records_are_checked(store: Metadata) -> None:
    here()
    for record in (Container("bad id", runtime="r", spec=SPEC), Container("c", spec=SPEC)):
        with pytest.raises(InvalidArgument):
            await store.containers.create(record)
    with pytest.raises(InvalidArgument):
        await store.images.create(Image("", TARGET))
    await store.containers.create(container())
    with pytest.raises(AlreadyExists):
        await store.containers.create(container())
    with pytest.raises(InvalidArgument):
        await store.containers.update(Container("c", runtime="other", spec=SPEC), ["runtime"])


async def test_an_image_is_deleted_only_while_it_points_where_the_client_thinks(
    store: Metadata,
) -> None:
    here()
    await store.images.create(Image("name", TARGET))
    other = Descriptor(TARGET.media_type, "sha256:" + "1" * 64, 1)
    with pytest.raises(NotFound):
        await store.images.delete("name", target=other)
    await store.images.delete("name", target=TARGET)


async def test_what_an_image_refers_to_is_kept_and_the_rest_collected(store: Metadata) -> None:
    here()
    snapshots = store.snapshotters["native"]
    for key, parent in (("base", ""), ("top", "base"), ("loose", "")):
        await snapshots.prepare("k", parent)
        await snapshots.commit(key, "k")
    layer = await write_blob(store.content, "r1", b"layer")
    config = await write_blob(
        store.content, "r2", b"config", labels={"containerd.io/gc.ref.snapshot.native": "top"}
    )
    prefix = "containerd.io/gc.ref.content"
    labels = {f"{prefix}.l.0": layer, f"{prefix}.config": config}
    manifest = await write_blob(store.content, "r3", b"manifest", labels=labels)
    stray = await write_blob(store.content, "r4", b"stray")
    rooted = await write_blob(store.content, "r5", b"root", labels={"containerd.io/gc.root": "now"})
    await store.images.create(Image("name", Descriptor("m", manifest, 8)))
    removed = {node.id for node in (await store.gc.collect()).removed}
    assert removed == {stray, "loose"}
    await store.images.delete("name")
    removed = {node.id for node in (await store.gc.collect()).removed}
    assert removed == {layer, config, manifest, "base", "top"}
    assert [info.digest async for info in store.content.walk()] == [rooted]


async def test_a_lease_keeps_what_was_made_under_it(store: Metadata) -> None:
    here()
    await store.leases.create(Lease("held"))
    here("held")
    digest = await write_blob(store.content, "ref", b"data")
    await store.snapshotters["native"].prepare("key")
    here()
    assert (await store.gc.collect()).removed == ()
    assert {r.type for r in await store.leases.resources("held")} == {"content", "snapshots/native"}
    await store.leases.discard("held", Resource("key", "snapshots/native"))
    assert {node.id for node in (await store.gc.collect()).removed} == {"key"}
    await store.leases.delete("held")
    assert {node.id for node in (await store.gc.collect()).removed} == {digest}


async def test_a_lease_ends_at_its_time(store: Metadata) -> None:
    here()
    past = (datetime.now(UTC) - timedelta(seconds=5)).isoformat()
    await store.leases.create(Lease("old", {"containerd.io/gc.expire": past}))
    here("old")
    digest = await write_blob(store.content, "ref", b"data")
    assert {node.id for node in (await store.gc.collect()).removed} == {"old", digest}


async def test_a_flat_lease_keeps_no_more_than_it_lists(store: Metadata) -> None:
    here()
    below = await write_blob(store.content, "r1", b"below")
    above = await write_blob(
        store.content, "r2", b"above", labels={"containerd.io/gc.ref.content": below}
    )
    await store.leases.create(Lease("flat", {"containerd.io/gc.flat": "1"}))
    await store.leases.add("flat", Resource(above, "content"))
    assert {node.id for node in (await store.gc.collect()).removed} == {below}


async def test_a_lease_that_is_gone_cannot_hold(store: Metadata) -> None:
    here("never-made")
    with pytest.raises(NotFound, match="lease"):
        await write_blob(store.content, "ref", b"data")


async def test_a_write_in_flight_is_not_collected(store: Metadata) -> None:
    here()
    async with await store.content.writer("ref") as writer:
        await writer.write(b"da")
        await store.gc.collect()
        await writer.write(b"ta")
        digest = await writer.commit(4)
    assert (await store.content.info(digest)).size == 4


async def test_many_changes_bring_a_collection_without_any_deletion(tmp_path: Path) -> None:
    config = GcConfig(startup_delay=0, schedule_delay=0, deletion_threshold=0, mutation_threshold=3)
    content = LocalContentStore(tmp_path / "content")
    async with Metadata.opened(tmp_path, Exchange(), content, {}, config) as store:
        here()
        digests = [await write_blob(store.content, f"r{n}", b"%d" % n) for n in range(3)]
        async with asyncio.timeout(60):
            while [info.digest async for info in store.content.walk()]:
                await asyncio.sleep(0.01)
        assert len(set(digests)) == 3


async def test_an_image_that_expires_goes_unless_something_keeps_it(store: Metadata) -> None:
    here()
    past = {"containerd.io/gc.expire": "2001-01-01T00:00:00Z"}
    blob = await write_blob(store.content, "ref", b"data")
    target = Descriptor("m", blob, 4)
    await store.images.create(Image("free", target, past))
    await store.images.create(Image("nonsense", target, {"containerd.io/gc.expire": "2001-01-01"}))
    await store.leases.create(Lease("lease"))
    here("lease")
    await store.images.create(Image("held", target, past))
    here()
    assert {node.id for node in (await store.gc.collect()).removed} == {"free"}
    await store.leases.delete("lease")
    await store.images.delete("nonsense")
    assert {node.id for node in (await store.gc.collect()).removed} == {"held", blob}


async def test_a_container_keeps_its_snapshot(store: Metadata) -> None:
    here()
    await store.snapshotters["native"].prepare("rootfs")
    await store.containers.create(container(snapshotter="native", snapshot_key="rootfs"))
    assert (await store.gc.collect()).removed == ()
    await store.containers.delete("c")
    assert {node.id for node in (await store.gc.collect()).removed} == {"rootfs"}


async def test_what_a_crash_left_between_two_stores_is_mended(tmp_path: Path) -> None:
    async with opened(tmp_path) as first:
        await first.snapshotters["native"].prepare("row-and-backend")
        await first.snapshotters["native"].prepare("row-only")
    async with LayeredSnapshotter.opened(CopyDriver(), tmp_path / "native") as native:
        names = [found.name async for found in native.walk()]
        await native.remove(next(name for name in names if name.endswith("row-only")))
        await native.prepare("backend-only")
    async with opened(tmp_path) as second:
        await second.leases.create(Lease("keeps"))
        await second.leases.add("keeps", Resource("row-and-backend", "snapshots/native"))
        await second.leases.add("keeps", Resource("row-only", "snapshots/native"))
        await second.gc.collect()
        found = [s.name async for s in second.snapshotters["native"].walk()]
        assert found == ["row-and-backend"]
    async with LayeredSnapshotter.opened(CopyDriver(), tmp_path / "native") as native:
        assert len([found async for found in native.walk()]) == 1


async def test_a_failed_write_undoes_nothing_of_its_neighbours(store: Metadata) -> None:
    here()
    await store.containers.create(container("taken"))
    outcomes = await asyncio.gather(
        *(store.containers.create(container(id)) for id in ("a", "taken", "b")),
        return_exceptions=True,
    )
    assert isinstance(outcomes[1], AlreadyExists)
    assert [found.id for found in await store.containers.list()] == ["a", "b", "taken"]


async def test_a_damaged_file_is_said(tmp_path: Path) -> None:
    (tmp_path / "metadata.db").write_bytes(b"this is no database" * 100)
    with pytest.raises(Internal, match=r"metadata\.db"):
        async with opened(tmp_path):
            raise AssertionError("it opened")


async def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "metadata.db")
    connection.execute("PRAGMA user_version = 999")
    connection.close()
    with pytest.raises(FailedPrecondition, match="newer"):
        async with opened(tmp_path):
            raise AssertionError("it opened")
