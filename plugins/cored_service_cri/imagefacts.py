"""Images as Kubernetes names them: by the digest of their config, whatever else they are called."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from cored._pb.cri.v1 import api_pb2 as pb
from cored.abc.records import Image, ImageStore
from cored.engine.images import Images, Unpacked
from cored.errors import CoredError, InvalidArgument, NotFound
from cored.oci.reference import parse as parse_reference

__all__ = ["PINNED", "Facts", "ImageFacts"]

PINNED = "io.cri-containerd.pinned"
_ID = re.compile(r"(?:sha256:)?[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Facts:
    """One image with all its names; ``size`` is that of its blobs."""

    id: str
    unpacked: Unpacked
    size: int
    tags: tuple[str, ...] = ()
    digests: tuple[str, ...] = ()
    names: tuple[str, ...] = field(default=())
    pinned: bool = False

    @property
    def reference(self) -> str:
        """What a container's status calls it: by digest, where it came from a registry."""
        return self.digests[0] if self.digests else self.id

    def message(self) -> pb.Image:
        """As kubelet sees it."""
        found = pb.Image(
            id=self.id,
            repo_tags=self.tags,
            repo_digests=self.digests,
            size=self.size,
            pinned=self.pinned,
        )
        user = self.unpacked.config.user.partition(":")[0] or "0"
        if user.isdecimal():
            found.uid.value = int(user)
        else:
            found.username = user
        return found


class ImageFacts:
    """What is known of images does not change: it is read once for each manifest.

    ``pinned`` are names of images that are pinned whoever brought them, and without a label.
    """

    def __init__(
        self, images: Images, store: ImageStore, pinned: frozenset[str] = frozenset()
    ) -> None:
        self._images = images
        self._store = store
        self._pinned = pinned
        self._known: dict[str, Unpacked] = {}

    async def list(self) -> list[Facts]:
        """All that can run here, each once."""
        grouped: dict[str, list[tuple[Image, Unpacked]]] = {}
        for image in await self._store.list():
            try:
                unpacked = await self._unpacked(image)
            except CoredError:
                continue  # another platform's, or not all of it is here
            grouped.setdefault(unpacked.config_digest, []).append((image, unpacked))
        self._known = {
            digest: unpacked
            for digest, unpacked in self._known.items()
            if unpacked.config_digest in grouped
        }
        return [_facts(id, found, self._pinned) for id, found in grouped.items()]

    async def find(self, name: str) -> Facts:
        """By name or id. NotFound."""
        if not name:
            raise InvalidArgument("image: no name given")
        everything = await self.list()
        if _ID.fullmatch(name):
            wanted = name if name.startswith("sha256:") else f"sha256:{name}"
            found = [one for one in everything if one.id == wanted]
        else:
            whole = str(parse_reference(name))
            found = [one for one in everything if whole in one.names or whole in one.digests]
        if not found:
            raise NotFound(f"image {name!r}: not found", hint="pull it first")
        return found[0]

    async def _unpacked(self, image: Image) -> Unpacked:
        known = self._known.get(image.target.digest)
        if known is None:
            known = self._known[image.target.digest] = await self._images.unpacked(image)
        return known


def _facts(id: str, found: Sequence[tuple[Image, Unpacked]], pinned: frozenset[str]) -> Facts:
    tags, digests, names = [], [], []
    for image, _ in found:
        names.append(image.name)
        try:
            reference = parse_reference(image.name)
        except InvalidArgument:
            continue
        repository = f"{reference.host}/{reference.path}"
        if reference.tag:
            tags.append(f"{repository}:{reference.tag}")
        digests.append(f"{repository}@{image.target.digest}")
    unpacked = found[0][1]
    layers = unpacked.manifest.layers
    return Facts(
        id=id,
        unpacked=unpacked,
        size=unpacked.manifest.config.size + sum(layer.size for layer in layers),
        tags=tuple(dict.fromkeys(tags)),
        digests=tuple(dict.fromkeys(digests)),
        names=tuple(names),
        pinned=any(i.labels.get(PINNED) == "pinned" or i.name in pinned for i, _ in found),
    )
