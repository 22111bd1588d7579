"""Images as people name them: by reference, short name or id; and what is in them."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass

from cored.abc.content import ContentStore, read_blob
from cored.abc.records import Image, ImageStore
from cored.abc.values import Descriptor
from cored.errors import InvalidArgument, NotFound
from cored.oci import platforms
from cored.oci.chainid import chain_ids
from cored.oci.manifest import ImageConfig, Index, Manifest, parse, parse_config
from cored.oci.reference import parse as parse_reference

__all__ = ["Images", "Unpacked"]

_ID = re.compile(r"(?:sha256:)?[0-9a-f]{6,64}")


@dataclass(frozen=True, slots=True)
class Unpacked:
    """One platform's image: its parts, and the name of its snapshot."""

    manifest: Manifest
    config: ImageConfig
    config_digest: str
    chain_id: str


class Images:
    """What the stores know about images, put together."""

    def __init__(
        self,
        images: ImageStore,
        content: ContentStore,
    ) -> None:
        self._images = images
        self._content = content

    async def resolve(self, name: str) -> Image:
        """The image that ``name`` means: a reference, complete or short, or (part of) an id."""
        candidates = [name]
        try:
            candidates.append(str(parse_reference(name)))
        except InvalidArgument:
            if not _ID.fullmatch(name):
                raise
        for candidate in candidates:
            try:
                return await self._images.get(candidate)
            except NotFound:
                continue
        if _ID.fullmatch(name):
            return await self._by_id(name)
        raise NotFound(f"image {name!r}: not found", hint=f"pull it with: corectl pull {name}")

    async def unpacked(self, image: Image, platform: str = "") -> Unpacked:
        """The image's manifest and config for a platform. NotFound for what is not here."""
        wanted = platforms.parse(platform)
        target: Descriptor = image.target
        document = await self._document(target)
        if isinstance(document, Index):
            target = document.choose(image.name, wanted)
            document = await self._document(target)
        if not isinstance(document, Manifest):
            raise InvalidArgument(f"image {image.name!r}: an index in an index")
        config = parse_config(await read_blob(self._content, document.config.digest))
        chain = chain_ids(config.diff_ids)
        return Unpacked(document, config, document.config.digest, chain[-1] if chain else "")

    async def _document(self, target: Descriptor) -> Manifest | Index:
        return parse(await read_blob(self._content, target.digest), target.media_type)

    async def _by_id(self, prefix: str) -> Image:
        """By the beginning of the target's digest, or of the config's."""
        wanted = prefix if prefix.startswith("sha256:") else f"sha256:{prefix}"
        found = []
        for image in await self._images.list():
            digests = [image.target.digest]
            with suppress(NotFound):  # another platform's: its target still names it
                digests.append((await self.unpacked(image)).config_digest)
            if any(digest.startswith(wanted) for digest in digests):
                found.append(image)
        if not found:
            raise NotFound(f"image {prefix!r}: not found", hint="see: corectl images")
        if len({image.target.digest for image in found}) > 1:
            names = ", ".join(image.name for image in found[:3])
            raise InvalidArgument(f"image id {prefix!r}: is ambiguous", hint=f"it fits {names}")
        return found[0]
