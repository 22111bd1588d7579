"""The tar of a filesystem as an image of one layer (docker's import): packed as an OCI layout."""

from __future__ import annotations

import bz2
import hashlib
import io
import json
import lzma
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, BinaryIO, cast

from cored.archive.compression import compressed, inflated, sniff
from cored.errors import InvalidArgument, Unavailable
from cored.oci import changes, mediatypes
from cored.oci.platforms import format as written
from cored.oci.platforms import host, parse

__all__ = ["Wish", "is_image", "layout", "opened"]

_STEP = 1 << 20
_BLOCK = 512
_MARKS = ("oci-layout", "index.json", "manifest.json")
_FOREIGN: dict[bytes, Callable[[BinaryIO], AbstractContextManager[Any]]] = {
    b"BZh": bz2.BZ2File,
    b"\xfd7zXZ\0": lzma.LZMAFile,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What the image is to say of itself; ``source`` is where its files are from."""

    source: str
    message: str = ""
    changes: Sequence[str] = ()
    platform: str = ""


@contextmanager
def opened(source: str, stdin: BinaryIO) -> Iterator[BinaryIO]:
    """A file that can be read again from its beginning: a path, a URL, ``-`` for ``stdin``."""
    if source != "-" and not source.startswith(("http://", "https://")):
        with open(source, "rb") as file:
            yield file
        return
    with tempfile.TemporaryFile() as spool:
        for piece in _pieces(stdin) if source == "-" else _fetched(source):
            spool.write(piece)
        spool.seek(0)
        yield cast("BinaryIO", spool)


def _fetched(url: str) -> Iterator[bytes]:
    import urllib3

    try:
        pool = urllib3.PoolManager(retries=urllib3.Retry(connect=False, read=False, redirect=9))
        with closing(pool.request("GET", url, preload_content=False)) as answer:
            if answer.status != 200:
                raise Unavailable(f"{url}: answered {answer.status} {answer.reason or ''}".strip())
            # as it is: a tar.gz is not a tar that was compressed for the way
            yield from answer.stream(_STEP, decode_content=False)
    except urllib3.exceptions.HTTPError as error:
        raise Unavailable(f"{url}: {error}") from error


def _pieces(file: BinaryIO) -> Iterator[bytes]:
    while piece := file.read(_STEP):
        yield piece


def is_image(file: BinaryIO) -> bool:
    """Whether it is an OCI layout or a docker-archive, and not a filesystem."""
    try:
        with tarfile.open(fileobj=file, mode="r:*") as archive:
            return any(one.name.removeprefix("./") in _MARKS for one in archive)
    except (tarfile.TarError, EOFError, OSError):
        return False
    finally:
        file.seek(0)


@contextmanager
def layout(file: BinaryIO, wish: Wish) -> Iterator[tuple[str, BinaryIO]]:
    """The image's id, and an OCI layout with it. InvalidArgument."""
    edits = [changes.parse(line) for line in wish.changes]
    with tempfile.TemporaryFile() as packed, tempfile.TemporaryFile() as spool:
        layer, diff_id = _layer(file, cast("BinaryIO", spool))
        config = _config(wish, diff_id, edits)
        id = _digest(config)
        manifest = json.dumps(
            {
                "schemaVersion": 2,
                "mediaType": mediatypes.OCI_MANIFEST,
                "config": _described(mediatypes.OCI_CONFIG, config),
                "layers": [layer],
            }
        ).encode()
        described = _described(mediatypes.OCI_MANIFEST, manifest)
        index = json.dumps({"schemaVersion": 2, "manifests": [described]}).encode()
        with tarfile.open(fileobj=packed, mode="w") as archive:
            spool.seek(0)
            _add(archive, "oci-layout", io.BytesIO(b'{"imageLayoutVersion": "1.0.0"}'))
            _add(archive, _blob(str(layer["digest"])), cast("BinaryIO", spool))
            _add(archive, _blob(id), io.BytesIO(config))
            _add(archive, _blob(_digest(manifest)), io.BytesIO(manifest))
            _add(archive, "index.json", io.BytesIO(index))
        packed.seek(0)
        yield id, cast("BinaryIO", packed)


def _layer(file: BinaryIO, spool: BinaryIO) -> tuple[dict[str, object], str]:
    """Its descriptor and diff id; it is in ``spool``, compressed with gzip."""
    plain, packed = hashlib.sha256(), hashlib.sha256()

    def seen() -> Iterator[bytes]:
        first = True
        for piece in _plain(file):
            if first and not _begins_tar(piece):
                raise InvalidArgument("archive: is no tar, compressed or not")
            first = False
            plain.update(piece)
            yield piece

    size = 0
    for piece in compressed(seen(), "gzip"):
        packed.update(piece)
        size += spool.write(piece)
    descriptor = {
        "mediaType": mediatypes.OCI_LAYER_GZIP,
        "digest": f"sha256:{packed.hexdigest()}",
        "size": size,
    }
    return descriptor, f"sha256:{plain.hexdigest()}"


def _plain(file: BinaryIO) -> Iterator[bytes]:
    """The tar; of what layers may not be compressed with, too. The first piece is a block."""
    head = file.read(_BLOCK)
    file.seek(0)
    for magic, reader in _FOREIGN.items():
        if head.startswith(magic):
            try:
                with reader(file) as stream:
                    yield from _pieces(stream)
            except (OSError, EOFError, lzma.LZMAError) as error:
                raise InvalidArgument(f"archive: {error}") from error
            return
    sniff(head)
    rest = inflated(_pieces(file))
    begun = b""
    for piece in rest:
        begun += piece
        if len(begun) >= _BLOCK:
            break
    yield begun
    # each piece is in the same memory as the one before
    yield from map(bytes, rest)


def _begins_tar(piece: bytes) -> bool:
    if not any(piece[:_BLOCK]):
        return True
    try:
        tarfile.TarInfo.frombuf(piece[:_BLOCK], "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        return False
    return True


def _config(wish: Wish, diff_id: str, edits: Sequence[changes.Edit]) -> bytes:
    platform = parse(wish.platform) if wish.platform else host()
    now = datetime.now(UTC).isoformat().replace("+00:00", "Z")
    inner: dict[str, object] = {}
    for edit in edits:
        edit(inner)
    system, architecture, *variant = written(platform).split("/")
    document: dict[str, object] = {
        "created": now,
        "architecture": architecture,
        "os": system,
        "config": inner,
        "rootfs": {"type": "layers", "diff_ids": [diff_id]},
        "history": [
            {"created": now, "comment": wish.message or f"Imported from {wish.source}"},
        ],
    }
    if variant:
        document["variant"] = variant[0]
    return json.dumps(document).encode()


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _described(media_type: str, data: bytes) -> dict[str, object]:
    return {"mediaType": media_type, "digest": _digest(data), "size": len(data)}


def _blob(digest: str) -> str:
    return f"blobs/{digest.replace(':', '/')}"


def _add(archive: tarfile.TarFile, name: str, file: BinaryIO) -> None:
    member = tarfile.TarInfo(name)
    member.size = file.seek(0, io.SEEK_END)
    file.seek(0)
    archive.addfile(member, file)
