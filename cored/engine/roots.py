"""Root filesystems: see that an image is unpacked where a container wants to stand on it."""

from __future__ import annotations

from cored.abc.records import LeaseStore
from cored.abc.snapshots import Snapshotter
from cored.engine.images import Unpacked
from cored.engine.snapshotters import Snapshotters
from cored.engine.transfers import leased
from cored.engine.unpack import Unpacker
from cored.errors import NotFound

__all__ = ["Roots"]


class Roots:
    """Images were unpacked for one snapshotter when they came; a container may choose another."""

    def __init__(self, snapshotters: Snapshotters, unpacker: Unpacker, leases: LeaseStore) -> None:
        self._snapshotters = snapshotters
        self._unpacker = unpacker
        self._leases = leases

    async def ready(self, image: Unpacked, snapshotter: str = "") -> str:
        """Unpack the image unless it is; the id of the snapshotter ('' is the default one).

        NotFound for an unknown snapshotter, and for layers that are not in the content store.
        """
        id, chosen = await self._snapshotters.choose(snapshotter)
        if image.chain_id and not await _there(chosen, image.chain_id):
            async with leased(self._leases, "unpack"):
                await self._unpacker.unpack(image.manifest, image.config, snapshotter=id)
        return id


async def _there(snapshotter: Snapshotter, name: str) -> bool:
    try:
        await snapshotter.stat(name)
    except NotFound:
        return False
    return True
