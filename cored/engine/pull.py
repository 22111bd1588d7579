"""Pull: from a registry to an image that is unpacked, once however many ask for it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cored import scope
from cored.abc.content import ContentStore, write_blob
from cored.abc.records import Image, ImageStore, Lease, LeaseStore, NamespaceStore
from cored.abc.values import Descriptor
from cored.engine.progress import Progress, Report, silent
from cored.engine.registry import Credentials, Registry
from cored.engine.unpack import Unpacker
from cored.errors import AlreadyExists, InvalidArgument
from cored.oci import platforms
from cored.oci.manifest import Index, Manifest, parse, parse_config
from cored.oci.reference import Reference
from cored.oci.reference import parse as parse_reference
from cored.oci.values import Platform
from cored.scope import Scope

__all__ = ["Puller", "child_labels", "end_transfers", "leased", "put_image"]

_TRANSFER = "cored.io/transfer"


@dataclass(slots=True)
class _Flight:
    """A pull under way, and who wants to hear of it."""

    task: asyncio.Task[Image]
    reports: list[Report]


class Puller:
    """``allowed`` may refuse a pull by raising (the plugins' hook cored_image_pull)."""

    def __init__(
        self,
        registry: Registry,
        content: ContentStore,
        images: ImageStore,
        leases: LeaseStore,
        unpacker: Unpacker,
        allowed: Callable[[str, str], None] | None = None,
    ) -> None:
        self._registry = registry
        self._content = content
        self._images = images
        self._leases = leases
        self._unpacker = unpacker
        self._allowed = allowed
        self._flights: dict[tuple[str, ...], _Flight] = {}

    async def pull(
        self,
        reference: str,
        *,
        platform: str = "",
        snapshotter: str = "",
        credentials: Credentials | None = None,
        report: Report = silent,
    ) -> Image:
        """Fetch and unpack an image and give it its name.

        Those who ask for the same at the same time share one transfer; it goes on as long as one
        of them waits. NotFound, Unavailable, PermissionDenied, FailedPrecondition (damaged).
        """
        parsed = parse_reference(reference)
        wanted = platforms.parse(platform)
        namespace = scope.namespace()
        if self._allowed is not None:
            self._allowed(namespace, str(parsed))
        user = credentials.username if credentials else ""
        key = (namespace, str(parsed), platforms.format(wanted), snapshotter, user)
        flight = self._flights.get(key)
        if flight is None:
            reports: list[Report] = []

            def tell(progress: Progress) -> None:
                for each in tuple(reports):
                    each(progress)

            task = asyncio.create_task(
                self._leased(parsed, wanted, snapshotter, credentials, tell), name=f"pull {parsed}"
            )
            flight = self._flights[key] = _Flight(task, reports)
            task.add_done_callback(lambda _: self._flights.pop(key, None))
        return await _joined(flight, report)

    async def _leased(
        self,
        reference: Reference,
        platform: Platform,
        snapshotter: str,
        user: Credentials | None,
        report: Report,
    ) -> Image:
        async with leased(self._leases, "pull"):
            return await self._pull(reference, platform, snapshotter, user, report)

    async def _pull(
        self,
        reference: Reference,
        platform: Platform,
        snapshotter: str,
        user: Credentials | None,
        report: Report,
    ) -> Image:
        self._unpacker.snapshotter(snapshotter)
        report(Progress(str(reference), "resolving"))
        resolved = await self._registry.resolve(reference, user)
        source = {f"containerd.io/distribution.source.{reference.host}": reference.path}
        document = parse(resolved.data, resolved.descriptor.media_type)
        await self._store(resolved.descriptor, resolved.data, document, source)
        if isinstance(document, Index):
            chosen = document.choose(reference.familiar, platform)
            data = await self._registry.fetch(reference, chosen, user)
            document = parse(data, chosen.media_type)
            await self._store(chosen, data, document, source)
        if not isinstance(document, Manifest):
            raise InvalidArgument(f"image {reference.familiar}: an index in an index")
        data = await self._registry.blob(reference, document.config, user)
        config = parse_config(data)
        await self._store(document.config, data, None, source)
        if platforms.rank(platform, config.platform) is None and config.platform.architecture:
            raise InvalidArgument(
                f"image {reference.familiar}: is for {platforms.format(config.platform)},"
                f" not for {platforms.format(platform)}",
                hint="name its platform with --platform",
            )

        async def locate(blob: Descriptor) -> tuple[str, Mapping[str, str]]:
            return await self._registry.source(reference, blob, user)

        await self._unpacker.unpack(
            document, config, snapshotter=snapshotter, locate=locate, report=report
        )
        return await put_image(self._images, Image(str(reference), resolved.descriptor))

    async def _store(
        self,
        target: Descriptor,
        data: bytes,
        document: Manifest | Index | None,
        labels: Mapping[str, str],
    ) -> None:
        await write_blob(
            self._content,
            f"{target.digest}",
            data,
            expected=target.digest,
            labels={**labels, **(child_labels(document) if document else {})},
        )


async def _joined(flight: _Flight, report: Report) -> Image:
    """Wait for a flight; the last one to leave ends it."""
    flight.reports.append(report)
    try:
        return await asyncio.shield(flight.task)
    finally:
        flight.reports.remove(report)
        if not flight.reports and not flight.task.done():
            flight.task.cancel()
            await asyncio.wait([flight.task])


def child_labels(document: Manifest | Index) -> dict[str, str]:
    """The labels by which a manifest or index keeps its children from collection."""
    prefix = "containerd.io/gc.ref.content"
    if isinstance(document, Index):
        return {f"{prefix}.m.{n}": child.digest for n, child in enumerate(document.manifests)}
    layers = {f"{prefix}.l.{n}": layer.digest for n, layer in enumerate(document.layers)}
    return {f"{prefix}.config": document.config.digest, **layers}


async def put_image(images: ImageStore, record: Image) -> Image:
    """Create the image, or let its name point to the new target."""
    try:
        return await images.create(record)
    except AlreadyExists:
        return await images.update(record, ("target",))


async def end_transfers(leases: LeaseStore, namespaces: NamespaceStore) -> None:
    """Drop the leases of transfers that an earlier daemon died in; collection does the rest."""
    for namespace in await namespaces.list():
        with scope.entered(Scope(namespace.name)):
            for lease in await leases.list([f'labels."{_TRANSFER}"']):
                await leases.delete(lease.id)


class leased:
    """Everything made in the body belongs to a lease, which goes at the end."""

    def __init__(self, leases: LeaseStore, what: str) -> None:
        self._leases = leases
        self._id = f"{what}-{time.time_ns()}"
        self._before: Scope | None = None

    async def __aenter__(self) -> None:
        expiry = datetime.now(UTC) + timedelta(hours=24)
        labels = {"containerd.io/gc.expire": expiry.isoformat(), _TRANSFER: self._id}
        await self._leases.create(Lease(self._id, labels))
        self._before = scope.current()
        scope.enter(Scope(self._before.namespace, self._id))

    async def __aexit__(self, *_: object) -> None:
        scope.enter(self._before)
        await asyncio.shield(self._leases.delete(self._id))
