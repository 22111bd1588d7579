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
from cored_service_cri.values import Container

__all__ = ["Volume", "Volumes"]


@dataclass(frozen=True, slots=True)
class Volume:
    """One of a container's: the snapshot's key, where it is to be, its directory, its image."""

    key: str
    target: str
    path: str
    image: str
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

    async def mount(self, one: Container) -> list[Volume]:
        """All of a container's. NotFound for an image or a path in it; nothing stays then."""
        made: list[Volume] = []
        try:
            for number, wanted in enumerate(one.config.mounts):
                if wanted.HasField("image"):
                    made.append(await self._mount(one, wanted, f"{one.id}-volume-{number}"))
        except BaseException:
            keys = tuple(volume.key for volume in made)
            await asyncio.shield(self.unmount(one.state.snapshotter, one.id, keys))
            raise
        return made

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

    async def _mount(self, one: Container, wanted: pb.Mount, key: str) -> Volume:
        image = await self._images.find(wanted.image.image)
        snapshotter = await self._roots.ready(image.unpacked)
        _, chosen = await self._snapshotters.choose(snapshotter)
        mounts = await chosen.view(key, image.unpacked.chain_id)
        place = self._state / one.id / key
        try:
            await asyncio.to_thread(_mounted, mounts, place)
            path = await asyncio.to_thread(_below, place, wanted.image_sub_path)
        except BaseException:
            await asyncio.shield(self.unmount(snapshotter, one.id, (key,)))
            raise
        return Volume(key, wanted.container_path, path, image.id, snapshotter)


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
