"""Contexts that the daemon fetches by itself, and Dockerfiles that are in contexts."""

from __future__ import annotations

import asyncio
import shutil
import tarfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from cored.errors import CoredError, NotFound
from cored_service_build import remote
from cored_service_build.contexts import extracted
from cored_service_build.dockerfile.ignore import read as read_ignore
from cored_service_build.dockerfile.urls import is_git
from cored_service_build.steps import Steps
from cored_service_build.trees import Selected, resolved
from cored_service_build.values import Request

__all__ = ["completed"]


async def completed(request: Request, steps: Steps, spool: Path) -> Request:
    """The request with all its contexts here, and its Dockerfile's text.

    NotFound, Unavailable, InvalidArgument.
    """
    found: dict[str, Path] = dict(request.contexts)
    text = request.dockerfile
    for name, url in request.remotes.items():
        step = steps.new(f"[context{f' {name}' if name else ''}] {url}", "")
        step.begin()
        try:
            found[name], alone = await _fetched(url, request.args, spool)
        except CoredError as error:
            step.end("failed", error.message)
            raise
        step.end()
        text = text or (alone if not name else "")
    request = replace(request, contexts=found, dockerfile=text)
    if text or not request.inside:
        return request
    return await asyncio.to_thread(_read, request)


async def _fetched(url: str, args: Mapping[str, str], spool: Path) -> tuple[Path, str]:
    """A directory; and the Dockerfile, where the URL names nothing more than that."""
    if is_git(url):
        keep = args.get("BUILDKIT_CONTEXT_KEEP_GIT_DIR", "") in ("1", "true")
        return (await remote.clone(url, spool, keep_git_dir=keep)).path, ""
    fetched = await asyncio.to_thread(remote.download, url, spool)
    place = fetched.path.with_name(f"{fetched.path.name}.files")
    if await asyncio.to_thread(tarfile.is_tarfile, fetched.path):
        with fetched.path.open("rb") as archive:
            await asyncio.to_thread(extracted, archive, place, url)
        fetched.path.unlink()
        return place, ""
    place.mkdir()
    return place, fetched.path.read_text(errors="replace")


def _read(request: Request) -> Request:
    """With the Dockerfile that is in the main context, and without what is ignored there."""
    root = request.contexts.get("")
    if root is None:
        raise NotFound("Dockerfile: there is none, and no context that it could be in")
    name = request.dockerfile_name
    file = resolved(root, name)
    if not file.is_file():
        raise NotFound(f"Dockerfile {name!r}: not in the context", hint="name it with -f")
    ignore = ""
    for each in (f"{name}.dockerignore", ".dockerignore"):
        if resolved(root, each).is_file():
            ignore = resolved(root, each).read_text(errors="surrogateescape")
            break
    text = file.read_text(errors="surrogateescape")
    if ignore:
        _without(root, ignore)
    return replace(request, dockerfile=text, ignore=ignore)


def _without(root: Path, ignore: str) -> None:
    patterns = read_ignore(ignore)
    # what is kept within something that is ignored keeps it
    kept: set[str] = set()
    paths = [path for path, _, _ in Selected(root, "").walk() if path]
    for path in paths:
        if not patterns.ignored(path):
            parts = path.split("/")
            kept |= {"/".join(parts[: n + 1]) for n in range(len(parts))}
    for path in paths:
        place = root / path
        if path in kept or not (place.is_symlink() or place.exists()):
            continue
        if place.is_dir() and not place.is_symlink():
            shutil.rmtree(place)
        else:
            place.unlink()
