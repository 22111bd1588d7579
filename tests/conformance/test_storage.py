"""The contracts of the seams, kept by the built-in plugins and by the metadata over them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from cored_content_local import LocalContentStore
from cored_snapshotter_native import CopyDriver
from cored_snapshotter_overlay import OverlayDriver

from cored import scope
from cored.abc.content import ContentStore
from cored.abc.records import Lease
from cored.abc.snapshots import Snapshotter
from cored.engine.events import Exchange
from cored.layered import LayeredSnapshotter
from cored.metadata.store import Metadata
from cored.scope import Scope
from cored.testing.content import ContentStoreContract
from cored.testing.snapshots import SnapshotterContract

# a lease, or garbage collection would take what nothing refers to
HELD = Scope("default", "held")


@pytest.fixture
def root(short_tmp: Path) -> Path:
    """Not below pytest's own directory: overlay options have a length."""
    return short_tmp


@pytest.mark.root
class TestOverlay(SnapshotterContract):
    @pytest.fixture
    async def snapshotter(self, root: Path) -> AsyncIterator[Snapshotter]:
        async with LayeredSnapshotter.opened(OverlayDriver(), root) as opened:
            yield opened


@pytest.mark.root
class TestNative(SnapshotterContract):
    @pytest.fixture
    async def snapshotter(self, root: Path) -> AsyncIterator[Snapshotter]:
        async with LayeredSnapshotter.opened(CopyDriver(), root) as opened:
            yield opened


class TestLocalContent(ContentStoreContract):
    @pytest.fixture
    def store(self, tmp_path: Path) -> ContentStore:
        return LocalContentStore(tmp_path)


@pytest.fixture
async def metadata(root: Path) -> AsyncIterator[Metadata]:
    async with LayeredSnapshotter.opened(OverlayDriver(), root / "overlay") as overlay:
        content = LocalContentStore(root / "content")
        async with Metadata.opened(root, Exchange(), content, {"overlayfs": overlay}) as opened:
            scope.enter(HELD)
            await opened.leases.create(Lease("held"))
            yield opened


@pytest.mark.root
class TestNamespacedOverlay(SnapshotterContract):
    @pytest.fixture
    def snapshotter(self, metadata: Metadata) -> Snapshotter:
        scope.enter(HELD)
        return metadata.snapshotters["overlayfs"]


class TestNamespacedContent(ContentStoreContract):
    @pytest.fixture
    def store(self, metadata: Metadata) -> ContentStore:
        scope.enter(HELD)
        return metadata.content


async def test_a_directory_without_a_row_is_removed_at_the_next_start(root: Path) -> None:
    async with LayeredSnapshotter.opened(CopyDriver(), root) as snapshotter:
        await snapshotter.prepare("kept")
    (root / "snapshots/99/fs").mkdir(parents=True)
    (root / "snapshots/99/fs/file").write_text("left by a crash")
    async with LayeredSnapshotter.opened(CopyDriver(), root) as snapshotter:
        await snapshotter.cleanup()
        assert [found.name async for found in snapshotter.walk()] == ["kept"]
    assert [place.name for place in (root / "snapshots").iterdir()] == ["1"]
