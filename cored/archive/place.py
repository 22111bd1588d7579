"""Where the tree behind some mounts lies: a directory, without mounting what is one anyway."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from cored import linux
from cored.abc.values import Mount
from cored.errors import from_mount_error

__all__ = ["Place", "direct", "mounted", "placed", "to_read"]

# what divides lower directories, where it is part of a name
_COLON = re.compile(r"(?<!\\):")


@dataclass(frozen=True, slots=True)
class Place:
    """A directory to extract into, and for an overlay's upper one those below it, top down."""

    directory: str
    lowers: tuple[str, ...] | None = None


@asynccontextmanager
async def placed(mounts: Sequence[Mount], state: Path) -> AsyncIterator[Place]:
    """Where to extract to: behind the mounts where that is one directory, else mounted."""
    found = direct(mounts)
    if found is not None:
        yield found
    else:
        async with _mounted(mounts, state) as directory:
            yield Place(directory)


@asynccontextmanager
async def mounted(mounts: Sequence[Mount], state: Path) -> AsyncIterator[str]:
    """The mounts as a directory to read, '' for none; below ``state`` if it has to be mounted.

    A container may write to them meanwhile.
    """
    found = direct(mounts)
    if found is not None and found.lowers is None:
        yield found.directory
        return
    if not mounts:
        yield ""
        return
    async with _mounted(to_read(mounts), state) as directory:
        yield directory


def to_read(mounts: Sequence[Mount]) -> list[Mount]:
    """The same tree, read-only, beside whoever has it mounted to write.

    A second overlay on the same upper directory would empty the first one's work directory, which
    can write no more from then on: the upper directory is the top one of those below instead.
    """
    return [_overlay_to_read(mount) if mount.type == "overlay" else mount for mount in mounts]


def _overlay_to_read(mount: Mount) -> Mount:
    values = dict(option.partition("=")[::2] for option in mount.options)
    upper = values.get("upperdir")
    if upper is None:
        return mount
    gone = ("upperdir=", "workdir=", "lowerdir=")
    rest = [o for o in mount.options if not o.startswith(gone) and o not in ("volatile", "rw")]
    lowers = ":".join((_COLON.sub(r"\\:", upper), values["lowerdir"]))
    return replace(mount, options=("ro", *rest, f"lowerdir={lowers}"))


@asynccontextmanager
async def _mounted(mounts: Sequence[Mount], state: Path) -> AsyncIterator[str]:
    mount = linux.mounted(mounts, state)
    try:
        place = await asyncio.to_thread(mount.__enter__)
    except OSError as error:
        raise from_mount_error("mounts", error) from error
    try:
        yield os.fspath(place)
    finally:
        await asyncio.to_thread(mount.__exit__, None, None, None)


def direct(mounts: Sequence[Mount]) -> Place | None:
    """The directory behind one writable mount, where there is one that needs no mounting."""
    if len(mounts) != 1 or mounts[0].target:
        return None
    (mount,) = mounts
    if mount.type == "bind" or "bind" in mount.options or "rbind" in mount.options:
        return Place(mount.source)
    values = dict(option.partition("=")[::2] for option in mount.options)
    if mount.type == "overlay" and values.keys() >= {"upperdir", "lowerdir"}:
        if "\\" in values["lowerdir"]:
            return None
        return Place(values["upperdir"], tuple(values["lowerdir"].split(":")))
    return None
