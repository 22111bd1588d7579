"""Contexts as they come from clients: directories of which only what is new is sent, archives."""

from __future__ import annotations

import asyncio
import os
import shutil
import tarfile
import tempfile
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import BinaryIO, ParamSpec, TypeVar

from cored.errors import InvalidArgument, from_os_error
from cored_service_build.directories import Entry, Kept, Receiving
from cored_service_build.endings import Endings

__all__ = ["Contexts", "contexts", "extracted"]

_P = ParamSpec("_P")
_T = TypeVar("_T")


@asynccontextmanager
async def contexts(
    names: Collection[str], spool: Path, kept: Kept, endings: Endings
) -> AsyncIterator[Contexts]:
    """To receive into; nothing but what is kept stays, soon after a body that succeeds."""
    place = Path(tempfile.mkdtemp(prefix="build-", dir=spool))
    found = Contexts(place, names, kept, endings)
    try:
        found.spool.mkdir()
        yield found
    except BaseException:
        await asyncio.shield(found.close())
        raise
    endings.begin(found.keys, found.close())


class Contexts:
    """Those of one build below ``place``, which goes at the end; ``names`` were announced.
    Directories by name.

    Errors of its methods: InvalidArgument for what is broken or leaves its root, ResourceExhausted.
    """

    def __init__(self, place: Path, names: Collection[str], kept: Kept, endings: Endings) -> None:
        self.spool = place / "spool"
        """For other files of the build."""
        self._home = place
        self._kept = kept
        self._endings = endings
        self._places = {name: place / f"{n}" for n, name in enumerate(sorted(names))}
        self._listed: dict[str, list[Entry]] = {}
        self._receiving: dict[str, Receiving] = {}
        self._archives: dict[str, BinaryIO] = {}
        self._whole = False

    def _place(self, name: str) -> Path:
        if name not in self._places:
            raise InvalidArgument(f"context {name!r}: was not announced")
        return self._places[name]

    async def listed(
        self, name: str, key: str, entries: list[Entry], *, last: bool
    ) -> list[int] | None:
        """Some of what is in a context; after the ``last`` of it, which files are wanted."""
        place = self._place(name)
        found = self._listed.setdefault(name, [])
        found += entries
        if not last:
            return None
        if name in self._receiving:
            raise InvalidArgument(f"context {name!r}: was listed twice")
        receiving = self._receiving[name] = Receiving(place, key, found)
        await self._endings.wait(key)
        return await _told(receiving.begin, self._kept)

    async def data(self, name: str, data: bytes) -> None:
        """The next bytes: of the files that were wanted, or of an archive."""
        place = self._place(name)
        if name in self._receiving:
            await _told(self._receiving[name].write, data)
            return
        archive = self._archives.get(name)
        if archive is None:
            archive = self._archives[name] = place.with_suffix(".tar").open("w+b")
        await _told(archive.write, data)

    async def whole(self) -> Mapping[str, Path]:
        """All has come: the directories by name. InvalidArgument."""
        for receiving in self._receiving.values():
            await _told(receiving.end)
        for name, archive in self._archives.items():
            await _told(archive.seek, 0)
            await _told(extracted, archive, self._places[name], name)
            self._places[name].with_suffix(".tar").unlink()
        for place in self._places.values():
            place.mkdir(exist_ok=True)
        self._whole = True
        return self._places

    @property
    def keys(self) -> frozenset[str]:
        """Of the directories."""
        return frozenset(receiving.key for receiving in self._receiving.values())

    async def close(self) -> None:
        """Keep what may be kept for the next build, and remove the rest."""
        for archive in self._archives.values():
            with suppress(OSError):  # what was not written does not fit: that has been told
                archive.close()
        for receiving in self._receiving.values():
            receiving.close()
            if self._whole:
                with suppress(OSError):  # on a full disk: the next time all of it is sent
                    await asyncio.to_thread(receiving.keep, self._kept)
        await asyncio.to_thread(shutil.rmtree, self._home)


async def _told(work: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
    """In a thread, with errors that say what they are about."""
    try:
        return await asyncio.to_thread(work, *args, **kwargs)
    except OSError as error:
        raise from_os_error("build context", error) from error


def extracted(archive: BinaryIO, place: Path, name: str) -> None:
    """A tar archive, packed or not, as the new directory ``place``. Blocks. InvalidArgument."""
    place.mkdir()
    if not archive.read(1):
        return
    archive.seek(0)
    try:
        with tarfile.open(fileobj=archive, mode="r:*") as tar:
            tar.extractall(place, filter=_plain)
    except (tarfile.TarError, EOFError) as error:
        raise InvalidArgument(f"context {name or 'archive'}: {error}") from error


def _plain(member: tarfile.TarInfo, place: str) -> tarfile.TarInfo | None:
    """Nothing outside the root, nobody's but root's; modes and links stay what they are.

    But hard links: one to a file of the host's would give it away, and its mode to the archive.
    """
    checked = tarfile.tar_filter(member, place)
    if member.islnk():
        root = Path(place).resolve()
        target = (root / member.linkname).resolve()
        if not target.is_relative_to(root):
            raise tarfile.LinkOutsideDestinationError(member, os.fspath(target))
    return checked.replace(mode=member.mode, uid=0, gid=0, uname="root", gname="root", deep=False)
