"""One layer: its blob into the content store and its tree into a snapshot, in one go."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import NamedTemporaryFile

from cored import log
from cored.abc.content import ContentStore, Writer
from cored.abc.snapshots import Snapshotter
from cored.abc.values import Descriptor, Labels, Mount
from cored.archive.fixups import apply_fixups
from cored.archive.jobs import LayerJob, LayerResult, Refusal, Route, Source
from cored.archive.place import Place, placed
from cored.archive.pool import Renew, WorkerPool
from cored.engine.progress import Progress, Report
from cored.engine.registry import Located
from cored.errors import (
    AlreadyExists,
    CoredError,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    Unavailable,
    Unimplemented,
)

__all__ = ["Layer", "LayerUnpacker", "Locate", "Origin", "lower_directories"]

# the label by which a snapshot is asked for by the name that it is to have
_REFERENCE = "containerd.io/snapshot.ref"

Locate = Callable[[Descriptor], Located]
"""Where a blob that is not in the content store can be fetched."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where blobs come from that are not here, and the labels that say so afterwards.

    ``connections`` is the most that a large blob is fetched over at a time, ``attempts`` how often
    something is tried.
    """

    locate: Locate
    labels: Labels = field(default_factory=dict)
    connections: int = 1
    attempts: int = 5


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer of an image: its blob, and what it is called when it is unpacked."""

    blob: Descriptor
    diff_id: str
    chain_id: str
    parent: str


