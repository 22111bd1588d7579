"""cp: docker's rules of what lands where, and tars on their way."""

from __future__ import annotations

import io
import os
import stat
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from queue import Queue
from threading import Thread
from typing import TYPE_CHECKING, BinaryIO, cast

from cored.errors import CoredError, InvalidArgument, NotFound

if TYPE_CHECKING:
    from corectl.session import Session

__all__ = ["from_container", "into_container", "place"]

_BLOCK = 256 << 10


def place(text: str) -> tuple[str, str] | None:
    """Container and path of ``CONTAINER:PATH``; None for a path of ours."""
    if text.startswith(("/", ".")) or ":" not in text:
        return None
    container, _, path = text.partition(":")
    return container, path or "/"


def from_container(
    session: Session, container: str, path: str, target: str, *, follow: bool, owners: bool
) -> None:
    """Copy out. NotFound, InvalidArgument."""
    entry, pieces = session.workloads.copy_out(container, path, follow=follow)
    if target == "-":
        for piece in pieces:
            sys.stdout.buffer.write(piece)
        return
    there = Path(target)
    tree = stat.S_ISDIR(entry.mode)
    parent, name = _landing(
        path, entry.name, tree, str(there), there.exists(), there.is_dir(), target.endswith("/")
    )
    if not Path(parent).is_dir():
        raise NotFound(f"directory '{parent}': not found")
    _unpack(pieces, entry.name, name, Path(parent), owners=owners)


def into_container(
    session: Session, source: str, container: str, path: str, *, follow: bool, owners: bool
) -> None:
    """Copy in. NotFound, InvalidArgument."""
    from cored._pb.cored.workloads.v1 import volumes_pb2 as pb

    workloads = session.workloads
    if source == "-":
        options = pb.CopyInOptions(container=container, path=path, archive=True)
        workloads.copy_in(options, iter(lambda: sys.stdin.buffer.read(_BLOCK), b""))
        return
    ours = Path(source)
    status = ours.stat() if follow or source.endswith("/") else ours.lstat()
    there = None
    try:
        there = workloads.stat(container, path)
        if stat.S_ISLNK(there.mode):
            there = workloads.stat(container, f"{path.rstrip('/')}/.")
    except (NotFound, InvalidArgument):
        # nothing there; or a link to a file, which is replaced
        pass
    tree = stat.S_ISDIR(status.st_mode)
    name = ours.name if ours.name not in ("", "..") else ours.resolve().name
    parent, landing = _landing(
        source, name, tree, path.rstrip("/") or "/", there is not None,
        there is not None and stat.S_ISDIR(there.mode), path.endswith("/"),
    )  # fmt: skip
    options = pb.CopyInOptions(container=container, path=parent, archive=owners)
    workloads.copy_in(options, _packed(ours, landing, follow=follow, owners=owners))


def _landing(
    source: str, name: str, tree: bool, target: str, exists: bool, is_dir: bool, slash: bool
) -> tuple[str, str]:
    """The directory to unpack in, and what the thing is called there ('.': its contents)."""
    if exists and is_dir:
        contents = tree and (source.endswith("/.") or source in (".", "/") or name == ".")
        return target, "." if contents else name
    if exists and tree:
        raise InvalidArgument(f"cp: '{target}' is a file, and a directory is to go there")
    if exists and slash:
        raise InvalidArgument(f"cp: '{target}' is not a directory")
    if not exists and slash and not tree:
        raise NotFound(f"directory '{target}': not found")
    parent, _, last = target.rpartition("/")
    return parent or ("/" if target.startswith("/") else "."), last


def _unpack(pieces: Iterator[bytes], old: str, new: str, parent: Path, *, owners: bool) -> None:
    """Unpack a tar with its first name replaced."""
    reader = cast(BinaryIO, io.BufferedReader(_Pieces(pieces), _BLOCK))
    directories = []
    with tarfile.open(fileobj=reader, mode="r|") as archive:
        for member in archive:
            member.name = _renamed(member.name, old, new)
            if member.islnk():
                member.linkname = _renamed(member.linkname, old, new)
            if member.name == "..":
                raise InvalidArgument("cp: the daemon sent a path that leads out")
            if not owners or os.geteuid() != 0:
                member.uid, member.gid = os.geteuid(), os.getegid()
            member.uname = member.gname = ""
            target = parent / member.name
            if not member.isdir() and target.is_symlink():
                target.unlink()
            if member.isdir():
                directories.append(member)
                mode, member.mode = member.mode, 0o700
                archive.extract(member, parent, numeric_owner=True, filter="tar")
                member.mode = mode
            else:
                archive.extract(member, parent, numeric_owner=True, filter="tar")
    for member in reversed(directories):
        (parent / member.name).chmod(member.mode & 0o7777)
        os.utime(parent / member.name, (member.mtime, member.mtime))
    for _ in iter(lambda: reader.read(_BLOCK), b""):
        continue  # to the end, where an error would be


def _renamed(name: str, old: str, new: str) -> str:
    rest = name[len(old) :].lstrip("/") if name == old or name.startswith(f"{old}/") else name
    return f"{new}/{rest}" if rest else new


class _Pieces(io.RawIOBase):
    """A file of what an iterator yields."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._rest = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        view = memoryview(cast(bytearray, buffer))
        while not self._rest:
            piece = next(self._pieces, None)
            if piece is None:
                return 0
            self._rest = piece
        count = min(len(view), len(self._rest))
        view[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count


def _packed(source: Path, name: str, *, follow: bool, owners: bool) -> Iterator[bytes]:
    """A tar of a path of ours under another name, made as it is sent. OSError."""
    queue: Queue[bytes | BaseException | None] = Queue(8)
    thread = Thread(target=_produce, args=(queue, source, name, follow, owners), daemon=True)
    thread.start()
    while True:
        piece = queue.get()
        if piece is None:
            return
        if isinstance(piece, BaseException):
            raise piece
        yield piece


def _produce(
    queue: Queue[bytes | BaseException | None], source: Path, name: str, follow: bool, owners: bool
) -> None:
    def prepared(member: tarfile.TarInfo) -> tarfile.TarInfo:
        if not owners:
            member.uid = member.gid = 0
        member.uname = member.gname = ""
        return member

    try:
        top = source.resolve() if follow else source
        with tarfile.open(
            fileobj=cast(BinaryIO, _Queued(queue)), mode="w|", format=tarfile.PAX_FORMAT
        ) as archive:
            archive.add(top, name, filter=prepared)
    except (OSError, CoredError) as error:
        queue.put(error)
    else:
        queue.put(None)


class _Queued:
    def __init__(self, queue: Queue[bytes | BaseException | None]) -> None:
        self._queue = queue

    def write(self, data: bytes) -> int:
        self._queue.put(bytes(data))
        return len(data)
