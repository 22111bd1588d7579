"""What all transfers of images share: their leases, and the labels that keep what they bring."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

from cored import scope
from cored.abc.records import Image, ImageStore, Lease, LeaseStore, NamespaceStore
from cored.errors import AlreadyExists, NotFound
from cored.oci.manifest import Index, Manifest
from cored.oci.reference import Reference
from cored.scope import Scope

__all__ = ["child_labels", "end_transfers", "leased", "put_images", "source_label"]

_TRANSFER = "cored.io/transfer"


def child_labels(document: Manifest | Index) -> dict[str, str]:
    """The labels by which a manifest or index keeps its children from collection."""
    prefix = "containerd.io/gc.ref.content"
    if isinstance(document, Index):
        return {f"{prefix}.m.{n}": child.digest for n, child in enumerate(document.manifests)}
    layers = {f"{prefix}.l.{n}": layer.digest for n, layer in enumerate(document.layers)}
    return {f"{prefix}.config": document.config.digest, **layers}


def source_label(reference: Reference) -> str:
    """The label of a blob with the repositories that it came from; its key has no port, as clients
    of containerd know it."""
    return f"containerd.io/distribution.source.{urlsplit(f'//{reference.host}').hostname}"


async def put_images(images: ImageStore, records: Sequence[Image]) -> list[Image]:
    """Create the records; a name that is there comes to point to the new target."""
    return [await _put(images, record) for record in records]


async def _put(images: ImageStore, record: Image) -> Image:
    while True:
        try:
            return await images.create(record)
        except AlreadyExists:
            fields = ("target", "labels") if record.labels else ("target",)
            try:
                return await images.update(record, fields)
            except NotFound:
                continue  # it was removed in between


async def end_transfers(leases: LeaseStore, namespaces: NamespaceStore) -> None:
    """Drop the leases of transfers that an earlier daemon died in; collection does the rest."""
    for namespace in await namespaces.list():
        with scope.entered(Scope(namespace.name)):
            for lease in await leases.list([f'labels."{_TRANSFER}"']):
                await leases.delete(lease.id)


class leased:
    """Everything made in the body belongs to a lease, which goes at the end.

    A caller who brought a lease of his own keeps what comes for as long as he likes.
    """

    def __init__(self, leases: LeaseStore, what: str) -> None:
        self._leases = leases
        self._id = f"{what}-{time.time_ns()}"
        self._before: Scope | None = None

    async def __aenter__(self) -> None:
        current = scope.current()
        if current.lease is not None:
            return
        expiry = datetime.now(UTC) + timedelta(hours=24)
        labels = {"containerd.io/gc.expire": expiry.isoformat(), _TRANSFER: self._id}
        await self._leases.create(Lease(self._id, labels))
        self._before = current
        scope.enter(Scope(current.namespace, self._id))

    async def __aexit__(self, *_: object) -> None:
        if self._before is None:
            return
        scope.enter(self._before)
        await asyncio.shield(self._leases.delete(self._id))
