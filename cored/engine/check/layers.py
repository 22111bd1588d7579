"""Which snapshots are images' layers: found by the manifests in the content store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from cored import scope
from cored.abc.content import ContentStore, read_blob
from cored.abc.values import Descriptor
from cored.errors import CoredError
from cored.metadata.inventory import Inventory
from cored.oci import mediatypes
from cored.oci.chainid import chain_ids
from cored.oci.manifest import ImageConfig, Index, Manifest, parse, parse_config
from cored.scope import Scope

__all__ = ["Known", "Unpackable", "known"]

_REFERS = "containerd.io/gc.ref.content"


@dataclass(frozen=True, slots=True)
class Unpackable:
    """A manifest and what its layers are called when they are unpacked, the bottom one first."""

    manifest: Manifest
    config: ImageConfig
    chain: tuple[str, ...]


@dataclass(slots=True)
class Known:
    """Of one namespace: images, and by chain id the blob of the topmost layer."""

    images: list[Unpackable] = field(default_factory=list)
    layers: dict[str, Descriptor] = field(default_factory=dict)
    described: dict[str, Descriptor] = field(default_factory=dict)
    """What manifests and indexes say of blobs, by digest."""


async def known(inventory: Inventory, content: ContentStore) -> dict[str, Known]:
    """What each namespace's content says. What cannot be read is left out: it is damaged."""
    found: dict[str, Known] = {}
    for rows in inventory.blobs().values():
        for row in rows:
            if any(label.startswith(_REFERS) for label in row.labels):
                with scope.entered(Scope(row.namespace)):
                    await _document(content, row.digest, found.setdefault(row.namespace, Known()))
    return found


async def _document(content: ContentStore, digest: str, into: Known) -> None:
    try:
        document = parse(await read_blob(content, digest))
    except CoredError:
        return
    into.described.update((child.digest, child) for child in document.children)
    if isinstance(document, Index) or document.config.media_type not in mediatypes.CONFIGS:
        return
    try:
        config = parse_config(await read_blob(content, document.config.digest))
    except CoredError:
        return
    layers: Sequence[Descriptor] = [
        layer for layer in document.layers if mediatypes.is_layer(layer.media_type)
    ]
    chain = chain_ids(config.diff_ids)
    if len(layers) == len(chain):
        into.images.append(Unpackable(document, config, tuple(chain)))
        into.layers.update(zip(chain, layers, strict=True))
