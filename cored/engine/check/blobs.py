"""One blob against its records and its digest."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Sequence

from cored.abc.content import ContentStore, Reader
from cored.errors import CoredError, NotFound
from cored.metadata.inventory import BlobRow

__all__ = ["wrong"]

_CHUNK = 1 << 20


async def wrong(content: ContentStore, digest: str, rows: Sequence[BlobRow]) -> str:
    """What is wrong with a blob of the backend ``content``; '' for nothing."""
    try:
        async with await content.reader(digest) as reader:
            for row in rows:
                if row.size != reader.size:
                    return f"has {reader.size} bytes, its record says {row.size}"
            algorithm = digest.partition(":")[0]
            found = f"{algorithm}:{await _hashed(reader, algorithm)}"
    except NotFound:
        return "is missing"
    except CoredError as error:  # the disk refuses to read it
        return f"cannot be read: {error.message}"
    return "" if found == digest else f"has the digest {found}"


async def _hashed(reader: Reader, algorithm: str) -> str:
    """In hexadecimal. A local file is read by one thread; hashing lets others run meanwhile."""
    if reader.path is not None:
        path = reader.path

        def work() -> str:
            with path.open("rb", buffering=0) as file:
                return hashlib.file_digest(file, algorithm).hexdigest()

        return await _read(work, str(path))
    hasher, offset = hashlib.new(algorithm), 0
    while data := await reader.read_at(offset, _CHUNK):
        hasher.update(data)
        offset += len(data)
    return hasher.hexdigest()


async def _read(work: Callable[[], str], what: str) -> str:
    from cored.errors import from_os_error

    try:
        return await asyncio.to_thread(work)
    except OSError as error:
        raise from_os_error(what, error) from error
