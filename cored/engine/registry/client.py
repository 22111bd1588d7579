"""One client for all registries (distribution-spec 1.1: pull)."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Container, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import IO

import urllib3

from cored.abc.values import Descriptor
from cored.engine.registry.access import ANONYMOUS, Access
from cored.engine.registry.auth import Tokens
from cored.errors import (
    CoredError,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    Unavailable,
)
from cored.oci import digest as digests
from cored.oci import mediatypes
from cored.oci.reference import Reference

__all__ = ["Registry", "Resolved", "base", "pull_scope"]

_ACCEPT = ", ".join(
    sorted({*mediatypes.INDEXES, *mediatypes.MANIFESTS, *mediatypes.SCHEMA_1, "*/*;q=0.1"})
)
_LARGEST = 8 << 20
_LOOPBACK = re.compile(r"(localhost|127(\.\d+){3}|\[::1\])(:\d+)?")
_RETRIES = urllib3.Retry(
    total=4,
    connect=2,
    read=2,
    redirect=5,
    status=4,
    backoff_factor=0.3,
    status_forcelist=(429, 500, 502, 503, 504),
    respect_retry_after_header=True,
    raise_on_status=False,
    remove_headers_on_redirect=("Authorization",),
)


@dataclass(frozen=True, slots=True)
class Resolved:
    """What a reference points to: the manifest or index, whole."""

    descriptor: Descriptor
    data: bytes


class Registry:
    """Fetches manifests, and tells others where blobs are. Requests run in threads."""

    def __init__(self) -> None:
        self._http = urllib3.PoolManager(
            retries=_RETRIES,
            timeout=urllib3.Timeout(connect=10, read=60),
            maxsize=8,
            blocksize=1 << 18,
        )
        self._tokens = Tokens(self._http)

    @classmethod
    @asynccontextmanager
    async def opened(cls) -> AsyncIterator[Registry]:
        """A client whose connections close with the body."""
        registry = cls()
        try:
            yield registry
        finally:
            registry._http.clear()

    async def resolve(self, reference: Reference, access: Access = ANONYMOUS) -> Resolved:
        """The manifest or index that a reference names. NotFound; Unavailable; PermissionDenied."""
        return await asyncio.to_thread(self._manifest, reference, reference.target, access, None)

    async def fetch(
        self, reference: Reference, wanted: Descriptor, access: Access = ANONYMOUS
    ) -> bytes:
        """A manifest by its descriptor, checked against it."""
        found = await asyncio.to_thread(self._manifest, reference, wanted.digest, access, wanted)
        return found.data

    async def blob(
        self, reference: Reference, wanted: Descriptor, access: Access = ANONYMOUS
    ) -> bytes:
        """A small blob (an image's config), checked against its descriptor."""
        return await asyncio.to_thread(self._blob, reference, wanted, access)

    async def source(
        self, reference: Reference, wanted: Descriptor, access: Access = ANONYMOUS
    ) -> tuple[str, Mapping[str, str]]:
        """URL and headers with which a blob can be had right now."""
        if mediatypes.is_foreign(wanted.media_type) and wanted.urls:
            return wanted.urls[0], {}
        url = f"{base(reference, access)}/blobs/{wanted.digest}"
        header = self._tokens.header(reference.host, pull_scope(reference), access)
        return url, {**access.headers, **({"Authorization": header} if header else {})}

    def _manifest(
        self, reference: Reference, target: str, access: Access, wanted: Descriptor | None
    ) -> Resolved:
        url = f"{base(reference, access)}/manifests/{target}"
        answer = self.send("GET", reference, url, access, headers={"Accept": _ACCEPT})
        data = self._body(reference, answer, wanted.size if wanted else 0)
        media_type = answer.headers.get("Content-Type", "").partition(";")[0].strip()
        told = wanted.digest if wanted else reference.digest
        digest = told or answer.headers.get("Docker-Content-Digest") or digests.of(data)
        _check(reference, data, digests.check(digest), wanted.size if wanted else len(data))
        if wanted is not None:
            media_type = wanted.media_type or media_type
        if media_type not in mediatypes.INDEXES | mediatypes.MANIFESTS | mediatypes.SCHEMA_1:
            media_type = _declared(data)
        return Resolved(Descriptor(media_type, digest, len(data)), data)

    def _blob(self, reference: Reference, wanted: Descriptor, access: Access) -> bytes:
        url = f"{base(reference, access)}/blobs/{wanted.digest}"
        answer = self.send("GET", reference, url, access)
        data = self._body(reference, answer, wanted.size)
        _check(reference, data, wanted.digest, wanted.size)
        return data

    def send(
        self,
        method: str,
        reference: Reference,
        url: str,
        access: Access,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | IO[bytes] | None = None,
        scope: str = "",
        good: Container[int] = (200,),
    ) -> urllib3.BaseHTTPResponse:
        """One request in the calling thread, authorised when the registry asks for it.

        A status that is not in ``good`` is raised as what it means. The caller reads or releases
        the answer's body. A ``body`` that is a file is sent again from where it stood.
        """
        scope = scope or pull_scope(reference)
        sent = {"User-Agent": "cored", **access.headers, **(headers or {})}
        start = body.tell() if body is not None and not isinstance(body, bytes) else 0
        header = self._tokens.header(reference.host, scope, access)
        answer = self._request(method, reference, url, sent, header, body)
        if answer.status == 401:
            challenge = answer.headers.get("WWW-Authenticate", "")
            answer.drain_conn()
            plain = url.startswith("http://")
            header = self._tokens.answer(reference.host, scope, access, challenge, plain)
            if body is not None and not isinstance(body, bytes):
                body.seek(start)
            answer = self._request(method, reference, url, sent, header, body)
        if answer.status not in good:
            error = _error(reference, answer)
            answer.release_conn()
            raise error
        return answer

    def _request(
        self,
        method: str,
        reference: Reference,
        url: str,
        headers: dict[str, str],
        authorization: str | None,
        body: bytes | IO[bytes] | None,
    ) -> urllib3.BaseHTTPResponse:
        sent = {**headers, **({"Authorization": authorization} if authorization else {})}
        try:
            return self._http.request(method, url, headers=sent, body=body, preload_content=False)
        except urllib3.exceptions.HTTPError as error:
            raise Unavailable(
                f"registry {reference.host}: cannot be reached: {_reason(error)}",
                hint="check its name and the network",
            ) from error

    def _body(self, reference: Reference, answer: urllib3.BaseHTTPResponse, size: int) -> bytes:
        limit = size or _LARGEST
        try:
            data = bytes(answer.read(min(limit, _LARGEST) + 1, decode_content=False))
        except urllib3.exceptions.HTTPError as error:
            raise Unavailable(
                f"registry {reference.host}: connection broke: {_reason(error)}"
            ) from error
        finally:
            answer.release_conn()
        if len(data) > min(limit, _LARGEST):
            raise InvalidArgument(f"image {reference}: a document is larger than announced")
        return data


def base(reference: Reference, access: Access = ANONYMOUS) -> str:
    """``https://host/v2/name``; plain http for loopback, as docker has it, or when told so."""
    host = "registry-1.docker.io" if reference.host == "docker.io" else reference.host
    scheme = access.scheme or ("http" if _LOOPBACK.fullmatch(host) else "https")
    return f"{scheme}://{host}/v2/{reference.path}"


def pull_scope(reference: Reference) -> str:
    """What a token must allow for reading (docker's token authentication, scope)."""
    return f"repository:{reference.path}:pull"


def _check(reference: Reference, data: bytes, digest: str, size: int) -> None:
    found = digests.of(data, digest)
    if found != digest or len(data) != size:
        raise FailedPrecondition(
            f"image {reference}: a document has digest {found} and {len(data)} bytes,"
            f" expected {digest} and {size}",
            hint="the registry or something on the way has damaged it",
        )


def _declared(data: bytes) -> str:
    """The media type that a document claims for itself."""
    try:
        document = json.loads(data)
    except ValueError as error:
        raise InvalidArgument(f"image manifest: is not JSON: {error}") from error
    declared = document.get("mediaType") if isinstance(document, dict) else None
    if isinstance(declared, str) and declared:
        return declared
    return mediatypes.OCI_INDEX if "manifests" in document else mediatypes.OCI_MANIFEST


def _error(reference: Reference, answer: urllib3.BaseHTTPResponse) -> CoredError:
    text = _told(answer)
    match answer.status:
        case 404:
            return NotFound(
                f"image {reference}: not found in registry {reference.host}",
                hint="check its name and tag",
            )
        case 401 | 403:
            return PermissionDenied(
                f"image {reference}: access denied by registry {reference.host}{text}",
                hint="it may not exist, or needs a login",
            )
        case 429:
            return ResourceExhausted(f"registry {reference.host}: too many requests{text}")
        case _:
            return Unavailable(f"registry {reference.host}: answered {answer.status}{text}")


def _told(answer: urllib3.BaseHTTPResponse) -> str:
    """The registry's own words, if it has any."""
    try:
        document = json.loads(answer.read(64 << 10))
        return f": {document['errors'][0]['message']}"
    except (ValueError, KeyError, IndexError, TypeError, urllib3.exceptions.HTTPError):
        return ""


def _reason(error: BaseException) -> str:
    """The innermost reason, in a few words."""
    reason = getattr(error, "reason", None)
    while isinstance(reason, urllib3.exceptions.MaxRetryError):
        reason = reason.reason
    text = str(reason or error)
    return re.sub(r"^.*?(\[Errno -?\d+\]\s*|: )", "", text) if reason else text
