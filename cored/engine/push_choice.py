"""What of an image a push can send: all of it, or the one platform that is here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from cored.abc.content import ContentStore, read_blob
from cored.abc.records import Image
from cored.engine.image_details import Part, best, parts
from cored.errors import FailedPrecondition, NotFound
from cored.oci import mediatypes, platforms
from cored.oci.manifest import parse

__all__ = ["to_push"]


async def to_push(
    content: ContentStore, image: Image, platform: str = "", *, everything: bool = False
) -> Image:
    """The image as it can be pushed: itself, or one platform's manifest under its name.

    A ``platform`` is pushed alone, as docker does; without one, an index of which parts are absent
    gives way to the one platform that is here, unless ``everything`` is wanted. NotFound;
    FailedPrecondition when several parts are here, and others are not.
    """
    if image.target.media_type not in mediatypes.INDEXES or (everything and not platform):
        return image
    known = await parts(content, image.target)
    whole = [part for part in known if part.whole and part.config is not None]
    there = ", ".join(platforms.format(p.platform) for p in whole if p.platform) or "nothing"
    if platform:
        chosen = best(whole, platform)
        if chosen is None:
            raise NotFound(
                f"image {image.name!r}: {platform} is not here, whole", hint=f"there is {there}"
            )
        return _as(image, chosen)
    if await _complete(content, image, known):
        return image
    if len(whole) == 1:
        return _as(image, whole[0])
    raise FailedPrecondition(
        f"image {image.name!r}: of its platforms only {there} are here",
        hint="name one with --platform, or pull it with --all-platforms",
    )


async def _complete(content: ContentStore, image: Image, known: Sequence[Part]) -> bool:
    """Whether all that the index lists is here."""
    document = parse(await read_blob(content, image.target.digest), image.target.media_type)
    return {entry.digest for entry in document.children} <= {
        part.target.digest for part in known if part.whole
    }


def _as(image: Image, part: Part) -> Image:
    return replace(image, target=replace(part.target, platform=None))