class LayerUnpacker:
    """Brings the layers of one image in. ``origin`` is None when all blobs must be there."""

    def __init__(
        self,
        content: ContentStore,
        snapshotter: Snapshotter,
        pool: WorkerPool,
        state: Path,
        origin: Origin | None,
        report: Report,
    ) -> None:
        self._content = content
        self._snapshotter = snapshotter
        self._pool = pool
        self._state = state
        exports: Mapping[str, str] = getattr(snapshotter, "exports", {})
        self._remote = exports.get("enable_remote_snapshot_annotations") == "true"
        self._origin = origin
        self._report = report

    async def unpack(self, layer: Layer, below: asyncio.Task[None] | None) -> None:
        """Fetch if need be, extract, and commit as the layer's chain id.

        ``below`` ends when the parent is committed: extraction does not wait for it where the
        snapshotter can put a layer on its parent afterwards.
        """
        if await self._held(layer.chain_id):
            await self.fetch(layer)
            return
        rebase = "rebase" in self._snapshotter.capabilities
        if below is not None and not rebase:
            await self._bring(layer, None)  # fetched while the layers below are unpacked
            await _done(below)
        key = f"extract-{time.time_ns()}-{layer.chain_id}"
        parent = "" if rebase else layer.parent
        mounts = await self._prepared(layer, key, parent)
        if mounts is None:
            # a remote snapshotter has the layer: its blob is fetched when somebody reads it
            self._tell(layer, "exists")
            return
        try:
            if rebase:
                await self._above(layer, _directory(mounts), below)
            else:
                async with placed(mounts, self._state) as place:
                    await self._bring(layer, place)
            await self._snapshotter.commit(layer.chain_id, key, parent=layer.parent or None)
        except AlreadyExists:
            # somebody else unpacked the same layer meanwhile: theirs is as good
            await self._snapshotter.remove(key)
        except _Mended:
            await asyncio.shield(self._discard(key))
            await self.unpack(layer, below)  # the blob is here by now
            return
        except BaseException:
            await asyncio.shield(self._discard(key))
            raise
        await self._label(layer)
        self._tell(layer, "done")

    async def _prepared(self, layer: Layer, key: str, parent: str) -> list[Mount] | None:
        """The mounts of a new snapshot; None when the layer's is there by its name."""
        labels = {_REFERENCE: layer.chain_id} if self._remote else {}
        try:
            return await self._snapshotter.prepare(key, parent, labels)
        except AlreadyExists:
            if not await self._exists(layer.chain_id):
                raise
            return None

    async def _above(self, layer: Layer, target: str, below: asyncio.Task[None] | None) -> None:
        """Extract without the layers below, then fit it to them."""
        result = await self._bring(layer, Place(target, ()))
        lowers: list[str] = []
        if below is not None:
            await _done(below)
            lowers = await lower_directories(self._snapshotter, layer.parent)
        await asyncio.to_thread(apply_fixups, result.fixups, target, lowers)

    async def fetch(self, layer: Layer) -> None:
        """See that the blob is in the content store, without unpacking it."""
        await self._bring(layer, None)
        await self._label(layer)
        self._tell(layer, "exists")

    def _tell(self, layer: Layer, status: str) -> None:
        blob = layer.blob
        self._report(Progress(blob.digest, status, blob.size, blob.size, blob))

    async def _bring(self, layer: Layer, place: Place | None) -> LayerResult:
        """Run the worker over the blob, from the store or from where it can be fetched."""
        writer = await self._writer(layer.blob)
        if writer is None:
            return await self._local(layer, place)
        async with writer:
            resumed = writer.status.offset > 0
            try:
                return await self._fetched(layer, place, writer)
            except FailedPrecondition as error:
                if not resumed and not self._others(layer.blob):
                    raise
                log.get("pull").warning("blob fetched anew", reason=error.message)
            # what there was from before may be what is damaged, or one of several hosts
            result = await self._fetched(layer, None, writer, after=0 if resumed else 1)
        if place is not None:
            raise _Mended
        return result

    def _others(self, blob: Descriptor) -> bool:
        """Whether there is more than one place to fetch it from."""
        return self._origin is not None and len(self._origin.locate(blob).routes) > 1

    async def _writer(self, blob: Descriptor) -> Writer | None:
        """The writer for a blob; None when it is there. Waits for another one who fetches it."""
        while True:
            try:
                return await self._content.writer(
                    f"layer-{blob.digest}", size=blob.size, expected=blob.digest
                )
            except AlreadyExists:
                return None
            except Unavailable:
                self._report(Progress(blob.digest, "waiting", 0, blob.size, blob))
                await asyncio.sleep(0.1)

    async def _local(self, layer: Layer, place: Place | None) -> LayerResult:
        if place is None:
            return LayerResult(layer.blob.digest, layer.blob.size, "", 0)
        async with await self._content.reader(layer.blob.digest) as reader:
            if reader.path is not None:
                return await self._run(layer, Source(str(reader.path)), place)
            with NamedTemporaryFile(prefix="cored-layer-") as spool:
                offset = 0
                while data := await reader.read_at(offset, 1 << 20):
                    spool.write(data)
                    offset += len(data)
                spool.flush()
                return await self._run(layer, Source(spool.name), place)

    async def _fetched(
        self, layer: Layer, place: Place | None, writer: Writer, *, after: int = 0
    ) -> LayerResult:
        """Fetch the blob, over the routes after the first so many."""
        try:
            return await self._arrived(layer, place, writer, after)
        except (InvalidArgument, FailedPrecondition):
            # what came is not what was promised: nobody wants to go on from there
            await writer.truncate(0)
            raise

    async def _arrived(
        self, layer: Layer, place: Place | None, writer: Writer, after: int
    ) -> LayerResult:
        if self._origin is None:
            raise NotFound(f"layer {layer.blob.digest}: is not in the content store")
        located = self._origin.locate(layer.blob)
        origin, where = self._origin, located.routes[after:]

        async def renew(refusal: Refusal) -> Route:
            return await located.renew(Refusal(refusal.number + after, refusal.challenge))

        if writer.path is not None:
            at = writer.status.offset
            source = Source(str(writer.path), where, at, origin.connections, origin.attempts)
            result = await self._run(layer, source, place, renew)
            await writer.advance(result.size, result.digest)
        else:
            with NamedTemporaryFile(prefix="cored-layer-") as spool:
                source = Source(spool.name, where, 0, origin.connections, origin.attempts)
                result = await self._run(layer, source, place, renew)
                await writer.truncate(0)
                while data := spool.read(1 << 20):
                    await writer.write(data)
        labels = {"containerd.io/uncompressed": layer.diff_id} if layer.diff_id else {}
        try:
            await writer.commit(
                layer.blob.size, layer.blob.digest, {**self._origin.labels, **labels}
            )
        except AlreadyExists:
            log.get("pull").debug("blob came twice", digest=layer.blob.digest)
        return result

    async def _run(
        self, layer: Layer, source: Source, place: Place | None, renew: Renew | None = None
    ) -> LayerResult:
        blob = layer.blob
        status = "downloading" if source.routes else "extracting"
        self._report(Progress(blob.digest, status, source.offset, blob.size, blob))
        job = LayerJob(
            source=source,
            media_type=blob.media_type,
            digest=blob.digest,
            size=blob.size,
            target=place.directory if place else "",
            overlay=place is not None and place.lowers is not None,
            # () stands for layers that are not there yet
            lowers=place.lowers or None if place else None,
            diff_id=layer.diff_id,
        )
        return await self._pool.run(
            job,
            lambda offset: self._report(Progress(blob.digest, status, offset, blob.size, blob)),
            renew,
        )

    async def _label(self, layer: Layer) -> None:
        wanted = dict(self._origin.labels) if self._origin else {}
        if layer.diff_id:
            wanted["containerd.io/uncompressed"] = layer.diff_id
        info = await self._content.info(layer.blob.digest)
        if not wanted.items() <= info.labels.items():
            await self._content.update(layer.blob.digest, wanted)

    async def _held(self, chain_id: str) -> bool:
        """Whether the layer is unpacked; then the lease of this request keeps it from now on."""
        if not await self._exists(chain_id):
            return False
        key = f"extract-{time.time_ns()}-{chain_id}"
        try:
            # asked for by the name that is there it is not made, but held
            await self._snapshotter.prepare(key, "", {_REFERENCE: chain_id})
        except AlreadyExists:
            return True
        # it went in between
        await self._snapshotter.remove(key)
        return False

    async def _exists(self, chain_id: str) -> bool:
        try:
            await self._snapshotter.stat(chain_id)
        except NotFound:
            return False
        return True

    async def _discard(self, key: str) -> None:
        try:
            await self._snapshotter.remove(key)
        except CoredError as error:
            log.get("pull").warning("half-made layer not removed", key=key, error=str(error))


