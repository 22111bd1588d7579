"""Contexts as they come from clients: tar archives, unpacked while the build lasts."""

from __future__ import annotations

import asyncio
import shutil
import tarfile
import tempfile
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import BinaryIO

from cored.errors import InvalidArgument, ResourceExhausted, from_os_error

__all__ = ["received"]


@asynccontextmanager
async def received(
    pieces: AsyncIterator[tuple[str, bytes]], names: Collection[str], spool: Path
) -> AsyncIterator[Mapping[str, Path]]:
    """Directories by name; ``pieces`` are (name, bytes) of their archives.

    InvalidArgument for an archive that is broken or leaves its root; ResourceExhausted.
    """
    place = Path(tempfile.mkdtemp(prefix="context-", dir=spool))
    try:
        yield await _unpacked(pieces, names, place)
    finally:
        await asyncio.shield(asyncio.to_thread(shutil.rmtree, place))


async def _unpacked(
    pieces: AsyncIterator[tuple[str, bytes]], names: Collection[str], place: Path
) -> dict[str, Path]:
    archives: dict[str, BinaryIO] = {}
    places = {name: place / f"{n}" for n, name in enumerate(sorted(names))}
    try:
        for name, directory in places.items():
            directory.mkdir()
            archives[name] = directory.with_suffix(".tar").open("w+b")
        async for name, data in pieces:
            if name not in archives:
                raise InvalidArgument(f"context {name!r}: was not announced")
            await asyncio.to_thread(archives[name].write, data)
        for name, archive in archives.items():
            archive.seek(0)
            await asyncio.to_thread(_extract, archive, places[name], name)
            places[name].with_suffix(".tar").unlink()
    except OSError as error:
        raise from_os_error("build context", error) from error
    finally:
        for archive in archives.values():
            try:
                archive.close()
            except OSError as error:  # what was not written yet does not fit
                raise ResourceExhausted("build context: no space left") from error
    return places


def _extract(archive: BinaryIO, place: Path, name: str) -> None:
    if not archive.read(1):
        return
    archive.seek(0)
    try:
        with tarfile.open(fileobj=archive, mode="r:") as tar:
            tar.extractall(place, filter=_kept)
    except tarfile.TarError as error:
        raise InvalidArgument(f"context {name or 'archive'}: {error}") from error


def _kept(member: tarfile.TarInfo, place: str) -> tarfile.TarInfo | None:
    """Nothing outside the root; modes and links stay what they are."""
    checked = tarfile.tar_filter(member, place)
    return checked.replace(mode=member.mode, deep=False)
