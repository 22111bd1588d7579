"""All layers of an image at once, into a chain of snapshots."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from cored.abc.content import ContentStore
from cored.abc.snapshots import Snapshotter
from cored.abc.values import Descriptor
from cored.archive.pool import WorkerPool
from cored.engine.gather import first
from cored.engine.layers import Layer, LayerUnpacker, Origin
from cored.engine.progress import Report, silent
from cored.engine.snapshotters import Snapshotters
from cored.errors import InvalidArgument
from cored.oci import mediatypes
from cored.oci.chainid import chain_ids
from cored.oci.manifest import ImageConfig, Manifest

__all__ = ["Unpacker"]


class Unpacker:
    """Unpacks manifests; ``state`` is a directory for mounts of the moment."""

    def __init__(
        self,
        content: ContentStore,
        snapshotters: Snapshotters,
        pool: WorkerPool,
        state: Path,
    ) -> None:
        self._content = content
        self._snapshotters = snapshotters
        self._pool = pool
        self._state = state

    async def snapshotter(self, name: str = "") -> tuple[str, Snapshotter]:
        """A snapshotter by name, '' for the default one. NotFound."""
        return await self._snapshotters.choose(name)

    async def unpack(
        self,
        manifest: Manifest,
        config: ImageConfig,
        *,
        snapshotter: str = "",
        origin: Origin | None = None,
        report: Report = silent,
    ) -> str:
        """Bring in and unpack all layers; answer the chain id of the whole ('' without layers).

        The config blob comes to refer to the snapshot. After an error nothing half-made is left;
        whole layers stay until garbage collection.
        """
        id, chosen = await self.snapshotter(snapshotter)
        layers = _layers(manifest, config)
        unpacker = LayerUnpacker(self._content, chosen, self._pool, self._state, origin, report)
        await _all(unpacker, layers)
        if not layers:
            return ""
        top = layers[-1].chain_id
        await self._content.update(
            manifest.config.digest, {f"containerd.io/gc.ref.snapshot.{id}": top}
        )
        return top

    async def fetch(self, blob: Descriptor, origin: Origin, report: Report = silent) -> None:
        """Bring a blob in without unpacking it: a layer nobody wants to run, an artifact's."""
        _, chosen = await self.snapshotter()
        await LayerUnpacker(self._content, chosen, self._pool, self._state, origin, report).fetch(
            Layer(blob, "", "", "")
        )


async def _all(unpacker: LayerUnpacker, layers: Sequence[Layer]) -> None:
    try:
        async with asyncio.TaskGroup() as group:
            below: asyncio.Task[None] | None = None
            for layer in layers:
                below = group.create_task(unpacker.unpack(layer, below))
    except BaseExceptionGroup as errors:
        raise first(errors) from errors


def _layers(manifest: Manifest, config: ImageConfig) -> list[Layer]:
    blobs: list[Descriptor] = [d for d in manifest.layers if mediatypes.is_layer(d.media_type)]
    if len(blobs) != len(config.diff_ids):
        raise InvalidArgument(
            f"image: its manifest has {len(blobs)} layers, its config {len(config.diff_ids)}",
            hint="it is an artifact, or broken",
        )
    names = chain_ids(config.diff_ids)
    return [
        Layer(blob, diff_id, name, parent)
        for blob, diff_id, name, parent in zip(
            blobs, config.diff_ids, names, ["", *names], strict=False
        )
    ]
