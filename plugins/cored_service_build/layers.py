"""Steps' snapshots: made on a parent, compared with it, committed under the chain id."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import IO

from cored import scope
from cored.abc.content import ContentStore
from cored.abc.differ import Differ
from cored.abc.records import LeaseStore, Resource
from cored.abc.snapshots import Snapshotter
from cored.abc.values import Descriptor, Mount
from cored.archive.jobs import DiffJob
from cored.archive.place import mounted_for_now, placed
from cored.archive.pool import WorkerPool
from cored.errors import AlreadyExists, NotFound, from_os_error
from cored.oci import mediatypes
from cored.threads import finished
from cored_service_build.cache import Made
from cored_service_build.overlays import unmarked, volatile
from cored_service_build.values import Layer

__all__ = ["Layers", "mounted"]


@asynccontextmanager
async def mounted(mounts: Sequence[Mount], state: Path) -> AsyncIterator[Path]:
    """The mounts as a directory while the body runs; of overlays no mark is left."""
    try:
        async with mounted_for_now(mounts, state, "build: mounting a snapshot") as place:
            yield place
    finally:
        await finished(unmarked, mounts)


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

    async def made(
        self,
        parent: str,
        work: Callable[[Sequence[Mount], str], Awaitable[None]],
        epoch: int | None = None,
    ) -> Made:
        """What ``work`` does to a snapshot on ``parent`` ('' for none); it gets the mounts and key.

        Nothing stays when it fails. The layer is None where nothing changed; the snapshot is there
        before its blob.
        """
        key = f"build {uuid.uuid4().hex}"
        mounts = volatile(await self.snapshots.prepare(key, parent))
        stored: asyncio.Task[None] | None = None
        try:
            await work(mounts, key)
            layer, stored = await self._compared(parent, mounts, epoch)
            if layer is None:
                await self.snapshots.remove(key)
                return Made(parent, None)
            return Made(await self._committed(key, parent, layer), layer, stored=stored)
        except BaseException as error:
            if stored is not None:
                stored.cancel()
                await asyncio.wait([stored])
            await asyncio.shield(self._discarded(key, mounts))
            if isinstance(error, OSError):
                raise from_os_error("step", error) from error
            raise

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
        self, parent: str, mounts: Sequence[Mount], epoch: int | None
    ) -> tuple[Layer | None, asyncio.Task[None] | None]:
        """The layer, and who brings its blob into the content store."""
        media_type = mediatypes.OCI_LAYER_GZIP
        async with placed(mounts, self.state) as place:
            if not parent or place.lowers is not None:
                if not await asyncio.to_thread(os.listdir, place.directory):
                    return None, None
                return await self._archived(place.directory, epoch, overlay=bool(parent))
        key = f"build-view {uuid.uuid4().hex}"
        lower = await self.snapshots.view(key, parent)
        try:
            blob = await self.differ.compare(
                lower, mounts, media_type=media_type, source_date_epoch=epoch
            )
        finally:
            await asyncio.shield(self._removed(key))
        info = await self.content.info(blob.digest)
        return Layer(blob, info.labels["containerd.io/uncompressed"]), None

    async def _archived(
        self, directory: str, epoch: int | None, *, overlay: bool
    ) -> tuple[Layer, asyncio.Task[None]]:
        output = NamedTemporaryFile(dir=self.state, prefix="layer-")  # noqa: SIM115
        try:
            job = DiffJob("", directory, output.name, "gzip", epoch, overlay)
            result = await self.pool.run(job)
        except BaseException:
            output.close()
            raise
        blob = Descriptor(mediatypes.OCI_LAYER_GZIP, result.digest, result.size)
        layer = Layer(blob, result.diff_id)
        return layer, asyncio.create_task(self._stored(output, layer))

    async def _stored(self, output: IO[bytes], layer: Layer) -> None:
        """Into the content store, and away with the file."""
        labels, blob = {"containerd.io/uncompressed": layer.diff_id}, layer.blob
        with output:
            try:
                async with await self.content.writer(
                    f"build-{uuid.uuid4().hex}", size=blob.size, expected=blob.digest
                ) as writer:
                    while data := await asyncio.to_thread(output.read, 1 << 20):
                        await writer.write(data)
                    await writer.commit(blob.size, blob.digest, labels)
            except AlreadyExists:
                await self.content.update(blob.digest, labels)
                lease = scope.current().lease
                if lease is not None:
                    await self.leases.add(lease, Resource(blob.digest, "content"))


def _emptied(directory: str) -> None:
    for path in Path(directory).iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
