"""Layers' blobs while they are written: by a worker, where the content store will have them."""

from __future__ import annotations

import asyncio
import os
import uuid
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import mkstemp

from cored import scope
from cored.abc.content import ContentStore, Writer
from cored.abc.records import LeaseStore, Resource
from cored.errors import AlreadyExists, NotFound
from cored_service_build.values import Layer

__all__ = ["Draft"]

_BLOCK = 1 << 20


@dataclass(slots=True)
class Draft:
    """One blob; its file is the store's own where a worker can write there, else one in ``state``.

    ``layer`` is what was written, None as long as nothing was. Once opened it is to be settled or
    discarded.
    """

    content: ContentStore
    leases: LeaseStore
    state: Path
    ref: str = field(default_factory=lambda: f"build-{uuid.uuid4().hex}")
    layer: Layer | None = None
    _writer: Writer | None = None
    _file: Path | None = None

    async def open(self) -> None:
        """Make the file. CoredError."""
        self._writer = await self.content.writer(self.ref)
        if self._writer.path is None:
            self._file = await asyncio.to_thread(_made, self.state)

    @property
    def path(self) -> Path:
        """The file to write, and nothing but it."""
        assert self._writer is not None
        path = self._writer.path or self._file
        assert path is not None
        return path

    async def settle(self) -> None:
        """Into the content store with it, or away with what has no layer. CoredError."""
        try:
            if self.layer is not None:
                await self._keep(self.layer)
        finally:
            await asyncio.shield(self.discard())

    async def _keep(self, layer: Layer) -> None:
        assert self._writer is not None
        labels, blob = {"containerd.io/uncompressed": layer.diff_id}, layer.blob
        try:
            async with self._writer as writer:
                if self._file is None:
                    await writer.advance(blob.size, blob.digest)
                else:
                    await _copied(self._file, writer)
                await writer.commit(blob.size, blob.digest, labels)
        except AlreadyExists:
            await self.content.update(blob.digest, labels)
            lease = scope.current().lease
            if lease is not None:
                await self.leases.add(lease, Resource(blob.digest, "content"))
        self._writer = None

    async def discard(self) -> None:
        """Nobody wants it; fine when it was never opened, or is settled."""
        if self._writer is not None:
            await self._writer.close()
            with suppress(NotFound):
                await self.content.abort(self.ref)
            self._writer = None
        if self._file is not None:
            file, self._file = self._file, None
            await asyncio.to_thread(file.unlink)


def _made(state: Path) -> Path:
    handle, name = mkstemp(dir=state, prefix="layer-")
    os.close(handle)
    return Path(name)


async def _copied(path: Path, writer: Writer) -> None:
    with await asyncio.to_thread(path.open, "rb") as file:
        while data := await asyncio.to_thread(file.read, _BLOCK):
            await writer.write(data)
