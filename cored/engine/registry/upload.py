"""The way out: blobs and manifests into a registry (distribution-spec 1.1: push)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from io import BufferedReader, FileIO
from pathlib import Path
from urllib.parse import quote, urljoin

from cored.abc.values import Descriptor
from cored.engine.registry.access import Access
from cored.engine.registry.client import Registry, base
from cored.errors import NotFound, Unavailable
from cored.oci.reference import Reference

__all__ = ["Uploads"]


class Uploads:
    """Pushes into one repository, as one user. Requests run in threads."""

    def __init__(self, registry: Registry, reference: Reference, access: Access) -> None:
        self._registry = registry
        self._reference = reference
        self._access = access
        self._base = base(reference, access)
        self._scope = f"repository:{reference.path}:pull,push"

    async def has(self, target: Descriptor, *, manifest: bool = False) -> bool:
        """Whether the repository has a blob, or a manifest."""
        return await asyncio.to_thread(self._has, target, "manifests" if manifest else "blobs")

    async def blob(
        self,
        target: Descriptor,
        path: Path,
        told: Callable[[int], None],
        sources: Sequence[str] = (),
    ) -> None:
        """Upload the file ``path`` as a blob; ``told`` hears how many bytes have gone.

        ``sources`` are repositories of the same registry that may have it: a mount of theirs
        costs no upload.
        """
        await asyncio.to_thread(self._blob, target, path, told, sources)

    async def manifest(self, target: Descriptor, data: bytes, name: str) -> None:
        """Put a manifest or index under ``name``, a tag or its digest."""
        await asyncio.to_thread(self._manifest, target, data, name)

    def _has(self, target: Descriptor, kind: str) -> bool:
        url = f"{self._base}/{kind}/{target.digest}"
        headers = {"Accept": f"{target.media_type}, */*;q=0.1"} if kind == "manifests" else {}
        try:
            answer = self._registry.send(
                "HEAD", self._reference, url, self._access, headers=headers, scope=self._scope
            )
        except NotFound:
            return False
        answer.release_conn()
        return True

    def _blob(
        self,
        target: Descriptor,
        path: Path,
        told: Callable[[int], None],
        sources: Sequence[str],
    ) -> None:
        location = self._begin(target, sources)
        if location is None:
            told(target.size)
            return
        url = f"{location}{'&' if '?' in location else '?'}digest={quote(target.digest, safe='')}"
        headers = {
            "Content-Type": "application/octet-stream",
            "Content-Length": str(target.size),
        }
        with _Told(path, told) as body:
            answer = self._registry.send(
                "PUT", self._reference, url, self._access,
                headers=headers, body=body, scope=self._scope, good=(201, 204),
            )  # fmt: skip
        answer.drain_conn()

    def _begin(self, target: Descriptor, sources: Sequence[str]) -> str | None:
        """Where to upload to; None when a mount has made it unnecessary."""
        for source in sources:
            scope = f"{self._scope} repository:{source}:pull"
            query = f"mount={quote(target.digest, safe='')}&from={quote(source, safe='')}"
            answer = self._post(query, scope)
            if answer[0] == 201:
                return None
            return answer[1]  # 202: the registry would rather have it uploaded
        return self._post("", self._scope)[1]

    def _post(self, query: str, scope: str) -> tuple[int, str]:
        url = f"{self._base}/blobs/uploads/{'?' if query else ''}{query}"
        answer = self._registry.send(
            "POST", self._reference, url, self._access,
            headers={"Content-Length": "0"}, scope=scope, good=(201, 202),
        )  # fmt: skip
        answer.drain_conn()
        location = answer.headers.get("Location", "")
        if answer.status == 202 and not location:
            raise Unavailable(f"registry {self._reference.host}: began an upload without a place")
        return answer.status, urljoin(url, location)

    def _manifest(self, target: Descriptor, data: bytes, name: str) -> None:
        answer = self._registry.send(
            "PUT", self._reference, f"{self._base}/manifests/{name}", self._access,
            headers={"Content-Type": target.media_type}, body=data,
            scope=self._scope, good=(201, 202, 200),
        )  # fmt: skip
        answer.drain_conn()


class _Told(BufferedReader):
    """A file that tells how much of it has been read."""

    def __init__(self, path: Path, told: Callable[[int], None]) -> None:
        super().__init__(FileIO(path))
        self._told = told

    def read(self, size: int | None = -1) -> bytes:
        data = super().read(size)
        self._told(self.tell())
        return data
