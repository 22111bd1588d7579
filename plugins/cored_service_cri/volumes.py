"""Image volumes: what is in an image, mounted read-only into a container."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from cored import linux
from cored._pb.cri.v1 import api_pb2 as pb
from cored.engine.roots import Roots
from cored.engine.snapshotters import Snapshotters
from cored.errors import InvalidArgument, NotFound, from_mount_error, from_os_error
from cored_service_cri.imagefacts import ImageFacts

__all__ = ["Volume", "Volumes"]


@dataclass(frozen=True, slots=True)
class Volume:
    """One of a container's: the snapshot's key, where it is to be, its image, what of it."""

    key: str
    target: str
    image: str
    chain_id: str
    sub_path: str
    snapshotter: str


class Volumes:
    """Mounted below ``state``, a directory for each container."""

    def __init__(
        self, images: ImageFacts, roots: Roots, snapshotters: Snapshotters, state: Path
    ) -> None:
        self._images = images
        self._roots = roots
        self._snapshotters = snapshotters
        self._state = state

    async def plan(self, id: str, wanted: Sequence[pb.Mount]) -> list[Volume]:
        """Those of a container, with nothing made yet. NotFound for an image."""
        found = []
        for number, mount in enumerate(wanted):
            if mount.HasField("image"):
                image = await self._images.find(mount.image.image)
                found.append(
                    Volume(
                        key=f"{id}-volume-{number}",
                        target=mount.container_path,
                        image=image.id,
                        chain_id=image.unpacked.chain_id,
                        sub_path=mount.image_sub_path,
                        snapshotter=await self._roots.ready(image.unpacked),
                    )
                )
        return found

    async def mount(self, id: str, volumes: Sequence[Volume]) -> dict[str, str]:
        """Mount all of them; their directories by target. NotFound for a path in an image.

        The container's record must be there, for what it does not name may be collected at once.
        """
        found = {}
        for volume in volumes:
            _, chosen = await self._snapshotters.choose(volume.snapshotter)
            mounts = await chosen.view(volume.key, volume.chain_id)
            place = self._state / id / volume.key
            await asyncio.to_thread(_mounted, mounts, place)
            found[volume.target] = await asyncio.to_thread(_below, place, volume.sub_path)
        return found

    async def unmount(self, snapshotter: str, id: str, keys: Sequence[str]) -> None:
        """Let go of them; fine when they are gone."""
        if not keys:
            return
        _, chosen = await self._snapshotters.choose(snapshotter)
        for key in keys:
            await asyncio.to_thread(_unmounted, self._state / id / key)
            with suppress(NotFound):
                await chosen.remove(key)
        with suppress(FileNotFoundError):
            (self._state / id).rmdir()

    def labels(self, volumes: Sequence[Volume]) -> dict[str, str]:
        """What keeps the snapshots from garbage collection, on the container's record."""
        return {
            f"containerd.io/gc.ref.snapshot.{one.snapshotter}/volume-{number}": one.key
            for number, one in enumerate(volumes)
        }


def _mounted(mounts: Sequence[linux.MountLike], place: Path) -> None:
    try:
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        linux.mount_all(mounts, place)
    except OSError as error:
        raise from_mount_error(f"image volume {place.name}", error) from error


def _unmounted(place: Path) -> None:
    linux.unmount_all(place, lazy=True)
    with suppress(FileNotFoundError):
        place.rmdir()


def _below(place: Path, inside: str) -> str:
    """The path of what is in an image, which links of its cannot lead out of."""
    if not inside:
        return str(place)
    if ".." in Path(inside).parts or inside.startswith("/"):
        raise InvalidArgument(f"image_sub_path {inside!r}: must be relative, without '..'")
    try:
        with linux.opened_below(str(place), inside) as found:
            return str(Path(found).readlink())
    except OSError as error:
        raise from_os_error(f"image_sub_path {inside!r}", error) from error
