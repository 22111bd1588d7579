"""What pruning frees is told, whoever collects it."""

from __future__ import annotations

from pathlib import Path

from cored_content_local import LocalContentStore

from cored import scope
from cored.abc.content import write_blob
from cored.abc.records import Image
from cored.abc.values import Descriptor
from cored.config import GcConfig
from cored.engine.events import Exchange
from cored.engine.image_details import ImageDetails
from cored.engine.image_removal import ImageRemoval
from cored.engine.images import Images
from cored.engine.snapshotters import Snapshotters
from cored.metadata.gc import Collected, Scheduler
from cored.metadata.store import Metadata
from cored.scope import Scope
from tests import images

QUIET = GcConfig(startup_delay=3600, deletion_threshold=0, mutation_threshold=0)


class Overtaken:
    """A collector whose every collection finds that the daemon's own has just been there."""

    def __init__(self, gc: Scheduler) -> None:
        self._gc = gc

    async def collect(self) -> Collected:
        await self._gc.collect()
        return await self._gc.collect()


async def test_bytes_that_the_daemons_own_collection_has_freed_count_too(tmp_path: Path) -> None:
    made = images.make([images.layer({"file": b"x" * 1000})])
    store = LocalContentStore(tmp_path / "content")
    async with Metadata.opened(tmp_path, Exchange(), store, {}, QUIET) as metadata:
        scope.enter(Scope("one"))
        for digest, data in made.blobs.items():
            root = {"containerd.io/gc.root": "1"} if digest == made.config["digest"] else {}
            await write_blob(metadata.content, digest, data, labels=root)
        target = Descriptor(made.target["mediaType"], made.target["digest"], made.target["size"])
        await metadata.images.create(Image(target.digest, target))
        named = Images(metadata.images, metadata.content)
        snapshotters = Snapshotters({}, metadata.namespaces, "")
        details = ImageDetails(named, metadata.images, metadata.content, snapshotters)
        removal = ImageRemoval(
            named, details, metadata.images, metadata.containers, metadata.content, {},
            Overtaken(metadata.gc),  # type: ignore[arg-type]
            lambda namespace, id: False,
        )  # fmt: skip
        done = await removal.prune([])
    kept = len(made.blobs[made.config["digest"]])
    assert done.deleted == (target.digest,)
    assert done.freed == sum(map(len, made.blobs.values())) - kept
