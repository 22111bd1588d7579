"""Files of containers, running or not: copied in and out, compared with the image, exported."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import stat
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from cored import linux
from cored.abc.records import Container
from cored.abc.snapshots import Snapshotter
from cored.abc.values import Mount
from cored.archive.changes import Change, between, in_upper
from cored.archive.place import mounted, mounted_for_now, placed
from cored.engine.containers import Containers
from cored.engine.names import new_id
from cored.engine.snapshotters import Snapshotters
from cored.engine.workload import ContainerView, decoded
from cored.errors import (
    FailedPrecondition,
    Internal,
    InvalidArgument,
    NotFound,
    PermissionDenied,
)
from cored.threads import finished

__all__ = ["Changed", "Entry", "Files"]

_BLOCK = 256 << 10
_ERRORS = {
    errno.ENOENT: NotFound,
    errno.EROFS: FailedPrecondition,
    errno.EACCES: PermissionDenied,
    errno.EPERM: PermissionDenied,
}

# with a process whose root is the container's, also before it becomes the container's own
_INSIDE = ("created", "running", "paused")


@dataclass(frozen=True, slots=True)
class Entry:
    """What a path is: ``mode`` as stat(2) has it, ``link`` where it leads to."""

    name: str
    mode: int
    size: int
    link: str = ""


@dataclass(frozen=True, slots=True)
class Changed:
    """``kind`` is A, C or D: added, changed, deleted."""

    kind: str
    path: str


class Files:
    """``state`` is for mounts of the moment."""

    def __init__(self, containers: Containers, snapshotters: Snapshotters, state: Path) -> None:
        self._containers = containers
        self._snapshotters = snapshotters
        self._state = state

    async def copy_out(
        self, name: str, path: str, *, follow: bool = False
    ) -> AsyncIterator[Entry | bytes]:
        """What the path is, then a tar of it: under its own name, or (``DIR/.``) as ``.``.

        NotFound; InvalidArgument for a path that must be a directory and is none.
        """
        view = await self._containers.view(name)
        async with self._root(view) as root:
            words = ["follow"] if follow else []
            async for piece in _read(f"{name}:{path}", root, path, words):
                yield piece

    async def export(self, name: str) -> AsyncIterator[Entry | bytes]:
        """The root filesystem without what is mounted in it."""
        record = await self._containers.find(name)
        async with self._bare(record) as root:
            async for piece in _read(name, root, "/.", ["one-file-system"]):
                yield piece

    async def copy_in(
        self, name: str, path: str, data: AsyncIterator[bytes], *, owners: bool
    ) -> None:
        """Unpack a tar in a directory. NotFound, InvalidArgument, FailedPrecondition."""
        view = await self._containers.view(name)
        async with self._root(view) as root:
            words = [] if owners else ["0:0"]
            async with _program("in", root, path, words, stdin=True) as process:
                assert process.stdin is not None
                with suppress(BrokenPipeError, ConnectionResetError):
                    async for piece in data:
                        process.stdin.write(piece)
                        await process.stdin.drain()
                process.stdin.close()
                await _settled(f"{name}:{path}", process)

    async def changes(self, name: str) -> list[Changed]:
        """What differs from the image, by path."""
        view = await self._containers.view(name)
        record = view.record
        snapshotter = self._snapshotter(record)
        document = json.loads(record.spec.value) if record.spec else {}
        ours = {mount["destination"] for mount in document.get("mounts", ())}
        async with self.parent(record) as lower:
            mounts = await snapshotter.mounts(record.snapshot_key)
            async with mounted(lower, self._state) as below, placed(mounts, self._state) as place:
                upper = os.fsencode(place.directory)
                overlay = place.lowers is not None

                def walk() -> list[Changed]:
                    found = in_upper(upper) if overlay else between(os.fsencode(below), upper)
                    return _told(list(found), os.fsencode(below), ours)

                return await asyncio.to_thread(walk)

    @asynccontextmanager
    async def parent(self, record: Container) -> AsyncIterator[Sequence[Mount]]:
        """The mounts that show the image that a container was made from."""
        snapshotter = self._snapshotter(record)
        parent = (await snapshotter.stat(record.snapshot_key)).parent
        if not parent:
            yield ()
            return
        key = f"cored-view-{new_id()}"
        labels = {"containerd.io/gc.root": "cored"}
        try:
            yield await snapshotter.view(key, parent, labels)
        finally:
            await asyncio.shield(snapshotter.remove(key))

    def _snapshotter(self, record: Container) -> Snapshotter:
        return self._snapshotters.loaded[record.snapshotter]

    @asynccontextmanager
    async def _root(self, view: ContainerView) -> AsyncIterator[str]:
        """The filesystem as the container sees it, volumes too."""
        if view.pid and view.status in _INSIDE:
            # its overlay is mounted: a second one to write to would ruin it
            yield f"/proc/{view.pid}/root"
            return
        config, _ = decoded(view.record)
        mounts = list(await self._containers.rootfs(view.record))
        binds = await self._containers.storage.binds(config)
        more = [
            Mount("bind", bind.source, bind.target, ("rbind", "ro" if bind.read_only else "rw"))
            for bind in sorted(binds, key=lambda bind: bind.target.count("/"))
        ]
        try:
            async with self._mounted(mounts, more) as root:
                yield root
        finally:
            await asyncio.shield(self._containers.storage.ended(config))

    @asynccontextmanager
    async def _bare(self, record: Container) -> AsyncIterator[str]:
        async with mounted(await self._containers.rootfs(record), self._state) as root:
            yield root

    @asynccontextmanager
    async def _mounted(self, mounts: Sequence[Mount], more: Sequence[Mount]) -> AsyncIterator[str]:
        done: list[str] = []
        async with mounted_for_now(mounts, self._state, "root filesystem") as root:
            try:
                # a place that the container has never been started with is not there
                await finished(_mount_there, root, more, done)
                yield os.fspath(root)
            finally:
                await finished(_unmount, done)


def _mount_there(root: Path, mounts: Sequence[Mount], done: list[str]) -> None:
    for mount in mounts:
        with suppress(FileNotFoundError), linux.opened_below(str(root), mount.target) as place:
            target = os.readlink(place)  # noqa: PTH115
            linux.mount_all([Mount(mount.type, mount.source, options=mount.options)], target)
            done.append(target)


def _unmount(places: Sequence[str]) -> None:
    for place in reversed(places):
        linux.unmount_all(place, lazy=True)


@asynccontextmanager
async def _program(
    verb: str, root: str, path: str, words: Sequence[str], *, stdin: bool = False
) -> AsyncIterator[asyncio.subprocess.Process]:
    """``cored.chrooted``; it ends with the body."""
    pipe, null = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "cored.chrooted", verb, root, path, *words,
        stdin=pipe if stdin else null, stdout=null if stdin else pipe, stderr=pipe, limit=_BLOCK,
    )  # fmt: skip
    try:
        yield process
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.kill()
            await asyncio.shield(process.wait())


async def _read(
    what: str, root: str, path: str, words: Sequence[str]
) -> AsyncIterator[Entry | bytes]:
    async with _program("out", root, path, words) as process:
        assert process.stdout is not None
        line = await process.stdout.readline()
        if line:
            yield Entry(**json.loads(line))
            while piece := await process.stdout.read(_BLOCK):
                yield piece
        await _settled(what, process)


async def _settled(what: str, process: asyncio.subprocess.Process) -> None:
    """Wait for its end. What it says went wrong."""
    assert process.stderr is not None
    text = (await process.stderr.read()).decode(errors="replace")
    if await process.wait() == 0:
        return
    try:
        told = json.loads(text.strip().splitlines()[-1])
    except (ValueError, IndexError) as error:
        raise Internal(f"{what}: copying failed: {text[-500:]}") from error
    kind = _ERRORS.get(told["errno"], InvalidArgument)
    raise kind(f"{what}: {told['message'].lower()}")


def _told(changes: Sequence[Change], lower: bytes, ours: set[str]) -> list[Changed]:
    """Without what the runtime has made to mount on, and directories that only hold such."""
    found: dict[str, Changed] = {}
    spurious: set[str] = set()
    for change in changes:
        if not change.path:
            continue
        path = "/" + os.fsdecode(change.path)
        there = change.stat
        below = bool(lower) and os.path.lexists(lower + b"/" + change.path)
        made = there is not None and not below
        stub = made and (
            path in ours or any(path.startswith(f"{place}/") for place in ("/dev", "/proc", "/sys"))
        )
        if stub and there is not None and (stat.S_ISDIR(there.st_mode) or there.st_size == 0):
            spurious.add(path)
            continue
        kind = "D" if there is None else "C" if below else "A"
        found[path] = Changed(kind, path)
    for path in sorted(spurious, key=len, reverse=True):
        parent = path.rpartition("/")[0] or "/"
        while parent != "/" and parent in found:
            holds = any(other.startswith(f"{parent}/") for other in found)
            if holds or found[parent].kind != "C":
                break
            del found[parent]
            parent = parent.rpartition("/")[0] or "/"
    return [found[path] for path in sorted(found)]
