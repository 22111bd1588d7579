"""The store itself: what is asked of it, handed to files; big reads and writes go to threads."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from cored.abc.content import ContentStore, Info, Reader, Status, Writer
from cored.errors import AlreadyExists, InvalidArgument, NotFound, Unavailable, from_os_error
from cored.filters import parse
from cored_content_local.blobs import Blobs
from cored_content_local.ingest import Ingests, OpenIngest
from cored_content_local.writer import LocalWriter

__all__ = ["LocalContentStore"]

T = TypeVar("T")
_DIRECT = 64 << 10


class _FileReader(Reader):
    """A blob's file."""

    def __init__(self, digest: str, path: Path, file: int) -> None:
        self.size = os.fstat(file).st_size
        self._digest = digest
        self._path = path
        self._file = file

    @property
    def path(self) -> Path:
        return self._path

    async def read_at(self, offset: int, count: int) -> bytes:
        if offset < 0 or count < 0:
            raise InvalidArgument(f"content {self._digest}: {count} bytes from {offset}: negative")
        try:
            if count <= _DIRECT:
                return os.pread(self._file, count, offset)
            return await asyncio.to_thread(os.pread, self._file, count, offset)
        except OSError as error:
            raise from_os_error(f"content {self._digest}", error) from error

    async def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


class LocalContentStore(ContentStore):
    """A :class:`ContentStore` in a directory of its own. Made in a thread: it touches files."""

    def __init__(self, root: Path) -> None:
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._blobs = Blobs(root)
        self._ingests = Ingests(root / "ingest")
        self._busy: set[str] = set()
        """The refs that a writer has open, or that are being aborted."""

    async def info(self, digest: str) -> Info:
        return self._blobs.info(digest)

    async def update(
        self, digest: str, labels: Mapping[str, str | None], *, replace: bool = False
    ) -> Info:
        def work() -> Info:
            return self._blobs.relabel(digest, labels, replace=replace)

        return await _aside(f"content {digest}", work)

    async def walk(self, filters: Sequence[str] = ()) -> AsyncIterator[Info]:
        wanted = parse(filters).match
        for digest in await asyncio.to_thread(self._blobs.listed):
            try:
                info = self._blobs.info(digest)
            except NotFound:
                continue  # deleted since it was listed
            if wanted(_fields(info)):
                yield info

    async def delete(self, digest: str) -> None:
        await _aside(f"content {digest}", lambda: self._blobs.delete(digest))

    async def reader(self, digest: str) -> Reader:
        path = self._blobs.path(digest)
        try:
            return _FileReader(digest, path, os.open(path, os.O_RDONLY | os.O_CLOEXEC))
        except OSError as error:
            if isinstance(error, FileNotFoundError):
                raise NotFound(f"content {digest}: not found") from error
            raise from_os_error(f"content {digest}", error) from error

    async def writer(self, ref: str, *, size: int = 0, expected: str = "") -> Writer:
        if not ref:
            raise InvalidArgument("ingest ref: must not be empty")
        if expected and self._blobs.path(expected).exists():
            raise AlreadyExists(f"content {expected}: already exists")
        self._take(ref)
        opening = asyncio.ensure_future(
            asyncio.to_thread(self._ingests.open, ref, size=size, expected=expected)
        )
        try:
            ingest = await asyncio.shield(opening)
        except asyncio.CancelledError:
            # the thread opens it all the same
            opening.add_done_callback(lambda done: self._abandoned(ref, done))
            raise
        except BaseException as error:
            self._busy.discard(ref)
            if isinstance(error, OSError):
                raise from_os_error(f"ingest {ref!r}", error) from error
            raise
        return LocalWriter(ingest, self._blobs, lambda: self._busy.discard(ref))

    async def status(self, ref: str) -> Status:
        status = self._ingests.find(ref)
        if status is None:
            raise NotFound(f"ingest {ref!r}: not found")
        return status

    async def ingests(self, filters: Sequence[str] = ()) -> AsyncIterator[Status]:
        wanted = parse(filters).match
        for status in await asyncio.to_thread(self._ingests.all):
            if wanted(lambda path, s=status: s.ref if path == ("ref",) else None):  # type: ignore[misc]
                yield status

    async def abort(self, ref: str) -> None:
        self._take(ref)
        removing = asyncio.ensure_future(
            _aside(f"ingest {ref!r}", lambda: self._ingests.remove(ref))
        )
        # the ref stays taken until the files are gone, also when the caller leaves
        removing.add_done_callback(lambda _: self._busy.discard(ref))
        await asyncio.shield(removing)

    def _take(self, ref: str) -> None:
        if ref in self._busy:
            raise Unavailable(f"ingest {ref!r}: another writer has it open", hint="try again")
        self._busy.add(ref)

    def _abandoned(self, ref: str, opening: asyncio.Future[OpenIngest]) -> None:
        if not opening.cancelled() and opening.exception() is None:
            opening.result().close()
        self._busy.discard(ref)


async def _aside(subject: str, work: Callable[[], T]) -> T:
    try:
        return await asyncio.to_thread(work)
    except OSError as error:
        raise from_os_error(subject, error) from error


def _fields(info: Info) -> Callable[[tuple[str, ...]], str | None]:
    def value(path: tuple[str, ...]) -> str | None:
        match path:
            case ("digest",):
                return info.digest
            case ("size",):
                return str(info.size)
            case ("labels", *rest):
                return info.labels.get(".".join(rest))
            case _:
                return None

    return value
