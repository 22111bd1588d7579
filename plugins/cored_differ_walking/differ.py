"""Apply and compare, without mounting what is a directory anyway."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile

from cored.abc.content import ContentStore, Reader
from cored.abc.differ import Differ
from cored.abc.values import NO_LABELS, Descriptor, Labels, Mount, Typed
from cored.archive.jobs import DiffJob, LayerJob, Source
from cored.archive.place import mounted, placed
from cored.archive.pool import WorkerPool
from cored.errors import AlreadyExists, Unimplemented

__all__ = ["WalkingDiffer"]

_TAR = "application/vnd.oci.image.layer.v1.tar"
_LAYERS = (
    _TAR,
    "application/vnd.oci.image.layer.nondistributable.v1.tar",
    "application/vnd.docker.image.rootfs.diff.tar",
    "application/vnd.docker.image.rootfs.foreign.diff.tar",
)
_COMPRESSIONS = {"": "", "+gzip": "gzip", ".gzip": "gzip", "+zstd": "zstd"}


class WalkingDiffer(Differ):
    """``state`` is for mounts and files of the moment."""

    def __init__(self, content: ContentStore, pool: WorkerPool, state: Path) -> None:
        self._content = content
        self._pool = pool
        self._state = state

    async def apply(
        self,
        layer: Descriptor,
        mounts: Sequence[Mount],
        *,
        sync: bool = False,
        payloads: Mapping[str, Typed] | None = None,
    ) -> Descriptor:
        if payloads or not layer.media_type.startswith(_LAYERS):
            raise Unimplemented(f"layer {layer.digest}: media type {layer.media_type!r} is unknown")
        async with await self._content.reader(layer.digest) as reader:
            async with _file(reader) as path, placed(mounts, self._state) as place:
                job = LayerJob(
                    source=Source(path),
                    media_type=layer.media_type,
                    digest=layer.digest,
                    size=reader.size,
                    target=place.directory,
                    overlay=place.lowers is not None,
                    lowers=place.lowers,
                    sync=sync,
                )
                result = await self._pool.run(job)
        return Descriptor(_TAR, result.diff_id, result.uncompressed_size)

    async def compare(
        self,
        lower: Sequence[Mount],
        upper: Sequence[Mount],
        *,
        media_type: str,
        ref: str = "",
        labels: Labels = NO_LABELS,
        source_date_epoch: int | None = None,
        targets: Sequence[str] = (),
    ) -> Descriptor:
        base = next((known for known in _LAYERS if media_type.startswith(known)), None)
        compression = _COMPRESSIONS.get(media_type[len(base) :]) if base is not None else None
        if compression is None:
            raise Unimplemented(f"layer of media type {media_type!r}: cannot be made")
        with NamedTemporaryFile(dir=self._state, prefix="diff-") as output:
            async with mounted(lower, self._state) as old, mounted(upper, self._state) as new:
                job = DiffJob(
                    old if lower else "", new, output.name, compression, source_date_epoch,
                    mounted=tuple(targets),
                )  # fmt: skip
                result = await self._pool.run(job)
            kept = {**labels, "containerd.io/uncompressed": result.diff_id}
            name = ref or f"diff-{time.time_ns()}-{result.digest}"
            await self._store(Path(output.name), name, result.digest, result.size, kept)
        return Descriptor(media_type, result.digest, result.size)

    async def _store(self, path: Path, ref: str, digest: str, size: int, labels: Labels) -> None:
        try:
            async with await self._content.writer(ref, size=size, expected=digest) as writer:
                await writer.truncate(0)
                with path.open("rb") as file:
                    while data := await asyncio.to_thread(file.read, 1 << 20):
                        await writer.write(data)
                await writer.commit(size, digest, labels)
        except AlreadyExists:
            await self._content.update(digest, dict(labels))


@asynccontextmanager
async def _file(reader: Reader) -> AsyncIterator[str]:
    """A blob as a local file, spooled where the store has none."""
    if reader.path is not None:
        yield os.fspath(reader.path)
        return
    with NamedTemporaryFile(prefix="cored-layer-") as spool:
        offset = 0
        while data := await reader.read_at(offset, 1 << 20):
            spool.write(data)
            offset += len(data)
        spool.flush()
        yield spool.name
