"""The mount manager: chains of mounts made ready under a name, and taken away again."""

from __future__ import annotations

import asyncio
import os
import time
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from cored import linux, log, scope
from cored.abc.mounts import Activation, ActiveMount, MountHandler
from cored.abc.values import Labels, Mount
from cored.engine.mount_transforms import TRANSFORMS, Roots, split
from cored.errors import Unimplemented, from_mount_error
from cored.metadata.activations import Activations
from cored.scope import Scope
from cored.threads import finished

__all__ = ["MountManager"]


class MountManager:
    """``root`` holds a directory for each activation, in it one for each mount.

    Rows come first: a directory without a row is garbage, and :meth:`sweep` takes it away.
    """

    def __init__(
        self,
        store: Activations,
        root: Path,
        handlers: Mapping[str, MountHandler],
        allowed: Sequence[Path] = (),
    ) -> None:
        self._store = store
        self._root = root
        self._handlers = handlers
        self._roots = Roots((root, *allowed))
        self._locks: dict[tuple[str, str], asyncio.Lock] = {}

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[MountManager]:
        """Bring rows and mounts together again; what is mounted stays so at the end."""
        await self._forget_lost()
        await self.sweep()
        yield self

    async def activate(
        self, name: str, mounts: Sequence[Mount], labels: Labels, *, temporary: bool = False
    ) -> Activation:
        """Make ready what mount(2) alone could not.

        ``temporary``: all are mounted, and one bind mount of the last is left for the caller.
        Unimplemented when there is nothing to do: the caller mounts as always. AlreadyExists.
        """
        count = self._count(mounts, temporary)
        if count is None:
            raise Unimplemented(f"mounts {name!r}: need no activation", hint="mount them")
        key = (scope.namespace(), name)
        async with self._locks.setdefault(key, asyncio.Lock()), self._store.guard.using():
            number = await self._store.begin(name, labels)
            began = time.time_ns()
            place = self._root / str(number)
            try:
                active, system = await finished(self._make, place, tuple(mounts), count, temporary)
                made = Activation(name, active, system, labels, began, time.time_ns())
                await self._store.finish(made)
            except BaseException:
                await asyncio.shield(self._abandon(name, place))
                raise
            return made

    async def deactivate(self, name: str) -> None:
        """Unmount and forget. NotFound."""
        key = (scope.namespace(), name)
        async with self._locks.setdefault(key, asyncio.Lock()), self._store.guard.using():
            number = await self._store.remove(name)
            await asyncio.to_thread(self._take_away, self._root / str(number))
        self._locks.pop(key, None)

    async def info(self, name: str) -> Activation:
        """NotFound."""
        return await self._store.get(name)

    async def list(self, filters: Sequence[str] = ()) -> list[Activation]:
        """All of the namespace that match."""
        return await self._store.list(filters)

    async def update(self, record: Activation, fields: Sequence[str]) -> Activation:
        """Change labels. NotFound."""
        return await self._store.update(record, fields)

    async def sweep(self) -> None:
        """Take away the mounts that no row knows: of a crash, or of a collection."""
        known = self._store.numbers()
        for place in sorted(self._root.iterdir()):
            if place.name.isdigit() and int(place.name) not in known:
                await asyncio.to_thread(self._take_away, place)

    async def _forget_lost(self) -> None:
        """Drop rows whose mounts have gone with a reboot."""
        for number, (namespace, name) in self._store.numbers().items():
            if not (self._root / str(number)).exists():
                with scope.entered(Scope(namespace)):
                    await self._store.remove(name)

    def _count(self, mounts: Sequence[Mount], temporary: bool) -> int | None:
        """How many mounts, from the first, are the daemon's to make; None for no work at all."""
        count = None
        for number, mount in enumerate(mounts):
            transforms, type = split(mount.type)
            if transforms:
                count = number  # it can be prepared only when those before it are there
            if temporary or type in self._handlers:
                count = number + 1
        return count

    def _make(
        self, place: Path, mounts: Sequence[Mount], count: int, temporary: bool
    ) -> tuple[tuple[ActiveMount, ...], tuple[Mount, ...]]:
        place.mkdir(mode=0o700)
        active: deque[ActiveMount] = deque()
        for number, wanted in enumerate(mounts[:count]):
            mount = self._prepared(wanted, active)
            point = place / f"{number:03}"
            handler = self._handlers.get(mount.type)
            if handler is not None:
                # told from the directory alone, should nobody be left who knows
                (place / f"{number:03}.type").write_text(mount.type)
                active.append(handler.mount(mount, point, active))
                continue
            point.mkdir(mode=0o700)
            try:
                linux.mount_all([mount], point)
            except OSError as error:
                what = f"mount {mount.type!r} of {mount.source!r}"
                raise from_mount_error(what, error) from error
            active.append(ActiveMount(mount, os.fspath(point), time.time_ns()))
        system = tuple(mounts[count:])
        if system:
            system = (self._prepared(system[0], active), *system[1:])
        elif temporary and active:
            system = (Mount("bind", active[-1].point, options=("rbind",)),)
        return tuple(active), system

    def _prepared(self, mount: Mount, before: Sequence[ActiveMount]) -> Mount:
        transforms, type = split(mount.type)
        if not transforms:
            return mount
        result = Mount(type, mount.source, mount.target, mount.options)
        for name in transforms:
            result = TRANSFORMS[name](result, before, self._roots)
        return result

    async def _abandon(self, name: str, place: Path) -> None:
        await asyncio.to_thread(self._take_away, place)
        await self._store.remove(name)

    def _take_away(self, place: Path) -> None:
        """Unmount from the last to the first, and remove the directory.

        Nothing is removed but what was made here: whatever cannot be unmounted stays as it is.
        """
        if not place.exists():
            return
        for point in sorted(place.iterdir(), reverse=True):
            if point.suffix == ".type":
                continue
            kind = point.with_suffix(".type")
            if kind.exists():
                self._handlers[kind.read_text()].unmount(point)
                kind.unlink()
                continue
            try:
                linux.unmount_all(point)
            except OSError as error:
                log.get("mounts").warning("still in use", place=str(point), error=str(error))
                linux.unmount_all(point, lazy=True)
            point.rmdir()
        for kind in place.iterdir():
            kind.unlink()  # of a handler that failed before it made anything
        place.rmdir()
