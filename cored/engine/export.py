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
from cored.oci.digest import is_digest
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

    foreign: bool
    whole: bool
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
        whole: bool = False,
    ) -> AsyncIterator[bytes]:
        """The archive, piece by piece. NotFound names what is not in the store.

        Without ``docker`` there is no manifest.json; without ``foreign`` no layers that may not be
        distributed. ``whole`` leaves out platforms that are here in part only.
        """
        contents = _Contents(foreign, whole and not selection.platforms)
        entries = []
        for image in images:
            await self._collect(contents, image, image.target, selection)
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
    ) -> None:
        document = parse(await self._document(image, target), target.media_type)
        if isinstance(document, Index):
            contents.blobs[target.digest] = target
            before = len(contents.docker)
            for entry in selection.manifests(document, image.name):
                if entry.media_type in mediatypes.INDEXES | mediatypes.MANIFESTS:
                    try:
                        await self._collect(contents, image, entry, selection)
                    except NotFound:
                        # images are rarely here for all the platforms that their index lists
                        absent = contents.whole or await self._absent(entry)
                        if selection.platforms or not absent:
                            raise
                else:
                    contents.blobs[entry.digest] = entry
            if contents.whole and len(contents.docker) == before:
                raise NotFound(f"image {image.name!r}: no platform of it is here, whole")
            return
        children = [
            child
            for child in document.children
            if contents.foreign or not mediatypes.is_foreign(child.media_type)
        ]
        for child in children:
            if contents.whole and not mediatypes.is_foreign(child.media_type):
                await self._content.info(child.digest)  # NotFound, before anything is listed
        contents.blobs[target.digest] = target
        contents.blobs |= {child.digest: child for child in children}
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
    plain = {"mediaType": target.media_type, "digest": target.digest, "size": target.size}
    if is_digest(image.name):  # it has no name
        return {**plain, "annotations": dict(target.annotations)} if target.annotations else plain
    try:
        parsed = parse_reference(image.name)
        reference = parsed.tag or image.name
    except InvalidArgument:
        reference = image.name
    return {
        **plain,
        "annotations": {**target.annotations, _NAME: image.name, _REFERENCE: reference},
    }


def _list_for_docker(contents: _Contents, image: Image, manifest: Manifest) -> None:
    """manifest.json: one platform of each image, the best one, which comes first."""
    if manifest.config.media_type not in mediatypes.CONFIGS:
        return
    try:
        names = [replace(parse_reference(image.name), digest="").familiar]
    except InvalidArgument:
        names = [image.name]
    if is_digest(image.name):
        names = []
    entry: dict[str, Any] = {
        "Config": f"blobs/{manifest.config.digest.replace(':', '/')}",
        "RepoTags": names,
        "Layers": [f"blobs/{layer.digest.replace(':', '/')}" for layer in manifest.layers],
    }
    for known in contents.docker:
        if known["Config"] == entry["Config"]:
            known["RepoTags"] += [name for name in names if name not in known["RepoTags"]]
            return
        if set(names) & set(known["RepoTags"]):
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
