"""What ADD takes from elsewhere: files from URLs, trees from git, archives unpacked."""

from __future__ import annotations

import asyncio
import bz2
import gzip
import hashlib
import lzma
import os
import shutil
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from cored.archive.jobs import LayerJob, Source
from cored.archive.pool import WorkerPool
from cored.errors import FailedPrecondition, InvalidArgument, Unavailable, Unimplemented
from cored.oci import mediatypes
from cored_service_build.trees import resolved

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

__all__ = ["Clone", "Fetched", "clone", "download", "is_archive", "unpack"]

_TIMEOUT = 60.0
_PACKED: Mapping[bytes, Callable[..., Any]] = {b"BZh": bz2.open, b"\xfd7zXZ\x00": lzma.open}
_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_OPENERS: Mapping[bytes, Callable[..., Any]] = {_GZIP: gzip.open, _ZSTD: zstd.open, **_PACKED}


@dataclass(frozen=True, slots=True)
class Fetched:
    """A file from a URL; ``modified`` in seconds, 0 where nobody said."""

    path: Path
    name: str
    digest: str
    modified: int


def download(url: str, into: Path, checksum: str = "") -> Fetched:
    """Fetch a file into the directory ``into``. Blocks.

    Unavailable; FailedPrecondition when it is not what ``checksum`` says.
    """
    name = unquote(urlsplit(url).path.rpartition("/")[2])
    path = into / hashlib.sha256(url.encode()).hexdigest()
    hasher = hashlib.sha256()
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT) as answer, path.open("wb") as file:
            modified = answer.headers.get("Last-Modified", "")
            while data := answer.read(1 << 20):
                hasher.update(data)
                file.write(data)
    except (urllib.error.URLError, OSError, ValueError) as error:
        raise Unavailable(f"{url}: {getattr(error, 'reason', error)}") from error
    digest = f"sha256:{hasher.hexdigest()}"
    if checksum and digest != checksum:
        raise FailedPrecondition(f"{url}: is {digest}, not {checksum}")
    seconds = int(parsedate_to_datetime(modified).timestamp()) if modified else 0
    return Fetched(path, name, digest, seconds)


@dataclass(frozen=True, slots=True)
class Clone:
    """A directory of a repository, at a commit."""

    path: Path
    commit: str


async def clone(source: str, into: Path, *, keep_git_dir: bool) -> Clone:
    """Check a repository out, with its submodules: ``URL[#REF[:DIRECTORY]]``.

    Unimplemented without git; Unavailable; FailedPrecondition where there is no such directory.
    """
    if shutil.which("git") is None:
        raise Unimplemented(f"{source}: there is no git on this machine", hint="install git")
    url, _, fragment = source.partition("#")
    url = f"https://{url}" if url.startswith("github.com/") else url
    reference, _, below = fragment.partition(":")
    if reference.startswith("-") or url.startswith("-") or ".." in below.split("/"):
        raise InvalidArgument(f"{source}: invalid", hint="URL#REF:DIRECTORY")
    place = into / hashlib.sha256(source.encode()).hexdigest()
    place.mkdir()
    await _git(place, "init", "--quiet")
    await _git(place, "fetch", "--quiet", "--depth=1", "--", url, reference or "HEAD")
    await _git(place, "checkout", "--quiet", "FETCH_HEAD")
    commit = (await _git(place, "rev-parse", "HEAD")).strip()
    if (place / ".gitmodules").is_file():
        await _git(place, "submodule", "update", "--quiet", "--init", "--recursive", "--depth=1")
    if not keep_git_dir:
        await asyncio.to_thread(_without_git, place)
    found = resolved(place, below)  # a link in the repository leads nowhere else
    if not found.is_dir():
        raise FailedPrecondition(f"{source}: has no directory {below!r}")
    return Clone(found, commit)


def _without_git(place: Path) -> None:
    shutil.rmtree(place / ".git")
    for path in list(place.rglob(".git")):  # a submodule's says where its repository is
        if path.is_file():
            path.unlink()


async def _git(place: Path, *arguments: str) -> str:
    environment = {**os.environ, "GIT_TERMINAL_PROMPT": "0"}
    process = await asyncio.create_subprocess_exec(
        "git", *arguments, cwd=place, env=environment,
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        said, told = await process.communicate()
    except BaseException:
        process.kill()
        await process.wait()
        raise
    if process.returncode:
        last = told.decode(errors="replace").strip().rpartition("\n")[2]
        raise Unavailable(f"git {arguments[0]}: {last}")
    return said.decode(errors="replace")


def is_archive(path: Path) -> bool:
    """Whether a file is a tar archive, packed or not. Blocks."""
    if not path.is_file() or path.is_symlink():
        return False
    with path.open("rb") as file:
        head = file.read(512)
    opened = next((o for magic, o in _OPENERS.items() if head.startswith(magic)), None)
    if opened is not None:
        try:
            with opened(path) as inner:
                head = inner.read(512)
        except (OSError, EOFError, ValueError, lzma.LZMAError, zstd.ZstdError):
            return False
    return head[257:262] == b"ustar"


async def unpack(pool: WorkerPool, path: Path, target: Path, state: Path) -> None:
    """Extract a tar archive into a directory, in a worker. InvalidArgument."""
    with path.open("rb") as file:
        head = file.read(8)
    opened = next((o for magic, o in _PACKED.items() if head.startswith(magic)), None)
    plain = path
    if opened is not None:
        plain = state / f"plain-{path.name}-{os.getpid()}"
        await asyncio.to_thread(_inflate, opened, path, plain)
    try:
        digest = await asyncio.to_thread(_digest, plain)
        media_type = mediatypes.OCI_LAYER
        if head.startswith(_GZIP):
            media_type = mediatypes.OCI_LAYER_GZIP
        elif head.startswith(_ZSTD):
            media_type = mediatypes.OCI_LAYER_ZSTD
        await pool.run(
            LayerJob(
                source=Source(os.fspath(plain)),
                media_type=media_type,
                digest=digest,
                size=plain.stat().st_size,
                target=os.fspath(target),
            )
        )
    finally:
        if plain != path:
            plain.unlink(missing_ok=True)


def _inflate(opened: Callable[..., Any], path: Path, into: Path) -> None:
    with opened(path, "rb") as source, into.open("wb") as target:
        shutil.copyfileobj(source, target)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
