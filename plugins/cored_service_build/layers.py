"""Steps' snapshots: made on a parent, compared with it, committed under the chain id."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import uuid
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cored import scope
from cored.abc.content import ContentStore
from cored.abc.differ import Differ
from cored.abc.records import LeaseStore, Resource
from cored.abc.snapshots import Snapshotter
from cored.abc.values import Descriptor, Mount
from cored.archive.jobs import DiffJob
from cored.archive.place import mounted_for_now, placed
from cored.archive.pool import WorkerPool
from cored.engine.gather import together
from cored.errors import AlreadyExists, NotFound, from_os_error
from cored.oci import mediatypes
from cored.threads import finished
from cored_service_build.cache import Made
from cored_service_build.drafts import Draft
from cored_service_build.overlays import unmarked, volatile
from cored_service_build.values import Layer

__all__ = ["Layers", "Work", "mounted"]

Work = Callable[[Sequence[Mount], str, AsyncExitStack], Coroutine[Any, Any, None]]
"""What a step does to the mounts of a snapshot with this key; what it leaves in the stack is done
while its changes are archived already."""


@asynccontextmanager
async def mounted(mounts: Sequence[Mount], state: Path) -> AsyncIterator[Path]:
    """The mounts as a directory while the body runs; of overlays no mark is left."""
    try:
        async with mounted_for_now(mounts, state, "build: mounting a snapshot") as place:
            yield place
    finally:
        await finished(unmarked, mounts)


async def _to_the_end(task: asyncio.Task[None]) -> None:
    """Wait for it, also when the caller is to leave meanwhile: his files are its business."""
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise


@dataclass(frozen=True, slots=True)
class Layers:
    """One build's way to snapshots; ``state`` is for mounts and files of the moment."""

    id: str
    snapshots: Snapshotter
    content: ContentStore
    leases: LeaseStore
    pool: WorkerPool
    differ: Differ
    state: Path

    async def made(self, parent: str, work: Work, epoch: int | None = None) -> Made:
        """What ``work`` does to a snapshot on ``parent`` ('' for none).

        Nothing stays when it fails. The layer is None where nothing changed; the snapshot is there
        before its blob.
        """
        key = f"build {uuid.uuid4().hex}"
        mounts = volatile(await self.snapshots.prepare(key, parent))
        draft = Draft(self.content, self.leases, self.state)
        stored: asyncio.Task[None] | None = None
        try:
            layer = await self._worked(parent, mounts, key, work, epoch, draft)
            if layer is None:
                await asyncio.gather(self.snapshots.remove(key), draft.discard())
                return Made(parent, None)
            stored = asyncio.create_task(draft.settle())
            return Made(await self._committed(key, parent, layer), layer, stored=stored)
        except BaseException as error:
            if stored is not None:
                stored.cancel()
                await asyncio.wait([stored])
            await asyncio.shield(draft.discard())
            await asyncio.shield(self._discarded(key, mounts))
            if isinstance(error, OSError):
                raise from_os_error("step", error) from error
            raise

    async def _worked(
        self,
        parent: str,
        mounts: Sequence[Mount],
        key: str,
        work: Work,
        epoch: int | None,
        draft: Draft,
    ) -> Layer | None:
        """The layer that came of it, in the draft or in the content store."""
        async with AsyncExitStack() as after:
            await together((work(mounts, key, after), draft.open()))
            ending = asyncio.create_task(after.pop_all().aclose())
            try:
                return await self._compared(parent, mounts, epoch, draft)
            finally:
                await _to_the_end(ending)

    @asynccontextmanager
    async def viewed(self, chain_id: str) -> AsyncIterator[Path]:
        """The files of a committed snapshot ('' has none), read-only."""
        if not chain_id:
            empty = self.state / "empty"
            empty.mkdir(exist_ok=True)
            yield empty
            return
        key = f"build-view {uuid.uuid4().hex}"
        mounts = await self.snapshots.view(key, chain_id)
        try:
            async with mounted(mounts, self.state) as place:
                yield place
        finally:
            await asyncio.shield(self._removed(key))

    async def applied(self, parent: str, layer: Layer) -> Made:
        """A layer that exists, on another parent."""
        key = f"build {uuid.uuid4().hex}"
        mounts = await self.snapshots.prepare(key, parent)
        try:
            await self.differ.apply(layer.blob, mounts)
            return Made(await self._committed(key, parent, layer), layer)
        except BaseException:
            await asyncio.shield(self._removed(key))
            raise

    async def _committed(self, key: str, parent: str, layer: Layer) -> str:
        chain = layer.diff_id
        if parent:
            chain = f"sha256:{hashlib.sha256(f'{parent} {layer.diff_id}'.encode()).hexdigest()}"
        while True:
            try:
                await self.snapshots.commit(chain, key)
                return chain
            except AlreadyExists:
                lease = scope.current().lease
                if lease is not None:
                    await self.leases.add(lease, Resource(chain, f"snapshots/{self.id}"))
                try:
                    await self.snapshots.stat(chain)
                except NotFound:
                    continue  # it was collected in between
                await self.snapshots.remove(key)
                return chain

    async def _discarded(self, key: str, mounts: Sequence[Mount]) -> None:
        """Remove what a step has half made: its files first, since on a full disk not even the
        removal can be written down."""
        async with placed(mounts, self.state) as place:
            await asyncio.to_thread(_emptied, place.directory)
        await self._removed(key)

    async def _removed(self, key: str) -> None:
        with suppress(NotFound):
            await self.snapshots.remove(key)

    async def _compared(
        self, parent: str, mounts: Sequence[Mount], epoch: int | None, draft: Draft
    ) -> Layer | None:
        media_type = mediatypes.OCI_LAYER_GZIP
        async with placed(mounts, self.state) as place:
            if not parent or place.lowers is not None:
                if not await asyncio.to_thread(os.listdir, place.directory):
                    return None
                job = DiffJob("", place.directory, str(draft.path), "gzip", epoch, bool(parent))
                result = await self.pool.run(job)
                blob = Descriptor(media_type, result.digest, result.size)
                draft.layer = Layer(blob, result.diff_id)
                return draft.layer
        key = f"build-view {uuid.uuid4().hex}"
        lower = await self.snapshots.view(key, parent)
        try:
            blob = await self.differ.compare(
                lower, mounts, media_type=media_type, source_date_epoch=epoch
            )
        finally:
            await asyncio.shield(self._removed(key))
        info = await self.content.info(blob.digest)
        return Layer(blob, info.labels["containerd.io/uncompressed"])


def _emptied(directory: str) -> None:
    for path in Path(directory).iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
