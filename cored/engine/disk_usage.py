"""What takes space: images with what they share, volumes, and what could go."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, replace

from cored.abc.content import ContentStore
from cored.abc.records import Image
from cored.engine.image_details import ImageDetails, best, parts
from cored.engine.image_removal import ImageRemoval
from cored.engine.storage import Storage
from cored.oci.chainid import chain_ids
from cored.trees import disk_usage

__all__ = ["DiskUsage", "ImageUsage", "ImagesUsage", "VolumeUsage"]


@dataclass(frozen=True, slots=True)
class ImageUsage:
    """Bytes of its layers, of those that others have, too, and how many were made from it."""

    image: Image
    id: str
    size: int
    shared: int
    containers: int


@dataclass(frozen=True, slots=True)
class ImagesUsage:
    """``size`` counts each layer once, ``reclaimable`` those that no container needs."""

    images: tuple[ImageUsage, ...]
    size: int
    reclaimable: int


@dataclass(frozen=True, slots=True)
class VolumeUsage:
    name: str
    users: int
    size: int


class DiskUsage:
    """Of the namespace of the current scope."""

    def __init__(
        self,
        details: ImageDetails,
        removal: ImageRemoval,
        content: ContentStore,
        storage: Storage,
    ) -> None:
        self._details = details
        self._removal = removal
        self._content = content
        self._storage = storage

    async def images(self) -> ImagesUsage:
        """All images."""
        sizes: dict[str, int] = {}
        owners: Counter[str] = Counter()
        layers: dict[str, tuple[str, ...]] = {}
        needed: set[str] = set()
        found = []
        for summary in await self._details.list():
            image = summary.image
            part = best(await parts(self._content, image.target))
            chain = tuple(chain_ids(part.config.diff_ids)) if part and part.config else ()
            for name in chain:
                if name not in sizes:
                    sizes[name] = await self._details.usage(name)
            users = await self._removal.users([image])
            if users:
                needed.update(chain)
            if image.target.digest not in layers:  # several names are one image
                layers[image.target.digest] = chain
                owners.update(chain)
            found.append(ImageUsage(image, summary.config_digest, summary.size, 0, len(users)))
        shared = [
            replace(
                one,
                shared=sum(sizes[n] for n in layers[one.image.target.digest] if owners[n] > 1),
            )
            for one in found
        ]
        total = sum(sizes.values())
        return ImagesUsage(tuple(shared), total, total - sum(sizes[name] for name in needed))

    async def volumes(self) -> list[VolumeUsage]:
        """All volumes."""
        users = await self._storage.all_users()
        found = []
        for volume in await self._storage.volumes.all():
            place = self._storage.volumes.directory(volume)
            size = (await asyncio.to_thread(disk_usage, place)).size
            found.append(VolumeUsage(volume.name, len(users.get(volume.name, ())), size))
        return found
