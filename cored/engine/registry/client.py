"""One client for all registries (distribution-spec 1.1: pull)."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from cored.abc.values import Descriptor
from cored.archive.http import Connections
from cored.config import RegistryConfig
from cored.engine.registry.access import ANONYMOUS, Access
from cored.engine.registry.answers import LARGEST, Answer
from cored.engine.registry.aside import aside
from cored.engine.registry.hosts import hosts_of
from cored.engine.registry.session import Call, Session
from cored.errors import FailedPrecondition, InvalidArgument, Unavailable
from cored.oci import digest as digests
from cored.oci import mediatypes
from cored.oci.reference import Reference

__all__ = ["ACCEPT", "Registry", "Resolved", "document", "resolve", "small_blob"]

_DOCUMENTS = mediatypes.INDEXES | mediatypes.MANIFESTS | mediatypes.SCHEMA_1
ACCEPT = ", ".join([*sorted(_DOCUMENTS), "*/*;q=0.1"])


@dataclass(frozen=True, slots=True)
class Resolved:
    """What a reference points to: the manifest or index, whole."""

    descriptor: Descriptor
    data: bytes


class Registry:
    """The way to all registries; ``roots`` are directories like ``/etc/cored/certs.d``."""

    def __init__(self, roots: Sequence[Path], settings: RegistryConfig) -> None:
        self._connections = Connections(8)
        self._roots = tuple(roots)
        self._settings = settings

    @classmethod
    @asynccontextmanager
    async def opened(
        cls, roots: Sequence[Path] = (), settings: RegistryConfig | None = None
    ) -> AsyncIterator[Registry]:
        """A client whose connections close with the body."""
        registry = cls(roots, settings or RegistryConfig())
        try:
            yield registry
        finally:
            registry._connections.close()

    async def session(
        self, reference: Reference, access: Access = ANONYMOUS, *, offline: bool = False
    ) -> Session:
        """A transfer's requests to a repository. InvalidArgument for a broken hosts.toml.

        ``offline``: tokens to come back with another day are asked for.
        """
        roots = (Path(access.hosts),) if access.hosts else self._roots
        hosts = await aside(lambda: hosts_of(reference.host, roots, access.scheme))
        return Session(self._connections, hosts, reference, access, self._settings, offline=offline)


async def resolve(session: Session) -> Resolved:
    """The manifest or index that the session's reference names. NotFound; Unavailable;
    PermissionDenied; FailedPrecondition when it is damaged."""
    reference = session.reference
    capability = "pull" if reference.digest else "resolve"
    try:
        return await document(session, reference.target, capability)
    except Unavailable as error:
        raise Unavailable(f"image {str(reference)!r}: {error.message}", hint=error.hint) from error


async def document(
    session: Session, target: str, capability: str = "pull", wanted: Descriptor | None = None
) -> Resolved:
    """A manifest or index by tag or digest, checked against what is known of it."""
    found: list[Resolved] = []

    def check(answer: Answer) -> None:
        found[:] = [_resolved(session.reference, answer, target, wanted)]

    limit = min(wanted.size, LARGEST) if wanted else LARGEST
    await session.send(
        Call(
            "GET",
            f"/manifests/{target}",
            {"Accept": ACCEPT},
            capability=capability,
            check=check,
            limit=limit,
        )
    )
    return found[0]


async def small_blob(session: Session, wanted: Descriptor) -> bytes:
    """A small blob (an image's config), checked against its descriptor."""
    answer = await session.send(
        Call(
            "GET",
            f"/blobs/{wanted.digest}",
            check=lambda answer: _check(session.reference, answer.data, wanted.digest, wanted.size),
            limit=min(wanted.size, LARGEST),
        )
    )
    return answer.data


def _resolved(
    reference: Reference, answer: Answer, target: str, wanted: Descriptor | None
) -> Resolved:
    data = answer.data
    media_type = answer.headers.get("Content-Type", "").partition(";")[0].strip()
    digest = target if ":" in target else _told(answer) or digests.of(data)
    _check(reference, data, digest, wanted.size if wanted else len(data))
    declared = _declared(data)
    if media_type in _DOCUMENTS and declared in _DOCUMENTS and declared != media_type:
        # one document must not be two things (image-spec 1.0.2)
        raise FailedPrecondition(
            f"image {reference}: its manifest says {declared}, the registry {media_type}"
        )
    if wanted is not None and wanted.media_type:
        media_type = wanted.media_type
    elif media_type not in _DOCUMENTS:
        media_type = declared or _guessed(data)
    return Resolved(Descriptor(media_type, digest, len(data)), data)


def _told(answer: Answer) -> str:
    """The digest that the registry names, if it is one."""
    try:
        return digests.check(answer.headers.get("Docker-Content-Digest", ""))
    except InvalidArgument:
        return ""


def _check(reference: Reference, data: bytes, digest: str, size: int) -> None:
    found = digests.of(data, digest)
    if found != digest or len(data) != size:
        raise FailedPrecondition(
            f"image {reference}: a document has digest {found} and {len(data)} bytes,"
            f" expected {digest} and {size}",
            hint="the registry or something on the way has damaged it",
        )


def _declared(data: bytes) -> str:
    """The media type that a document claims for itself, '' if it does not."""
    try:
        document = json.loads(data)
    except ValueError as error:
        raise InvalidArgument(f"image manifest: is not JSON: {error}") from error
    declared = document.get("mediaType") if isinstance(document, dict) else None
    return declared if isinstance(declared, str) else ""


def _guessed(data: bytes) -> str:
    return mediatypes.OCI_INDEX if b'"manifests"' in data else mediatypes.OCI_MANIFEST
