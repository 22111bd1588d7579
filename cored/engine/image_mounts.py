"""Images as mounts: snapshots made for clients that want to look into one."""

from __future__ import annotations

import time
from contextlib import suppress
from datetime import UTC, datetime

from cored.abc.values import Mount
from cored.engine.images import Images
from cored.engine.snapshotters import Snapshotters
from cored.engine.unpack import Unpacker
from cored.errors import AlreadyExists, InvalidArgument, NotFound

__all__ = ["ImageMounts"]

_PREFIX = "image-mount "


class ImageMounts:
    """Snapshots by the path where their client mounts them; they stay until they are given back."""

    def __init__(self, images: Images, unpacker: Unpacker, snapshotters: Snapshotters) -> None:
        self._images = images
        self._unpacker = unpacker
        self._snapshotters = snapshotters

    async def prepare(
        self, name: str, target: str, *, platform: str, snapshotter: str, writable: bool
    ) -> list[Mount]:
        """The mounts that show an image. AlreadyExists for a target in use; NotFound."""
        if not target.startswith("/"):
            raise InvalidArgument(f"image mount: target {target!r} is not an absolute path")
        image = await self._images.resolve(name)
        found = await self._images.unpacked(image, platform)
        id, chosen = await self._snapshotters.choose(snapshotter)
        await self._unpacker.unpack(found.manifest, found.config, snapshotter=id)
        now = datetime.fromtimestamp(int(time.time()), UTC).isoformat()
        make = chosen.prepare if writable else chosen.view
        labels = {"containerd.io/gc.root": now, "cored.io/image-mount": image.name[:4000]}
        try:
            return await make(_PREFIX + target, found.chain_id, labels)
        except AlreadyExists as error:
            raise AlreadyExists(
                f"image mount: {target!r} has an image already",
                hint=f"see: corectl image unmount {target}",
            ) from error

    async def give_back(self, target: str) -> None:
        """Forget a mount. NotFound."""
        for snapshotter in self._snapshotters.loaded.values():
            with suppress(NotFound):
                await snapshotter.remove(_PREFIX + target)
                return
        raise NotFound(f"image mount: nothing is mounted at {target!r}")
