"""What of a container's files lies outside its snapshot: volumes, binds, and their lives."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from cored import linux
from cored.abc.records import Container, ContainerStore
from cored.abc.values import Mount
from cored.copies import copy_tree
from cored.engine.volumes import Catalog
from cored.engine.workload import Binding, ContainerConfig, VolumeMount, decoded
from cored.errors import FailedPrecondition, InvalidArgument, NotFound, from_mount_error
from cored.oci.mounts import Bind, Tmpfs
from cored.threads import finished

__all__ = ["MountPoint", "Storage"]


@dataclass(frozen=True, slots=True)
class MountPoint:
    """A mount of a container as listings show it; ``type`` is bind, volume or tmpfs."""

    type: str
    name: str = ""
    source: str = ""
    target: str = ""
    driver: str = ""
    read_only: bool = False
    propagation: str = ""


class Storage:
    """Volumes and the containers that have them."""

    def __init__(
        self, volumes: Catalog, store: ContainerStore, living: Callable[[str], bool]
    ) -> None:
        self.volumes = volumes
        self._store = store
        self._living = living

    async def settled(
        self,
        config: ContainerConfig,
        image_volumes: Sequence[str],
        find: Callable[[str], Awaitable[Container]],
    ) -> ContainerConfig:
        """The configuration with every volume by name, made where there was none.

        ``find`` answers the record for a name in ``volumes_from`` (an awaitable).
        """
        _once(config)
        config = await self._borrowed(config, find)
        taken = {bind.target.rstrip("/") for bind in config.mounts}
        taken |= {one.target.rstrip("/") for one in config.volumes}
        taken |= {one.target.rstrip("/") for one in config.tmpfs}
        more = [VolumeMount(target=path) for path in image_volumes if path.rstrip("/") not in taken]
        found: list[VolumeMount] = []
        try:
            for wanted in (*config.volumes, *more):
                _check(wanted)
                volume = await self.volumes.create(
                    wanted.name,
                    driver=wanted.driver,
                    options=wanted.options,
                    labels=wanted.labels,
                )
                found.append(replace(wanted, name=volume.name, driver=volume.driver))
        except BaseException:
            await asyncio.shield(self.release(replace(config, volumes=tuple(found)), ""))
            raise
        return replace(config, volumes=tuple(found))

    async def binds(self, config: ContainerConfig, aside: Path | None = None) -> list[Bind]:
        """What of it is mounted; volumes are attached, and parts of volumes are where
        :meth:`parts` mounts them in ``aside``."""
        found = [
            Bind(b.source, b.target, b.read_only, b.propagation, b.shallow) for b in config.mounts
        ]
        for number, one in enumerate(config.volumes):
            place = await self.volumes.attach(await self.volumes.get(one.name))
            source = _below(place, one)
            if one.subpath and aside is not None:
                source = _part(aside, number)
            found.append(Bind(str(source), one.target, one.read_only))
        return found

    @asynccontextmanager
    async def parts(self, config: ContainerConfig, aside: Path) -> AsyncIterator[None]:
        """Keep the parts of volumes mounted in ``aside``, for a task that is being created.

        Who else has the volume may have made a link of one of them since it was looked up, which
        the runtime would follow to anywhere on the host.
        """
        wanted = [
            (self.volumes.directory(await self.volumes.get(one.name)), one, _part(aside, number))
            for number, one in enumerate(config.volumes)
            if one.subpath
        ]
        try:
            if wanted:
                await finished(_mount_parts, wanted)
            yield
        finally:
            if wanted:
                await finished(_unmount_parts, wanted)

    async def fill(self, config: ContainerConfig, rootfs: Sequence[Mount], aside: Path) -> None:
        """Copy what the image has into empty volumes; ``aside`` is for a mount of the moment."""
        wanted = []
        for one in config.volumes:
            if one.no_copy or one.subpath:
                continue
            volume = await self.volumes.get(one.name)
            if not volume.options:
                wanted.append((one.target, self.volumes.directory(volume)))
        if wanted:
            await asyncio.to_thread(_fill, rootfs, aside, wanted)

    async def ready(self, config: ContainerConfig) -> None:
        """Before a start: attach the volumes. NotFound for one that was removed."""
        for one in config.volumes:
            await self.volumes.attach(await self.volumes.get(one.name))

    async def ended(self, config: ContainerConfig, id: str = "") -> None:
        """After the end of ``id``: detach the volumes that no other running container has."""
        for one in config.volumes:
            users = await self.users(one.name)
            if not any(self._living(user) for user in users if user != id):
                with suppress(NotFound):
                    await self.volumes.detach(one.name)

    async def release(self, config: ContainerConfig, id: str) -> None:
        """Remove the anonymous volumes of a container that goes, unless others have them."""
        for one in config.volumes:
            with suppress(NotFound, FailedPrecondition):
                volume = await self.volumes.get(one.name)
                if volume.anonymous:
                    users = [user for user in await self.users(one.name) if user != id]
                    await self.volumes.remove(one.name, users)

    async def users(self, name: str) -> list[str]:
        """Ids of the containers that have a volume."""
        return (await self.all_users()).get(name, [])

    async def all_users(self) -> dict[str, list[str]]:
        """Ids of containers by volume."""
        found: dict[str, list[str]] = {}
        for record in await self._store.list():
            for one in decoded(record)[0].volumes:
                found.setdefault(one.name, []).append(record.id)
        return found

    async def points(self, config: ContainerConfig) -> list[MountPoint]:
        """Its mounts, for people."""
        found = [
            MountPoint("bind", "", b.source, b.target, "", b.read_only, b.propagation or "rprivate")
            for b in config.mounts
        ]
        for one in config.volumes:
            source = ""
            with suppress(NotFound):
                volume = await self.volumes.get(one.name)
                # not looked up: a container that made a link of it must not be in the way of a list
                source = str(self.volumes.directory(volume) / one.subpath)
            found.append(
                MountPoint("volume", one.name, source, one.target, one.driver, one.read_only)
            )
        return found

    async def _borrowed(
        self, config: ContainerConfig, find: Callable[[str], Awaitable[Container]]
    ) -> ContainerConfig:
        binds, volumes = list(config.mounts), list(config.volumes)
        taken = {bind.target for bind in binds} | {one.target for one in volumes}
        for text in config.volumes_from:
            name, _, mode = text.partition(":")
            if mode not in ("", "ro", "rw"):
                raise InvalidArgument(f"volumes from {text!r}: the mode is ro or rw")
            theirs, _ = decoded(await find(name))
            for bind in theirs.mounts:
                if bind.target not in taken:
                    binds.append(replace(bind, read_only=bind.read_only or mode == "ro"))
            for one in theirs.volumes:
                if one.target not in taken:
                    volumes.append(replace(one, read_only=one.read_only or mode == "ro"))
        return replace(config, mounts=tuple(binds), volumes=tuple(volumes))


def _once(config: ContainerConfig) -> None:
    """InvalidArgument where two things are to be mounted at the same place."""
    seen = set()
    lists: tuple[Sequence[Binding | VolumeMount | Tmpfs], ...]
    lists = (config.mounts, config.volumes, config.tmpfs)
    for one in (one for several in lists for one in several):
        target = os.path.normpath(one.target)
        if target in seen:
            raise InvalidArgument(f"mount at {target!r}: there are two", hint="leave one away")
        seen.add(target)


def _check(wanted: VolumeMount) -> None:
    if not wanted.target.startswith("/") or wanted.target == "/":
        raise InvalidArgument(f"volume target {wanted.target!r}: must be absolute, and not /")


def _below(place: Path, one: VolumeMount) -> Path:
    """A volume's directory, or the one in it. InvalidArgument, NotFound."""
    if not one.subpath:
        return place
    found = (place / one.subpath).resolve()
    if not found.is_relative_to(place.resolve()):
        raise InvalidArgument(f"volume {one.name!r}: {one.subpath!r} leads out of it")
    if not found.exists():
        raise NotFound(f"volume {one.name!r}: has no {one.subpath!r}")
    return found


