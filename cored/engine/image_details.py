"""What is known of images beyond their names: platforms that are here, configs, sizes, filters."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from cored.abc.content import ContentStore, read_blob
from cored.abc.records import Image, ImageStore
from cored.abc.values import Descriptor, Labels
from cored.engine.image_filters import ImageFilters
from cored.engine.images import Images
from cored.engine.snapshotters import Snapshotters
from cored.errors import NotFound
from cored.oci import mediatypes, platforms
from cored.oci.chainid import chain_ids
from cored.oci.manifest import ImageConfig, Index, Manifest, parse, parse_config
from cored.oci.values import Platform

__all__ = ["ImageDetails", "Inspection", "LayerSize", "Part", "Summary", "best", "parts"]

_DEPTH = 4  # indexes in indexes


@dataclass(frozen=True, slots=True)
class Part:
    """One platform's manifest that is here; ``config`` is None for an artifact.

    ``whole`` tells that its layers are here, too.
    """

    target: Descriptor
    manifest: Manifest
    config: ImageConfig | None
    whole: bool

    @property
    def platform(self) -> Platform | None:
        """What it is for, as far as it says so."""
        if self.target.platform is not None:
            return self.target.platform
        return self.config.platform if self.config and self.config.platform.architecture else None


@dataclass(frozen=True, slots=True)
class Summary:
    """A line of a listing; ``size`` is bytes of the unpacked layers."""

    image: Image
    size: int = 0
    config_digest: str = ""
    created: str = ""
    labels: Labels = field(default_factory=dict)
    platform: str = ""


@dataclass(frozen=True, slots=True)
class LayerSize:
    """A layer: its blob, and what its files take (0 when not unpacked), bytes."""

    blob: Descriptor
    diff_id: str
    unpacked: int


@dataclass(frozen=True, slots=True)
class Inspection:
    """Everything about one platform of an image."""

    image: Image
    names: tuple[str, ...]
    part: Part
    config: bytes
    layers: tuple[LayerSize, ...]
    platforms: tuple[str, ...]


async def parts(content: ContentStore, target: Descriptor) -> list[Part]:
    """The manifests below ``target`` that the store has, in the index's order."""
    return [part async for part in _parts(content, target, _DEPTH)]


async def _parts(content: ContentStore, target: Descriptor, depth: int) -> AsyncIterator[Part]:
    try:
        document = parse(await read_blob(content, target.digest), target.media_type)
    except NotFound:
        return
    if isinstance(document, Index):
        for entry in document.manifests:
            if depth and entry.media_type in mediatypes.INDEXES | mediatypes.MANIFESTS:
                async for part in _parts(content, entry, depth - 1):
                    yield part
        return
    config = None
    with suppress(NotFound):
        if document.config.media_type in mediatypes.CONFIGS:
            config = parse_config(await read_blob(content, document.config.digest))
    stored = [c for c in document.children if not mediatypes.is_foreign(c.media_type)]
    yield Part(target, document, config, await _all_here(content, stored))


async def _all_here(content: ContentStore, blobs: Sequence[Descriptor]) -> bool:
    try:
        for blob in blobs:
            await content.info(blob.digest)
    except NotFound:
        return False
    return True


class ImageDetails:
    """Looks into images for listings and inspections."""

    def __init__(
        self,
        images: Images,
        store: ImageStore,
        content: ContentStore,
        snapshotters: Snapshotters,
    ) -> None:
        self._images = images
        self._store = store
        self._content = content
        self._snapshotters = snapshotters

    async def list(self, filters: Sequence[str] = ()) -> list[Summary]:
        """All images that pass docker's filters. InvalidArgument; NotFound (before=, since=)."""
        wanted = await ImageFilters.parsed(filters, self._created)
        found = []
        for image in await self._store.list():
            summary = await self.summary(image)
            if wanted.pass_(image.name, summary.created, summary.labels):
                found.append(summary)
        return found

    async def summary(self, image: Image) -> Summary:
        """A listing's line; what is not here stays empty."""
        part = best(await parts(self._content, image.target))
        if part is None or part.config is None:
            return Summary(image)
        config = part.config
        return Summary(
            image,
            sum([await self.usage(name) for name in chain_ids(config.diff_ids)]),
            part.manifest.config.digest,
            config.created,
            config.labels,
            platforms.format(config.platform),
        )

    async def inspect(self, name: str, platform: str = "") -> Inspection:
        """NotFound, also for a platform that is not here."""
        image = await self._images.resolve(name)
        known = await parts(self._content, image.target)
        part = best(known, platform)
        if part is None:
            there = ", ".join(platforms.format(p.platform) for p in known if p.platform)
            raise NotFound(
                f"image {name!r}: {platform or 'nothing of it'} is not here",
                hint=f"there is {there}" if there else f"pull it with: corectl pull {name}",
            )
        config = await read_blob(self._content, part.manifest.config.digest)
        names = [i.name for i in await self._store.list() if i.target.digest == image.target.digest]
        return Inspection(
            image,
            tuple(sorted(names)),
            part,
            config,
            tuple([size async for size in self._layers(part)]),
            tuple(platforms.format(p.platform) for p in known if p.platform and p.whole),
        )

    async def _layers(self, part: Part) -> AsyncIterator[LayerSize]:
        diff_ids = part.config.diff_ids if part.config else ()
        chain = chain_ids(diff_ids)
        for number, layer in enumerate(part.manifest.layers):
            known = number < len(chain)
            usage = await self.usage(chain[number]) if known else 0
            yield LayerSize(layer, diff_ids[number] if known else "", usage)

    async def usage(self, chain_id: str) -> int:
        """Bytes of one layer, unpacked; 0 when it is not."""
        try:
            _, snapshotter = await self._snapshotters.choose()
            return (await snapshotter.usage(chain_id)).size
        except NotFound:
            return 0

    async def _created(self, name: str) -> str:
        """When the image of a filter was made."""
        return (await self.summary(await self._images.resolve(name))).created


def best(known: Sequence[Part], platform: str = "") -> Part | None:
    """The part for a platform; without one the host's, or else the first that is an image."""
    wanted = platforms.parse(platform)
    ranked = []
    for number, part in enumerate(known):
        if part.target.annotations.get("vnd.docker.reference.type") == "attestation-manifest":
            continue
        rank = platforms.rank(wanted, part.platform) if part.platform else 1000
        if rank is None and not platform:
            rank = 2000
        if rank is not None:
            ranked.append((not part.whole, rank, number, part))
    if platform and not ranked and known:
        return None
    return min(ranked, key=lambda each: each[:3])[3] if ranked else None
