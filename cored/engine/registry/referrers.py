"""What refers to a manifest: signatures, attestations (distribution-spec 1.1: referrers)."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

from cored.abc.values import Descriptor
from cored.engine.registry.client import document
from cored.engine.registry.pages import pages
from cored.engine.registry.session import Session
from cored.engine.registry.upload import Uploads
from cored.errors import InvalidArgument, NotFound
from cored.oci import digest as digests
from cored.oci import mediatypes
from cored.oci.manifest import Index, Manifest, parse

__all__ = ["forget", "refer", "referrers"]

_MOST = 4000  # a registry without the API makes do with a document


async def referrers(session: Session, digest: str, artifact_type: str = "") -> list[Descriptor]:
    """The manifests whose subject is ``digest``, of one type if that is given.

    A registry without the API keeps them in an index under a tag made from the digest.
    """
    query = f"?artifactType={quote(artifact_type, safe='')}" if artifact_type else ""
    try:
        answers = await pages(session, f"/referrers/{digest}{query}")
    except NotFound:
        found = list(await _listed(session, digest))
    else:
        found = [each for answer in answers for each in _index(answer.data)]
    return [each for each in found if artifact_type in ("", each.artifact_type)]


async def refer(
    session: Session, uploads: Uploads, target: Descriptor, document: Manifest | Index
) -> None:
    """Put a manifest with a subject into the index of the subject's referrers.

    For registries that have not done so themselves when they took the manifest.
    """
    assert document.subject is not None
    entry: dict[str, Any] = {
        "mediaType": target.media_type,
        "digest": target.digest,
        "size": target.size,
    }
    kind = document.artifact_type
    if not kind and isinstance(document, Manifest):
        kind = document.config.media_type
    if kind:
        entry["artifactType"] = kind
    if document.annotations:
        entry["annotations"] = dict(document.annotations)
    subject = document.subject.digest
    others = [e for e in await _entries(session, subject) if e.get("digest") != target.digest]
    if len(others) > _MOST:
        raise InvalidArgument(f"manifest {subject}: has too many referrers for a list")
    await _put(uploads, subject, [*others, entry])


async def forget(session: Session, digest: str, subject: str) -> None:
    """Take a manifest that is gone out of the index of its subject's referrers, if that is one."""
    entries = await _entries(session, subject)
    kept = [entry for entry in entries if entry.get("digest") != digest]
    if len(kept) != len(entries):
        await _put(Uploads(session), subject, kept)


async def _put(uploads: Uploads, subject: str, entries: list[dict[str, Any]]) -> None:
    index = {"schemaVersion": 2, "mediaType": mediatypes.OCI_INDEX, "manifests": entries}
    data = json.dumps(index).encode()
    descriptor = Descriptor(mediatypes.OCI_INDEX, digests.of(data), len(data))
    await uploads.manifest(descriptor, data, _fallback_tag(subject))


async def _entries(session: Session, subject: str) -> list[dict[str, Any]]:
    """The index of referrers as it is, with what we know nothing of; empty when there is none."""
    try:
        found = await document(session, _fallback_tag(subject), "resolve")
    except NotFound:
        return []
    _index(found.data)
    entries: list[dict[str, Any]] = json.loads(found.data)["manifests"]
    return entries


async def _listed(session: Session, subject: str) -> tuple[Descriptor, ...]:
    try:
        return _index((await document(session, _fallback_tag(subject), "resolve")).data)
    except NotFound:
        return ()


def _fallback_tag(digest: str) -> str:
    """The tag of the index of referrers where there is no API (referrers tag schema)."""
    algorithm, _, value = digest.partition(":")
    return f"{algorithm[:32]}-{value[:64]}"


def _index(data: bytes) -> tuple[Descriptor, ...]:
    found = parse(data)
    if not isinstance(found, Index):
        raise InvalidArgument("list of referrers: is not an index")
    return found.manifests
