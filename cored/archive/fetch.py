"""A blob's bytes in order, from a local file or over HTTP into an ingest's file."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from cored.archive.jobs import Source
from cored.errors import (
    CoredError,
    FailedPrecondition,
    NotFound,
    PermissionDenied,
    Unavailable,
)

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse, PoolManager

__all__ = ["fetched"]

_CHUNK = 256 << 10
_ATTEMPTS = 3  # in a row that brought nothing


def fetched(source: Source, size: int, what: str) -> Iterator[bytes]:
    """All bytes of the blob ``what`` of ``size`` bytes (0: unknown), written to the file as well.

    NotFound, PermissionDenied (401, 403) and Unavailable are the server's; FailedPrecondition when
    there is more or less than ``size``. What came stays in the file, for the next attempt.
    """
    if not source.url:
        yield from _local(source.path, size, what)
        return
    fd = os.open(source.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        yield from _resumed(fd, source, size, what)
    finally:
        os.close(fd)


def _local(path: str, size: int, what: str) -> Iterator[bytes]:
    total = 0
    with open(path, "rb", buffering=0) as blob:
        while chunk := blob.read(_CHUNK):
            total += len(chunk)
            yield chunk
    if size and total != size:
        raise FailedPrecondition(f"{what}: {total} bytes, the descriptor says {size}")


def _resumed(fd: int, source: Source, size: int, what: str) -> Iterator[bytes]:
    from urllib3 import Retry
    from urllib3.exceptions import HTTPError

    at = min(source.offset, os.fstat(fd).st_size)
    os.ftruncate(fd, at)
    for start in range(0, at, _CHUNK):
        yield os.pread(fd, min(_CHUNK, at - start), start)
    os.lseek(fd, at, os.SEEK_SET)
    # whoever a registry sends us to gets none of the headers meant for the registry
    retry = Retry(
        connect=0, read=0, redirect=8, status=0,
        remove_headers_on_redirect=[name for name, _ in source.headers],
    )  # fmt: skip
    failures = 0
    with _pool(source) as pool:
        while not size or at < size:
            before = at
            try:
                with _asked(pool, source, at, retry, what) as response:
                    for chunk in _body(response, at):
                        at += len(chunk)
                        if size and at > size:
                            raise FailedPrecondition(
                                f"{what}: the server sends more than the {size} bytes announced"
                            )
                        _write(fd, chunk)
                        yield chunk
                if not size:
                    return
                cause: Exception | None = None
            except (HTTPError, Unavailable) as error:
                cause = error
            failures = 1 if at > before else failures + 1
            if (at < size and failures >= _ATTEMPTS) or (cause and not size):
                if isinstance(cause, CoredError):
                    raise cause
                raise Unavailable(
                    f"{what}: {at} of {size} bytes came: {cause or 'the server ended early'}",
                    hint="try again: what came is kept",
                ) from cause


def _pool(source: Source) -> PoolManager:
    from urllib3 import PoolManager, Timeout

    timeout = Timeout(connect=min(source.timeout, 30.0), read=source.timeout)
    if source.insecure:
        import urllib3

        urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
        return PoolManager(
            timeout=timeout, cert_reqs="CERT_NONE", assert_hostname=False, num_pools=2
        )
    return PoolManager(timeout=timeout, ca_certs=source.ca_file or None, num_pools=2)


def _asked(
    pool: PoolManager, source: Source, at: int, retry: object, what: str
) -> BaseHTTPResponse:
    headers = {"Accept-Encoding": "identity", **dict(source.headers)}
    if at:
        headers["Range"] = f"bytes={at}-"
    response = pool.request(
        "GET", source.url, headers=headers, preload_content=False, decode_content=False,
        retries=retry,
    )  # fmt: skip
    status = response.status
    if status == 200 or (status == 206 and at):
        return response
    response.close()
    text = f"{what}: the registry answers {status} {response.reason or ''}".rstrip()
    if status in (401, 403):
        raise PermissionDenied(text, hint="log in, or check the credentials")
    if status in (404, 410):
        raise NotFound(text)
    if status in (408, 429) or status >= 500:
        raise Unavailable(text, hint="try again later")
    raise FailedPrecondition(text)


def _body(response: BaseHTTPResponse, at: int) -> Iterator[bytes]:
    """The body from byte ``at`` on; a server that ignores ranges sends the bytes before it too."""
    passed = at if response.status == 200 else 0
    while chunk := response.read(_CHUNK):
        if passed:
            rest = chunk[passed:]
            passed -= min(passed, len(chunk))
            chunk = rest
        if chunk:
            yield chunk


def _write(fd: int, chunk: bytes) -> None:
    data = memoryview(chunk)
    while (written := os.write(fd, data)) < len(data):
        data = data[written:]
