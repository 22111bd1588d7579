"""Base images: found here or pulled, unpacked, and read as the beginning of a stage."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field

from cored import scope
from cored.abc.content import ContentStore, read_blob
from cored.abc.records import Image, LeaseStore, Resource
from cored.abc.snapshots import Snapshotter
from cored.abc.values import Descriptor
from cored.engine.images import Images, Unpacked
from cored.engine.pull import Puller
from cored.engine.selection import single
from cored.engine.unpack import Unpacker
from cored.errors import NotFound
from cored.oci import mediatypes, platforms
from cored_service_build.state import StageState
from cored_service_build.values import Layer, Request

__all__ = ["Bases"]


@dataclass(slots=True)
class Bases:
    """For one build; each image is looked for once. ``id`` is the snapshotter's."""

    id: str
    snapshots: Snapshotter
    images: Images
    puller: Puller
    unpacker: Unpacker
    content: ContentStore
    leases: LeaseStore
    _found: dict[tuple[str, str], asyncio.Task[StageState]] = field(default_factory=dict)

    async def image(self, name: str, platform: str, request: Request) -> StageState:
        """What a stage from an image begins with. NotFound, Unavailable."""
        key = (name, platform)
        if key not in self._found:
            self._found[key] = asyncio.create_task(self._image(name, platform, request))
        state = await asyncio.shield(self._found[key])
        fresh = state.following()
        fresh.triggers = state.triggers
        return fresh

    async def close(self) -> None:
        """Nobody wants them any more, or waits for them."""
        tasks = list(self._found.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _image(self, name: str, platform: str, request: Request) -> StageState:
        image, found = await self._resolved(name, platform, request)
        lease = scope.current().lease
        if lease is not None:
            await self.leases.add(lease, Resource(image.target.digest, "content"))
        if found.chain_id and not await self._there(found.chain_id):
            await self.unpacker.unpack(found.manifest, found.config, snapshotter=self.id)
        blobs = [b for b in found.manifest.layers if mediatypes.is_layer(b.media_type)]
        layers = [
            Layer(Descriptor(blob.media_type, blob.digest, blob.size), diff_id)
            for blob, diff_id in zip(blobs, found.config.diff_ids, strict=True)
        ]
        config = await read_blob(self.content, found.config_digest)
        return StageState.image(config, layers, found.chain_id, platform)

    async def _resolved(self, name: str, platform: str, request: Request) -> tuple[Image, Unpacked]:
        if not request.pull:
            with suppress(NotFound):  # not at all, or for others' platforms only
                image = await self.images.resolve(name)
                return image, await self._chosen(image, platform)
        pulled = await self.puller.pull(name, single(platform, self.id), access=request.access)
        return pulled[0], await self._chosen(pulled[0], platform)

    async def _chosen(self, image: Image, platform: str) -> Unpacked:
        found = await self.images.unpacked(image, platform)
        there = found.config.platform
        if there.architecture and not platforms.matches(platforms.parse(platform), there):
            raise NotFound(
                f"image {image.name!r}: is for {platforms.format(there)}, not for {platform}"
            )
        return found

    async def _there(self, chain_id: str) -> bool:
        try:
            await self.snapshots.stat(chain_id)
        except NotFound:
            return False
        return True
