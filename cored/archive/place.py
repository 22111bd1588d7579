"""Where the tree behind some mounts lies: a directory, without mounting what is one anyway."""

from __future__ import annotations

import os
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from cored import linux
from cored.abc.values import Mount
from cored.errors import from_mount_error
from cored.threads import entered

__all__ = ["Place", "direct", "mounted", "mounted_for_now", "placed", "to_read"]

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
        async with mounted_for_now(mounts, state) as directory:
            yield Place(os.fspath(directory))


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
    async with mounted_for_now(to_read(mounts), state) as directory:
        yield os.fspath(directory)


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
async def mounted_for_now(
    mounts: Sequence[Mount], state: Path, what: str = "mounts"
) -> AsyncIterator[Path]:
    """The mounts below ``state`` for as long as the body runs; ``what`` they are, for errors."""
    async with AsyncExitStack() as stack:
        try:
            place = await stack.enter_async_context(entered(linux.mounted(mounts, state)))
        except OSError as error:
            raise from_mount_error(what, error) from error
        yield place


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
