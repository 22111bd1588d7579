"""``<root>/blobs/<algorithm>/<hex>``; labels, where there are any, beside them in ``labels``."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path

from cored.abc.content import ContentStore, Info, Reader, Status, Writer
from cored.abc.values import Labels
from cored.errors import AlreadyExists, NotFound, Unavailable, from_os_error
from cored.filters import parse
from cored_content_local.ingest import LocalWriter, load_status, open_ingest, place_of
from cored_content_local.names import ALGORITHMS, blob_path, replace_file

__all__ = ["LocalContentStore"]


class _FileReader(Reader):
    """A blob's file."""

    def __init__(self, path: Path, file: int) -> None:
        self.size = os.fstat(file).st_size
        self._path = path
        self._file = file

    @property
    def path(self) -> Path:
        return self._path

    async def read_at(self, offset: int, count: int) -> bytes:
        if count <= 64 << 10:
            return os.pread(self._file, count, offset)
        return await asyncio.to_thread(os.pread, self._file, count, offset)

    async def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


class LocalContentStore(ContentStore):
    """A :class:`ContentStore` in a directory of its own; one process at a time."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._blobs = root / "blobs"
        self._open: set[str] = set()
        for name in ("blobs", "ingest", "labels"):
            (root / name).mkdir(mode=0o700, parents=True, exist_ok=True)

    async def info(self, digest: str) -> Info:
        path = blob_path(self._blobs, digest)
        try:
            return self._info(digest, path)
        except FileNotFoundError as error:
            raise NotFound(f"content {digest}: not found") from error

    async def update(
        self, digest: str, labels: Mapping[str, str | None], *, replace: bool = False
    ) -> Info:
        old = await self.info(digest)
        kept = {**({} if replace else old.labels), **labels}
        self._label(digest, {key: value for key, value in kept.items() if value is not None})
        return await self.info(digest)

    async def walk(self, filters: Sequence[str] = ()) -> AsyncIterator[Info]:
        wanted = parse(filters).match
        for digest, path in await asyncio.to_thread(self._listed):
            try:
                info = self._info(digest, path)
            except FileNotFoundError:
                continue  # deleted since it was listed
            if wanted(_fields(info)):
                yield info

    async def delete(self, digest: str) -> None:
        path = blob_path(self._blobs, digest)
        try:
            path.unlink()
        except FileNotFoundError as error:
            raise NotFound(f"content {digest}: not found") from error
        blob_path(self._root / "labels", digest).unlink(missing_ok=True)

    async def reader(self, digest: str) -> Reader:
        path = blob_path(self._blobs, digest)
        try:
            return _FileReader(path, os.open(path, os.O_RDONLY | os.O_CLOEXEC))
        except FileNotFoundError as error:
            raise NotFound(f"content {digest}: not found") from error

    async def writer(self, ref: str, *, size: int = 0, expected: str = "") -> Writer:
        if expected and blob_path(self._blobs, expected).exists():
            raise AlreadyExists(f"content {expected}: already exists")
        if ref in self._open:
            raise Unavailable(f"content {ref!r}: another writer has it open", hint="try again")
        self._open.add(ref)
        try:
            opened = await asyncio.to_thread(open_ingest, self._root, ref, size, expected)
        except BaseException as error:
            self._open.discard(ref)
            if isinstance(error, OSError):
                raise from_os_error(f"content {ref!r}", error) from error
            raise
        return LocalWriter(self._root, opened, lambda: self._open.discard(ref), self._label)

    async def status(self, ref: str) -> Status:
        try:
            return load_status(place_of(self._root, ref))
        except FileNotFoundError as error:
            raise NotFound(f"ingest {ref!r}: not found") from error

    async def ingests(self, filters: Sequence[str] = ()) -> AsyncIterator[Status]:
        wanted = parse(filters).match
        for place in await asyncio.to_thread(lambda: sorted((self._root / "ingest").iterdir())):
            try:
                status = load_status(place)
            except FileNotFoundError:
                continue  # just begun, or just ended
            if wanted(lambda path, s=status: s.ref if path == ("ref",) else None):  # type: ignore[misc]
                yield status

    async def abort(self, ref: str) -> None:
        if ref in self._open:
            raise Unavailable(f"content {ref!r}: a writer has it open", hint="try again")
        try:
            await asyncio.to_thread(shutil.rmtree, place_of(self._root, ref))
        except FileNotFoundError as error:
            raise NotFound(f"ingest {ref!r}: not found") from error

    def _listed(self) -> list[tuple[str, Path]]:
        return [
            (f"{algorithm}:{path.name}", path)
            for algorithm in ALGORITHMS
            if (self._blobs / algorithm).is_dir()
            for path in sorted((self._blobs / algorithm).iterdir())
        ]

    def _info(self, digest: str, path: Path) -> Info:
        status = path.stat()
        try:
            labels = json.loads(blob_path(self._root / "labels", digest).read_text())
        except FileNotFoundError:
            labels = {}
        return Info(digest, status.st_size, labels, status.st_mtime_ns, status.st_ctime_ns)

    def _label(self, digest: str, labels: Labels) -> None:
        replace_file(blob_path(self._root / "labels", digest), json.dumps(dict(labels)))


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
