"""What a repository holds, and taking it away (distribution-spec 1.1: discovery, management)."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any
from urllib.parse import urlencode

from cored.engine.registry.answers import Answer
from cored.engine.registry.client import document
from cored.engine.registry.pages import pages
from cored.engine.registry.referrers import forget
from cored.engine.registry.session import Call, Session
from cored.errors import Unavailable
from cored.oci.manifest import parse

__all__ = ["delete_blob", "delete_manifest", "tags"]


async def tags(session: Session, *, last: str = "", page: int = 1000) -> list[str]:
    """All tags of the repository, those after ``last``; ``page`` is how many to ask for at a time.

    NotFound for a repository that is not there.
    """
    query = {"n": str(page)} | ({"last": last} if last else {})
    found: list[str] = []
    for answer in await pages(session, f"/tags/list?{urlencode(query)}"):
        names = _json(answer).get("tags") or []
        if not isinstance(names, list):
            raise Unavailable(f"registry {answer.host.name}: its list of tags is none")
        found += [str(name) for name in names]
    return list(dict.fromkeys(found))


async def delete_manifest(session: Session, target: str) -> None:
    """Delete a manifest by its digest, or a tag and nothing else. NotFound; FailedPrecondition
    where the registry does not allow it."""
    subject = None
    if ":" in target:
        found = await document(session, target)
        subject = parse(found.data, found.descriptor.media_type).subject
    await _delete(session, f"/manifests/{target}", target)
    if subject is not None:
        await forget(session, target, subject.digest)


async def delete_blob(session: Session, digest: str) -> None:
    """Delete a blob. NotFound; FailedPrecondition where the registry does not allow it."""
    await _delete(session, f"/blobs/{digest}", digest)


async def _delete(session: Session, path: str, target: str) -> None:
    separator = "@" if ":" in target else ":"
    name = replace(session.reference, tag="", digest="")
    call = Call(
        "DELETE", path, good=(200, 202, 204), capability="push",
        actions="delete,pull", what=f"{name}{separator}{target}",
    )  # fmt: skip
    await session.send(call)


def _json(answer: Answer) -> dict[str, Any]:
    try:
        document = json.loads(answer.data)
    except ValueError as error:
        raise Unavailable(f"registry {answer.host.name}: its list is not JSON") from error
    return document if isinstance(document, dict) else {}