def _part(aside: Path, number: int) -> Path:
    return aside / f"part-{number}"


def _mount_parts(wanted: Sequence[tuple[Path, VolumeMount, Path]]) -> None:
    for place, one, part in wanted:
        try:
            with linux.opened_below(str(place), one.subpath) as source:
                linux.unmount_all(part, lazy=True)  # a daemon was killed here
                if Path(source).is_dir():
                    part.mkdir(exist_ok=True)
                else:
                    part.touch()
                linux.mount_all([Mount("bind", source, options=("rbind",))], part)
        except OSError as error:
            raise from_mount_error(f"volume {one.name!r}: its {one.subpath!r}", error) from error


def _unmount_parts(wanted: Sequence[tuple[Path, VolumeMount, Path]]) -> None:
    for _, _, part in wanted:
        linux.unmount_all(part, lazy=True)
        with suppress(FileNotFoundError):
            (part.rmdir if part.is_dir() else part.unlink)()


def _fill(rootfs: Sequence[Mount], aside: Path, wanted: Sequence[tuple[str, Path]]) -> None:
    if all(any(place.iterdir()) for _, place in wanted):
        return
    try:
        with linux.mounted(rootfs, aside) as root:
            for target, place in wanted:
                _copy_up(root, target, place)
    except OSError as error:
        raise from_mount_error("volumes: what the image has there", error) from error


def _copy_up(root: Path, target: str, volume: Path) -> None:
    """Nothing where the image has no directory, or the volume holds something."""
    if any(volume.iterdir()):
        return
    try:
        with linux.opened_below(str(root), target) as place:
            if Path(place).is_dir():
                copy_tree(Path(place), volume)
    except FileNotFoundError:
        return
