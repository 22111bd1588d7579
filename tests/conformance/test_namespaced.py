"""The contracts of the seams, kept by the metadata that puts them into namespaces."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from cored_content_local import LocalContentStore
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
