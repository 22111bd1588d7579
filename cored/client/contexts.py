"""Directories as contexts for the builder, without what .dockerignore leaves out."""

from __future__ import annotations

import hashlib
import os
import socket
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cored.errors import InvalidArgument, NotFound

if TYPE_CHECKING:
    from cored_service_build.dockerfile.ignore import Ignore

    from cored._pb.cored.build.v1 import build_pb2 as pb

__all__ = ["ContextDirectory", "dockerignore", "ignore_of"]

_CHUNK = 256 << 10


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


@dataclass(slots=True)
class ContextDirectory:
    """The files below ``root`` as the context ``name``; they will belong to root."""

    name: str
    root: Path
    ignore: Ignore
    _listing: Sequence[pb.ContextFile] = ()

    @property
    def key(self) -> str:
        """The same for the same directory of the same machine."""
        place = f"{socket.gethostname()}\0{self.root.resolve()}"
        return hashlib.sha256(os.fsencode(place)).hexdigest()[:32]

    def listing(self) -> Sequence[pb.ContextFile]:
        """Parents first, by name. NotFound."""
        from cored._pb.cored.build.v1 import build_pb2 as pb

        if not self.root.is_dir():
            raise NotFound(f"context {str(self.root)!r}: no such directory")
        found = []
        for path, place, status in _walk(self.root, "", self.ignore):
            mode = status.st_mode
            link = b""
            if stat.S_ISLNK(mode):
                link = os.fsencode(Path(place).readlink())
            elif not stat.S_ISDIR(mode) and not stat.S_ISREG(mode):
                continue  # sockets, devices and pipes are of no use in an image
            # what was written has another ctime, whatever its mtime was set to
            stamp = b"%d %d" % (status.st_ctime_ns, status.st_ino)
            size = status.st_size if stat.S_ISREG(mode) else 0
            modified = status.st_mtime_ns
            found.append(
                pb.ContextFile(
                    path=os.fsencode(path),
                    mode=mode,
                    link=link,
                    stamp=stamp,
                    size=size,
                    modified_at=modified,
                )
            )
        self._listing = found
        return found

    def contents(self, wanted: Sequence[int]) -> Iterator[bytes]:
        """Of these files of the listing, one after the other. InvalidArgument."""
        pending = bytearray()
        for number in wanted:
            entry = self._listing[number]
            for data in _body(self.root / os.fsdecode(entry.path), entry.size):
                pending += data
                if len(pending) >= _CHUNK:
                    yield bytes(pending)
                    pending.clear()
        if pending:
            yield bytes(pending)


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


def _body(place: Path, size: int) -> Iterator[bytes]:
    left = size
    with open(place, "rb", buffering=0) as file:
        while left and (data := file.read(min(left, _CHUNK))):
            left -= len(data)
            yield data
    if left:
        raise InvalidArgument(f"context: {str(place)!r} became shorter while it was read")
