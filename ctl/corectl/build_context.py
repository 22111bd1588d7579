"""Directories as tar archives for the builder, without what .dockerignore leaves out."""

from __future__ import annotations

import os
import stat
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from cored.errors import InvalidArgument, NotFound

if TYPE_CHECKING:
    from cored_service_build.dockerfile.ignore import Ignore

__all__ = ["archive", "dockerignore", "ignore_of"]

_CHUNK = 256 << 10
_BLOCK = 512


def dockerignore(context: Path, dockerfile: Path | None) -> str:
    """The text of the file that counts: beside the Dockerfile under its name, or the context's."""
    own = dockerfile.with_name(f"{dockerfile.name}.dockerignore") if dockerfile else None
    for path in filter(None, (own, context / ".dockerignore")):
        if path.is_file():
            return path.read_text(errors="surrogateescape")
    return ""


def ignore_of(text: str) -> Ignore:
    """Its patterns. InvalidArgument names one that cannot be."""
    from cored_service_build.dockerfile.ignore import read

    try:
        return read(text)
    except ValueError as error:
        raise InvalidArgument(f".dockerignore: {error}") from error


def archive(root: Path, ignore: Ignore) -> Iterator[bytes]:
    """The tar archive, piece by piece; everything belongs to root. NotFound, InvalidArgument."""
    if not root.is_dir():
        raise NotFound(f"context {str(root)!r}: no such directory")
    pending = bytearray()
    for path, place, status in _walk(root, "", ignore):
        for data in _entry(path, place, status):
            pending += data
            if len(pending) >= _CHUNK:
                yield bytes(pending)
                pending.clear()
    yield bytes(pending) + bytes(2 * _BLOCK)


def _walk(root: Path, path: str, ignore: Ignore) -> Iterator[tuple[str, str, os.stat_result]]:
    with os.scandir(root / path) as entries:
        found = sorted(entries, key=lambda entry: entry.name)
    for entry in found:
        inner = f"{path}/{entry.name}" if path else entry.name
        status = entry.stat(follow_symlinks=False)
        left_out = ignore.ignored(inner)
        if not left_out:
            yield inner, entry.path, status
        if stat.S_ISDIR(status.st_mode) and not (left_out and ignore.prunable(inner)):
            yield from _walk(root, inner, ignore)


def _entry(path: str, place: str, status: os.stat_result) -> Iterator[bytes]:
    info = tarfile.TarInfo(path)
    info.mode = stat.S_IMODE(status.st_mode)
    info.mtime = status.st_mtime_ns / 1e9
    if stat.S_ISDIR(status.st_mode):
        info.type = tarfile.DIRTYPE
    elif stat.S_ISLNK(status.st_mode):
        info.type, info.linkname = tarfile.SYMTYPE, str(Path(place).readlink())
    elif stat.S_ISREG(status.st_mode):
        info.size = status.st_size
    else:
        return  # sockets, devices and pipes are of no use in an image
    yield info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
    if info.size:
        yield from _body(place, info.size)


def _body(place: str, size: int) -> Iterator[bytes]:
    left = size
    with open(place, "rb", buffering=0) as file:
        while left and (data := file.read(min(left, _CHUNK))):
            left -= len(data)
            yield data
    if left:
        raise InvalidArgument(f"context: {place!r} became shorter while it was read")
    yield bytes(-size % _BLOCK)
