"""The way out: blobs and manifests into a registry (distribution-spec 1.1: push)."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from io import FileIO
from pathlib import Path
from urllib.parse import quote, urljoin, urlsplit

from cored.abc.values import Descriptor
from cored.engine.registry.answers import Answer, Broken, TooLarge, WrongOffset
from cored.engine.registry.client import ACCEPT
from cored.engine.registry.hosts import Host
from cored.engine.registry.session import Call, Session
from cored.errors import (
    Cancelled,
    CoredError,
    FailedPrecondition,
    NotFound,
    Unavailable,
)

__all__ = ["Uploads"]

_PUSH = "pull,push"
# more than this goes by PATCH, which registries keep the beginning of when it breaks
_WHOLE = 4 << 20
_CHUNK, _SMALLEST = 16 << 20, 1 << 20  # where a registry does not take a blob in one piece
_RANGE = re.compile(r"(?:bytes=)?(\d+)-(\d+)")
_BINARY = {"Content-Type": "application/octet-stream"}


@dataclass(slots=True)
class _Upload:
    """One upload under way: where it goes on, and how much the registry has."""

    host: Host
    place: str
    offset: int = 0
    chunk: int = 0
    """Bytes of one request; 0 is all that is left."""
    least: int = 0
    """The fewest that the registry takes."""


class Uploads:
    """Pushes into one repository, as one user."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def has(self, target: Descriptor, *, manifest: bool = False) -> bool:
        """Whether the repository has a blob, or a manifest."""
        path = f"/{'manifests' if manifest else 'blobs'}/{target.digest}"
        headers = {"Accept": f"{target.media_type}, {ACCEPT}"} if manifest else {}
        try:
            await self._send(Call("HEAD", path, headers))
        except NotFound:
            return False
        return True

    async def manifest(self, target: Descriptor, data: bytes, name: str) -> Answer:
        """Put a manifest or index under ``name``, a tag or its digest."""
        answer = await self._send(
            Call(
                "PUT",
                f"/manifests/{name}",
                {"Content-Type": target.media_type, "Content-Length": str(len(data))},
                lambda: data,
                good=(200, 201, 202),
                what=f"manifest {name}",
            )
        )
        _stored(answer, target.digest)
        return answer

    async def blob(
        self,
        target: Descriptor,
        path: Path,
        told: Callable[[int], None],
        sources: Sequence[str] = (),
    ) -> bool:
        """Upload the file ``path`` as a blob; ``told`` hears, in a thread, how many bytes went.

        ``sources`` are repositories of the same registry that may have it: False when one did, and
        nothing was sent. What breaks goes on from where the registry got to.
        """
        upload = await self._begun(target, sources)
        if upload is None:
            return False
        gone = threading.Event()
        try:
            await self._run(upload, target, path, told, gone)
        except BaseException as error:
            gone.set()
            if not isinstance(error, asyncio.CancelledError):
                with suppress(CoredError):  # the registry would find out by itself, some day
                    await self._send(
                        Call("DELETE", upload.place, good=(204, 202), attempts=1), upload
                    )
            raise
        return True

    async def _run(
        self,
        upload: _Upload,
        target: Descriptor,
        path: Path,
        told: Callable[[int], None],
        gone: threading.Event,
    ) -> None:
        failures = 0
        while upload.offset <= target.size:
            before = upload.offset
            try:
                await self._piece(upload, target, path, told, gone)
                failures = 0
                continue
            except TooLarge as caught:
                error: CoredError = caught
                refused = min(upload.chunk or target.size, target.size)
                smaller = max(min(refused // 4, _CHUNK), upload.least, _SMALLEST)
                if smaller >= refused:
                    raise
                upload.chunk = smaller
            except (Unavailable, WrongOffset) as caught:
                error = caught
            await self._recovered(upload, target)
            failures = 0 if upload.offset > before else failures + 1
            if failures >= self._session.settings.attempts:
                raise error
            await asyncio.sleep(0.2 * 2**failures)

    async def _piece(
        self,
        upload: _Upload,
        target: Descriptor,
        path: Path,
        told: Callable[[int], None],
        gone: threading.Event,
    ) -> None:
        """Send what one request takes; after the last one the offset is beyond the size."""
        what = f"blob {target.digest}"
        left = target.size - upload.offset
        count = min(upload.chunk or left, left)
        last = count == left
        headers = {**_BINARY, "Content-Length": str(count)}

        def body() -> FileIO:
            return _Part(path, upload.offset, count, told, gone)

        if last and upload.offset == 0 and count <= _WHOLE:
            await self._close(upload, target, headers, body)
            return
        if count:
            headers["Content-Range"] = f"{upload.offset}-{upload.offset + count - 1}"
            answer = await self._send(
                Call(
                    "PATCH",
                    upload.place,
                    headers,
                    body,
                    good=(201, 202, 204),
                    resend=False,
                    what=what,
                ),
                upload,
            )
            upload.place = _location(answer) or upload.place
            upload.offset += count
        if last:
            await self._close(upload, target, {"Content-Length": "0"}, lambda: None)

    async def _close(
        self,
        upload: _Upload,
        target: Descriptor,
        headers: dict[str, str],
        body: Callable[[], FileIO | None],
    ) -> None:
        place = upload.place
        url = f"{place}{'&' if '?' in place else '?'}digest={quote(target.digest, safe='')}"
        answer = await self._send(
            Call(
                "PUT", url, headers, body,
                good=(200, 201, 204), resend=False, what=f"blob {target.digest}",
            ),
            upload,
        )  # fmt: skip
        _stored(answer, target.digest)
        upload.offset = target.size + 1

    async def _recovered(self, upload: _Upload, target: Descriptor) -> None:
        """Ask how far the registry got; a new upload where it knows nothing of this one."""
        if await self.has(target):  # all of it came, and the answer did not
            upload.offset = target.size + 1
            return
        call = Call("GET", upload.place, good=(204, 200, 202), what=f"blob {target.digest}")
        try:
            answer = await self._send(call, upload)
        except (NotFound, FailedPrecondition):
            end = 0
        else:
            upload.place = _location(answer) or upload.place
            found = _RANGE.fullmatch(answer.headers.get("Range", ""))
            end = int(found[2]) if found else 0
        if 0 < end < target.size:
            upload.offset = end + 1
            return
        # "0-0" is what registries say of nothing, and of one byte
        fresh = _upload(await self._posted("", frozenset()))
        upload.place, upload.offset = fresh.place, 0

    async def _begun(self, target: Descriptor, sources: Sequence[str]) -> _Upload | None:
        """A new upload; None when a mount has made it unnecessary."""
        for source in sources:
            scopes = frozenset({f"repository:{source}:pull"})
            query = f"mount={quote(target.digest, safe='')}&from={quote(source, safe='')}"
            try:
                answer = await self._posted(f"?{query}", scopes)
            except CoredError as error:
                if isinstance(error, Broken):
                    raise
                continue  # no right to that repository, say: then there is no mount
            if answer.status == 201:
                return None
            return _upload(answer)  # 202: the registry would rather have it uploaded
        return _upload(await self._posted("", frozenset()))

    async def _posted(self, query: str, scopes: frozenset[str]) -> Answer:
        path = f"/blobs/uploads/{query}"
        headers = {"Content-Length": "0"}
        return await self._send(Call("POST", path, headers, good=(201, 202), scopes=scopes))

    async def _send(self, call: Call, upload: _Upload | None = None) -> Answer:
        call = replace(call, capability="push", actions=_PUSH)
        return await self._session.send(call, upload.host if upload else None)


class _Part(FileIO):
    """A part of a file, which tells how far it has been read; it ends early when all is over."""

    def __init__(
        self,
        path: Path,
        start: int,
        count: int,
        told: Callable[[int], None],
        gone: threading.Event,
    ) -> None:
        super().__init__(path)
        self.seek(start)
        self._end = start + count
        self._told = told
        self._gone = gone

    def read(self, size: int | None = -1) -> bytes:
        if self._gone.is_set():
            raise Cancelled("upload: given up")
        at = self.tell()
        left = self._end - at
        data = super().read(left if size is None or size < 0 else min(size, left)) or b""
        self._told(at + len(data))
        return data


def _upload(answer: Answer) -> _Upload:
    place = _location(answer)
    if not place:
        raise Unavailable(f"registry {answer.host.name}: began an upload without a place")
    least = answer.headers.get("OCI-Chunk-Min-Length", "")
    return _Upload(answer.host, place, least=int(least) if least.isdecimal() else 0)


def _location(answer: Answer) -> str:
    """Where an upload goes on; what is the same host stays on the same scheme."""
    location = answer.headers.get("Location", "")
    if not location:
        return ""
    url = urljoin(answer.url, location)
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https"):
        raise Unavailable(f"registry {answer.host.name}: an upload's place is no URL")
    if parts.netloc == answer.host.name:
        url = parts._replace(scheme=answer.host.scheme).geturl()
    return url


def _stored(answer: Answer, digest: str) -> None:
    """A registry that says what it stored must have stored this."""
    told = answer.headers.get("Docker-Content-Digest", "")
    if told and told != digest and told.partition(":")[0] == digest.partition(":")[0]:
        raise FailedPrecondition(
            f"registry {answer.host.name}: stored {digest} as {told}", hint="damaged on the way"
        )