class _Mended(Exception):
    """A damaged blob has been replaced; what was extracted from it goes."""


async def _done(task: asyncio.Task[None]) -> None:
    """Wait for a task without taking it along when the waiting is cancelled."""
    await asyncio.wait([task])
    if task.cancelled() or task.exception() is not None:
        raise asyncio.CancelledError  # the group, which it belongs to as we do, knows why


async def lower_directories(snapshotter: Snapshotter, name: str) -> list[str]:
    """The directories that the committed snapshot ``name`` is made of, from the top down."""
    if not name:
        return []
    key = f"look-{time.time_ns()}-{name}"
    mounts = await snapshotter.view(key, name)
    try:
        (mount,) = mounts
        for option in mount.options:
            if option.startswith("lowerdir="):
                return option.removeprefix("lowerdir=").split(":")
        return [mount.source]
    finally:
        await snapshotter.remove(key)


def _directory(mounts: Sequence[Mount]) -> str:
    """Where a prepared snapshot's files lie. Unimplemented when it is not one directory."""
    if len(mounts) == 1:
        (mount,) = mounts
        if mount.type == "bind" or "bind" in mount.options or "rbind" in mount.options:
            return os.fspath(Path(mount.source))
    raise Unimplemented("this snapshotter's mounts cannot be unpacked into directly")
