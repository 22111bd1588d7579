"""Export: images as an archive, an OCI layout that ``docker load`` reads as well.

The same images give the same bytes: order, owners and times are fixed.
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from cored.abc.content import ContentStore, read_blob
from cored.abc.records import Image
from cored.abc.values import Descriptor
from cored.engine.selection import Selection
from cored.errors import InvalidArgument, NotFound
from cored.oci import mediatypes
from cored.oci.manifest import Index, Manifest, parse
from cored.oci.reference import parse as parse_reference

__all__ = ["Exporter"]

_CHUNK = 1 << 20
_BLOCK = 512
_NAME = "io.containerd.image.name"
_REFERENCE = "org.opencontainers.image.ref.name"


@dataclass(slots=True)
class _Contents:
    """What an archive is to hold: blobs by digest, and docker's list of images."""

    blobs: dict[str, Descriptor] = field(default_factory=dict)
    docker: list[dict[str, Any]] = field(default_factory=list)


class Exporter:
    """Writes archives from the content store."""

    def __init__(self, content: ContentStore) -> None:
        self._content = content

    async def export(
        self,
        images: Sequence[Image],
        selection: Selection,
        *,
        docker: bool = True,
        foreign: bool = True,
    ) -> AsyncIterator[bytes]:
        """The archive, piece by piece. NotFound names what is not in the store.

        Without ``docker`` there is no manifest.json; without ``foreign`` no layers that may not be
        distributed.
        """
        contents = _Contents()
        entries = []
        for image in images:
            await self._collect(contents, image, image.target, selection, foreign)
            entries.append(_entry(image))
        index = {"schemaVersion": 2, "mediaType": mediatypes.OCI_INDEX, "manifests": entries}
        for directory in ("blobs/", "blobs/sha256/"):
            yield _header(directory, 0, directory=True)
        for digest in sorted(contents.blobs):
            async for piece in self._blob(contents.blobs[digest]):
                yield piece
        yield _file("index.json", _json(index))
        if docker and contents.docker:
            yield _file("manifest.json", _json(contents.docker))
        yield _file("oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
        yield bytes(2 * _BLOCK)

    async def _collect(
        self,
        contents: _Contents,
        image: Image,
        target: Descriptor,
        selection: Selection,
        foreign: bool,
    ) -> None:
        document = parse(await self._document(image, target), target.media_type)
        contents.blobs[target.digest] = target
        if isinstance(document, Index):
            for entry in selection.manifests(document, image.name):
                if entry.media_type in mediatypes.INDEXES | mediatypes.MANIFESTS:
                    try:
                        await self._collect(contents, image, entry, selection, foreign)
                    except NotFound:
                        # images are rarely here for all the platforms that their index lists
                        if selection.platforms or not await self._absent(entry):
                            raise
                else:
                    contents.blobs[entry.digest] = entry
            return
        for child in document.children:
            if foreign or not mediatypes.is_foreign(child.media_type):
                contents.blobs[child.digest] = child
        _list_for_docker(contents, image, document)

    async def _document(self, image: Image, target: Descriptor) -> bytes:
        try:
            return await read_blob(self._content, target.digest)
        except NotFound as error:
            raise NotFound(
                f"image {image.name!r}: {error.message}",
                hint="pull it again, with all its platforms",
            ) from error

    async def _absent(self, target: Descriptor) -> bool:
        try:
            await self._content.info(target.digest)
        except NotFound:
            return True
        return False

    async def _blob(self, blob: Descriptor) -> AsyncIterator[bytes]:
        async with await self._content.reader(blob.digest) as reader:
            if reader.size != blob.size:
                raise InvalidArgument(
                    f"blob {blob.digest}: has {reader.size} bytes, its manifest says {blob.size}"
                )
            yield _header(f"blobs/{blob.digest.replace(':', '/')}", blob.size)
            offset = 0
            while data := await reader.read_at(offset, _CHUNK):
                yield data
                offset += len(data)
            yield bytes(-offset % _BLOCK)


def _entry(image: Image) -> dict[str, Any]:
    """An image in index.json, under the names that containerd and OCI have for it."""
    target = image.target
    try:
        parsed = parse_reference(image.name)
        reference = parsed.tag or image.name
    except InvalidArgument:
        reference = image.name
    return {
        "mediaType": target.media_type,
        "digest": target.digest,
        "size": target.size,
        "annotations": {**target.annotations, _NAME: image.name, _REFERENCE: reference},
    }


def _list_for_docker(contents: _Contents, image: Image, manifest: Manifest) -> None:
    """manifest.json: one platform of each image, the best one, which comes first."""
    if manifest.config.media_type not in mediatypes.CONFIGS:
        return
    try:
        name = replace(parse_reference(image.name), digest="").familiar
    except InvalidArgument:
        name = image.name
    entry = {
        "Config": f"blobs/{manifest.config.digest.replace(':', '/')}",
        "RepoTags": [name],
        "Layers": [f"blobs/{layer.digest.replace(':', '/')}" for layer in manifest.layers],
    }
    for known in contents.docker:
        if known["Config"] == entry["Config"]:
            known["RepoTags"] += [n for n in (name,) if n not in known["RepoTags"]]
            return
        if name in known["RepoTags"]:
            return
    contents.docker.append(entry)


def _json(document: Any) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()


def _file(name: str, data: bytes) -> bytes:
    return _header(name, len(data)) + data + bytes(-len(data) % _BLOCK)


def _header(name: str, size: int, *, directory: bool = False) -> bytes:
    entry = tarfile.TarInfo(name)
    entry.size = size
    entry.type = tarfile.DIRTYPE if directory else tarfile.REGTYPE
    entry.mode = 0o755 if directory else 0o444
    return entry.tobuf(tarfile.PAX_FORMAT)
