"""What all transfers of images share: their leases, and the labels that keep what they bring."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

from cored import scope
from cored.abc.records import Image, ImageStore, Lease, LeaseStore, NamespaceStore
from cored.errors import AlreadyExists, NotFound, Unavailable
from cored.oci.manifest import Index, Manifest
from cored.oci.reference import Reference
from cored.scope import Scope

__all__ = ["child_labels", "end_transfers", "leased", "put_images", "source_label"]

_TRANSFER = "cored.io/transfer"
_INTERRUPTED = "cored.io/interrupted"
_LIFE = timedelta(hours=24)
_ONCE = "once"
# snapshots that are being made, or looked at; never worth keeping
_PASSING = ("extract-", "look-", "check-")


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
    fields = ("target", "labels") if record.labels else ("target",)
    while True:
        with suppress(NotFound):
            return await images.update(record, fields)
        with suppress(AlreadyExists):  # somebody was quicker
            return await images.create(record)


async def end_transfers(leases: LeaseStore, namespaces: NamespaceStore) -> None:
    """Settle the transfers that an earlier daemon died in; collection does the rest.

    What came for one that can be asked for again is kept for that (a day at most), half a blob
    too; all else is let go of.
    """
    for namespace in await namespaces.list():
        with scope.entered(Scope(namespace.name)):
            for lease in await leases.list([f'labels."{_TRANSFER}"']):
                await _keep(leases, lease)
                await leases.delete(lease.id)


async def _keep(leases: LeaseStore, dead: Lease) -> None:
    subject = dead.labels[_TRANSFER]
    held = await leases.resources(dead.id)
    wanted = [
        resource
        for resource in held
        if not (resource.type.startswith("snapshots/") and resource.id.startswith(_PASSING))
    ]
    if subject == _ONCE or not wanted:
        return
    kept = Lease(f"interrupted-{dead.id}", {**_expiring(), _INTERRUPTED: subject})
    with suppress(AlreadyExists):  # it died here, too
        await leases.create(kept)
    await leases.add(kept.id, *wanted)


class leased:
    """Everything made in the body belongs to a lease, which goes at the end.

    A caller who brought a lease of his own keeps what comes for as long as he likes. Should the
    daemon die in the body, or the network or the caller go away, what came for a ``subject`` waits
    for the next one with the same ``subject``, which takes it over and lets go of it when it
    succeeds.
    """

    def __init__(self, leases: LeaseStore, what: str, subject: str = _ONCE) -> None:
        self._leases = leases
        self._id = f"{what}-{time.time_ns()}"
        self._subject = subject
        self._before: Scope | None = None

    async def __aenter__(self) -> None:
        current = scope.current()
        if current.lease is not None:
            return
        labels = {**_expiring(), _TRANSFER: self._subject}
        await self._leases.create(Lease(self._id, labels), durable=False)
        self._before = current
        scope.enter(Scope(current.namespace, self._id, passing=True))

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._before is None:
            return
        scope.enter(self._before)
        await asyncio.shield(self._end(kind))

    async def _end(self, failure: type[BaseException] | None) -> None:
        if failure is not None and issubclass(failure, Unavailable | asyncio.CancelledError):
            await _keep(self._leases, Lease(self._id, {_TRANSFER: self._subject}))
        await self._leases.delete(self._id, durable=False)
        if failure is None and self._subject != _ONCE:
            before = f"labels.{json.dumps(_INTERRUPTED)}=={json.dumps(self._subject)}"
            for lease in await self._leases.list([before]):
                with suppress(NotFound):  # another one like this has just ended
                    await self._leases.delete(lease.id)


def _expiring() -> dict[str, str]:
    return {"containerd.io/gc.expire": (datetime.now(UTC) + _LIFE).isoformat()}
