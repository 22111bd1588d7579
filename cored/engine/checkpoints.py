"""Checkpoints: a task's processes as a blob, and back into a directory that a runtime restores."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from cored import scope
from cored.abc.content import ContentStore, write_blob
from cored.abc.records import ContainerStore
from cored.abc.values import Descriptor, Typed
from cored.archive.jobs import DiffJob, LayerJob, Source
from cored.archive.pool import WorkerPool
from cored.engine.tasks import Tasks
from cored.errors import AlreadyExists, InvalidArgument, NotFound

__all__ = ["IMAGE", "Checkpoints"]

IMAGE = "application/vnd.containerd.container.criu.checkpoint.criu.tar"
SPEC = "application/vnd.containerd.container.checkpoint.config.v1+proto"


class Checkpoints:
    """``state`` holds the directories of restored tasks, one each, as long as they live."""

    def __init__(
        self,
        tasks: Tasks,
        containers: ContainerStore,
        content: ContentStore,
        pool: WorkerPool,
        state: Path,
    ) -> None:
        self._tasks = tasks
        self._containers = containers
        self._content = content
        self._pool = pool
        self._state = state

    def clean(self) -> None:
        """Remove the directories of tasks that are gone."""
        known = {f"{namespace}.{id}" for namespace, id in self._tasks.known()}
        for place in self._state.iterdir():
            if place.name not in known:
                shutil.rmtree(place)

    async def make(
        self, id: str, options: Typed | None, path: str, packed_spec: bytes
    ) -> list[Descriptor]:
        """Checkpoint a task: into the directory ``path``, or else as blobs, which are answered.

        ``packed_spec`` is what the container's spec is kept as.
        """
        if path:
            await self._tasks.checkpoint(id, path, options)
            return []
        with TemporaryDirectory(dir=self._state, prefix=".make-") as directory:
            await self._tasks.checkpoint(id, directory, options)
            image = await self._stored(Path(directory))
        digest = await write_blob(self._content, f"checkpoint-spec-{time.time_ns()}", packed_spec)
        return [image, Descriptor(SPEC, digest, len(packed_spec))]

    @asynccontextmanager
    async def restored(self, id: str, image: Descriptor) -> AsyncIterator[str]:
        """A directory with the blob's files, for the body to create the task ``id`` from.

        It stays until the task is gone; after an error in the body it goes at once.
        """
        if image.media_type != IMAGE:
            raise InvalidArgument(
                f"checkpoint {image.digest}: is {image.media_type!r}, not {IMAGE}"
            )
        place = self._state / f"{scope.namespace()}.{id}"
        await asyncio.to_thread(shutil.rmtree, place, ignore_errors=True)
        place.mkdir(mode=0o700)
        try:
            async with await self._content.reader(image.digest) as reader:
                if reader.path is None:
                    raise NotFound(f"checkpoint {image.digest}: its store has no local files")
                job = LayerJob(
                    Source(str(reader.path)),
                    image.media_type,
                    image.digest,
                    reader.size,
                    str(place),
                )
                await self._pool.run(job)
            yield str(place)
        except BaseException:
            await asyncio.to_thread(shutil.rmtree, place)
            raise

    async def _stored(self, directory: Path) -> Descriptor:
        with TemporaryDirectory(dir=self._state, prefix=".pack-") as packing:
            output = Path(packing) / "image.tar"
            done = await self._pool.run(DiffJob("", str(directory), str(output), ""))
            ref = f"checkpoint-{done.digest}"
            try:
                async with await self._content.writer(
                    ref, size=done.size, expected=done.digest
                ) as writer:
                    await writer.truncate(0)
                    with output.open("rb") as file:
                        while data := await asyncio.to_thread(file.read, 1 << 20):
                            await writer.write(data)
                    await writer.commit(done.size, done.digest)
            except AlreadyExists:
                return Descriptor(IMAGE, done.digest, done.size)
        return Descriptor(IMAGE, done.digest, done.size)
