"""All volumes, by namespace and name: a directory each, with what is known of it in a file.

The file system is the truth; a directory gets its name when it is complete.
"""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import time
from collections.abc import Collection, Mapping
from dataclasses import asdict
from pathlib import Path

from cored import linux, scope
from cored.abc.events import Action, EventBus
from cored.abc.volumes import ANONYMOUS, Volume, VolumeDriver
from cored.engine import names
from cored.engine.revival import revived
from cored.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound
from cored.trees import disk_usage, remove_tree

__all__ = ["Catalog"]

_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,254}")


class Catalog:
    """``root`` holds a directory for each namespace. ``drivers`` by name."""

    def __init__(self, root: Path, drivers: Mapping[str, VolumeDriver], bus: EventBus) -> None:
        self._root = root
        self._drivers = drivers
        self._bus = bus
        self._lock = asyncio.Lock()

    async def create(
        self,
        name: str = "",
        *,
        driver: str = "",
        options: Mapping[str, str] | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> Volume:
        """Make one, or answer the one that has the name. AlreadyExists when that is another."""
        wanted = Volume(
            name or names.new_id(),
            driver or "local",
            dict(options or {}),
            dict(labels or {}) if name else {**(labels or {}), ANONYMOUS: ""},
            time.time_ns(),
        )
        if not _NAME.fullmatch(wanted.name):
            raise InvalidArgument(
                f"volume name {wanted.name!r}: invalid",
                hint="[a-zA-Z0-9][a-zA-Z0-9_.-]*; a directory of the host is an absolute path",
            )
        self._driver(wanted).check(wanted.options)
        async with self._lock:
            try:
                found = await self.get(wanted.name)
            except NotFound:
                await asyncio.to_thread(self._make, wanted)
                await self._tell(wanted, "create")
                return wanted
        if (driver and found.driver != driver) or (options and found.options != wanted.options):
            raise AlreadyExists(f"volume {name!r}: is there already, and is another one")
        return found

    async def get(self, name: str) -> Volume:
        """NotFound."""
        path = self._place(name) / "volume.json"
        if not _NAME.fullmatch(name) or not path.exists():
            raise NotFound(f"volume {name!r}: not found", hint="see: corectl volume ls")
        return revived(Volume, json.loads(await asyncio.to_thread(path.read_text)))

    async def all(self) -> list[Volume]:
        """Those of the namespace, by name."""
        return await asyncio.to_thread(self._read)

    async def remove(self, name: str, users: Collection[str]) -> int:
        """Remove it; the bytes that it had. FailedPrecondition while containers have it."""
        async with self._lock:
            volume = await self.get(name)
            if users:
                ids = ", ".join(id[:12] for id in users)
                raise FailedPrecondition(
                    f"volume {name!r}: is in use by {ids}", hint="remove those containers first"
                )
            freed = await asyncio.to_thread(self._remove, volume)
        await self._tell(volume, "destroy")
        return freed

    def directory(self, volume: Volume) -> Path:
        """Where its files are, while it is attached."""
        return self._driver(volume).directory(volume, self._place(volume.name))

    async def attach(self, volume: Volume) -> Path:
        """Make it usable; where its files are."""
        place = self._place(volume.name)
        await asyncio.to_thread(self._driver(volume).attach, volume, place)
        return self.directory(volume)

    async def detach(self, name: str) -> None:
        """No container that runs has it any more. NotFound."""
        volume = await self.get(name)
        await asyncio.to_thread(self._driver(volume).detach, volume, self._place(name))

    def _driver(self, volume: Volume) -> VolumeDriver:
        try:
            return self._drivers[volume.driver]
        except KeyError:
            there = ", ".join(sorted(self._drivers))
            raise NotFound(
                f"volume driver {volume.driver!r}: not found", hint=f"there is {there}"
            ) from None

    def _make(self, volume: Volume) -> None:
        place = self._place(volume.name)
        aside = place.with_name(f".new-{names.new_id()}")
        aside.mkdir(mode=0o711, parents=True)
        try:
            self._driver(volume).create(volume, aside)
            (aside / "volume.json").write_text(json.dumps(asdict(volume)))
            aside.rename(place)
        except BaseException:
            shutil.rmtree(aside)
            raise

    def _remove(self, volume: Volume) -> int:
        place = self._place(volume.name)
        self._driver(volume).remove(volume, place)
        freed = disk_usage(place).size
        gone = place.with_name(f".gone-{names.new_id()}")
        place.rename(gone)
        remove_tree(gone)
        return freed

    def _read(self) -> list[Volume]:
        here = self._root / scope.namespace()
        found = sorted(here.glob("[!.]*/volume.json"))
        return [revived(Volume, json.loads(path.read_text())) for path in found]

    def sweep(self) -> None:
        """Remove what a crash has left half made or half removed. Blocks."""
        for place in self._root.glob("*/.*-*"):
            linux.unmount_all(place / "_data", lazy=True)
            remove_tree(place)

    def _place(self, name: str) -> Path:
        return self._root / scope.namespace() / name

    async def _tell(self, volume: Volume, action: str) -> None:
        await self._bus.publish(Action("volume", action, volume.name, {"driver": volume.driver}))
