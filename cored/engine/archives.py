"""Image archives: OCI layouts and ``docker save`` tars, read in place."""

from __future__ import annotations

import gzip
import json
import lzma
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from cored.abc.values import Descriptor
from cored.errors import InvalidArgument
from cored.oci import mediatypes
from cored.oci.digest import of as digest_of
from cored.oci.manifest import Index, Manifest, descriptor, parse
from cored.oci.reference import parse as parse_reference

__all__ = ["ImageArchive", "Named"]

_DOCUMENT = 8 << 20
_NAME = "io.containerd.image.name"
_BLOB = re.compile(r"blobs/(sha256|sha512)/([0-9a-f]+)")
_PACKED = {b"\x1f\x8b": "r:gz", b"BZh": "r:bz2", b"\xfd7zXZ\0": "r:xz"}
_MAGIC = {b"\x1f\x8b": "gzip", b"\x28\xb5": "zstd"}


@dataclass(frozen=True, slots=True)
class Named:
    """An image in an archive; ``name`` is '' when the archive does not say."""

    name: str
    target: Descriptor


class ImageArchive:
    """An open archive: its images, and its blobs by digest."""

    def __init__(self, path: Path, what: str) -> None:
        self._what = what
        try:
            with path.open("rb") as file:
                head = file.read(6)
            kinds = (kind for magic, kind in _PACKED.items() if head.startswith(magic))
            self._tar: tarfile.TarFile = tarfile.open(  # noqa: SIM115
                path,
                next(kinds, "r:"),  # type: ignore[call-overload]
            )
            members = self._tar.getmembers()
        except (tarfile.TarError, gzip.BadGzipFile, lzma.LZMAError, EOFError, OSError) as error:
            raise InvalidArgument(
                f"{what}: is not a tar archive, or is cut short: {error}",
                hint="an OCI layout or docker archive is wanted",
            ) from error
        self._members = {member.name.removeprefix("./"): member for member in members}
        self._made: dict[str, bytes] = {}
        self._places: dict[str, str] = {}
        for name in self._members:
            if found := _BLOB.fullmatch(name):
                self._places[f"{found[1]}:{found[2]}"] = name

    def close(self) -> None:
        """Close the file."""
        self._tar.close()

    def images(self) -> list[Named]:
        """The images, in the archive's order. InvalidArgument for what is no image archive."""
        if "index.json" in self._members:
            return list(self._layout())
        if "manifest.json" in self._members:
            return list(self._docker())
        raise InvalidArgument(
            f"{self._what}: holds no images", hint="it has neither index.json nor manifest.json"
        )

    def index(self) -> tuple[Descriptor, bytes]:
        """The index of all images; docker's archives get one made for them."""
        if "index.json" in self._members:
            data = self._read("index.json")
        else:
            entries = [
                {
                    "mediaType": each.target.media_type,
                    "digest": each.target.digest,
                    "size": each.target.size,
                    **({"annotations": {_NAME: each.name}} if each.name else {}),
                }
                for each in self._docker()
            ]
            document = {
                "schemaVersion": 2,
                "mediaType": mediatypes.OCI_INDEX,
                "manifests": entries,
            }
            data = json.dumps(document, separators=(",", ":")).encode()
        return Descriptor(mediatypes.OCI_INDEX, digest_of(data), len(data)), data

    def __contains__(self, digest: str) -> bool:
        return digest in self._places or digest in self._made

    def document(self, target: Descriptor) -> Manifest | Index:
        """A manifest or index by its descriptor."""
        return parse(self.small(target.digest), target.media_type)

    def small(self, digest: str) -> bytes:
        """A small blob, whole, checked."""
        if digest in self._made:
            return self._made[digest]
        data = self._read(self._places.get(digest, digest))
        if digest_of(data, digest) != digest:
            raise InvalidArgument(f"{self._what}: blob {digest} is damaged")
        return data

    def chunks(self, digest: str) -> Iterator[bytes]:
        """A blob, a megabyte at a time; whoever stores it checks its digest."""
        if digest in self._made:
            yield self._made[digest]
            return
        with self._open(self._places.get(digest, digest)) as file:
            try:
                while data := file.read(1 << 20):
                    yield data
            except (tarfile.TarError, EOFError, OSError) as error:
                raise InvalidArgument(f"{self._what}: cut short: {error}") from error

    def _layout(self) -> Iterator[Named]:
        """image-spec, image layout: index.json."""
        index = parse(self._read("index.json"), mediatypes.OCI_INDEX)
        names = self._docker_names() if "manifest.json" in self._members else {}
        for entry in index.children:
            name = entry.annotations.get(_NAME, "")
            reference = entry.annotations.get("org.opencontainers.image.ref.name", "")
            if not name and ("/" in reference or ":" in reference):
                name = reference
            if not name:
                name = names.get(entry.digest, "") or reference
            yield Named(name, entry)

    def _docker_names(self) -> dict[str, str]:
        """Nothing ties docker's names to an index's entries but there being one of each."""
        index = parse(self._read("index.json"), mediatypes.OCI_INDEX)
        entries = self._entries()
        if len(index.children) != 1 or len(entries) != 1 or not entries[0].get("RepoTags"):
            return {}
        return {index.children[0].digest: str(entries[0]["RepoTags"][0])}

    def _docker(self) -> Iterator[Named]:
        """``docker save``: manifest.json names a config and layer tars."""
        for entry in self._entries():
            target = self._converted(entry)
            for name in entry.get("RepoTags") or [""]:
                # docker's short names are docker's: complete ones mean the same everywhere
                yield Named(str(parse_reference(str(name))) if name else "", target)

    def _entries(self) -> list[dict[str, Any]]:
        try:
            entries = json.loads(self._read("manifest.json"))
        except ValueError as error:
            raise InvalidArgument(f"{self._what}: manifest.json is not JSON: {error}") from error
        if not isinstance(entries, list) or not all(isinstance(e, dict) for e in entries):
            raise InvalidArgument(f"{self._what}: manifest.json is not a list of objects")
        return entries

    def _converted(self, entry: dict[str, Any]) -> Descriptor:
        """A manifest made for what docker only lists."""
        config = self._read(str(entry.get("Config")))
        document = {
            "schemaVersion": 2,
            "mediaType": mediatypes.DOCKER_MANIFEST,
            "config": self._keep(config, mediatypes.DOCKER_CONFIG),
            "layers": [self._layer(str(name)) for name in entry.get("Layers") or []],
        }
        data = json.dumps(document, separators=(",", ":")).encode()
        return descriptor(self._keep(data, mediatypes.DOCKER_MANIFEST))

    def _keep(self, data: bytes, media_type: str) -> dict[str, Any]:
        digest = digest_of(data)
        self._made[digest] = data
        return {"mediaType": media_type, "digest": digest, "size": len(data)}

    def _layer(self, name: str) -> dict[str, Any]:
        import hashlib

        hasher, size, head = hashlib.sha256(), 0, b""
        with self._open(name) as file:
            while data := file.read(1 << 20):
                head = head or data[:2]
                hasher.update(data)
                size += len(data)
        digest = f"sha256:{hasher.hexdigest()}"
        self._places[digest] = name
        kinds = {"gzip": mediatypes.DOCKER_LAYER_GZIP, "zstd": mediatypes.OCI_LAYER_ZSTD}
        kind = kinds.get(_MAGIC.get(head, ""), mediatypes.DOCKER_LAYER)
        return {"mediaType": kind, "digest": digest, "size": size}

    def _read(self, name: str) -> bytes:
        with self._open(name) as file:
            data = file.read(_DOCUMENT + 1)
        if len(data) > _DOCUMENT:
            raise InvalidArgument(f"{self._what}: {name} is larger than {_DOCUMENT} bytes")
        return data

    def _open(self, name: str) -> IO[bytes]:
        member = self._members.get(name.removeprefix("./"))
        try:
            file = self._tar.extractfile(member) if member is not None else None
        except (KeyError, tarfile.TarError) as error:
            raise InvalidArgument(f"{self._what}: {name}: {error}") from error
        if file is None:
            raise InvalidArgument(f"{self._what}: {name} is not in it", hint="it may be cut short")
        return file
