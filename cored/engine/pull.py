"""Pull: from a registry to an image that is unpacked, once however many ask for it."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable
from dataclasses import dataclass

from cored import scope
from cored.abc.content import ContentStore, read_blob, write_blob
from cored.abc.records import Image, ImageStore, LeaseStore
from cored.abc.values import Descriptor
from cored.engine.gather import together
from cored.engine.layers import Origin
from cored.engine.naming import Naming
from cored.engine.policy import Policy
from cored.engine.progress import Progress, Report, silent
from cored.engine.registry import (
    ANONYMOUS,
    Access,
    Registry,
    Session,
    document,
    resolve,
    small_blob,
)
from cored.engine.selection import Selection, single
from cored.engine.transfers import child_labels, leased, put_images, source_label
from cored.engine.unpack import Unpacker
from cored.errors import InvalidArgument, NotFound
from cored.oci import mediatypes, platforms
from cored.oci.manifest import ImageConfig, Index, Manifest, parse, parse_config
from cored.oci.reference import Reference
from cored.oci.reference import parse as parse_reference

__all__ = ["Puller"]

_DEPTH = 4  # indexes in indexes


@dataclass(slots=True)
class _Flight:
    """A pull under way, and who wants to hear of it."""

    task: asyncio.Task[list[Image]]
    reports: list[Report]


class Puller:
    """``policy`` is asked by reference at first, then for each manifest before it is kept."""

    def __init__(
        self,
        registry: Registry,
        content: ContentStore,
        images: ImageStore,
        leases: LeaseStore,
        unpacker: Unpacker,
        policy: Policy,
    ) -> None:
        self._registry = registry
        self._content = content
        self._images = images
        self._leases = leases
        self._unpacker = unpacker
        self._policy = policy
        self._flights: dict[Hashable, _Flight] = {}

    async def pull(
        self,
        reference: str,
        selection: Selection | None = None,
        *,
        naming: Naming | None = None,
        access: Access = ANONYMOUS,
        report: Report = silent,
    ) -> list[Image]:
        """Fetch an image, unpack what ``selection`` says, and give it its names.

        Without ``selection`` it is this machine's platform, unpacked; without ``naming`` the
        reference is the name. Those who ask for the same at the same time share one transfer; it
        goes on as long as one of them waits. NotFound, Unavailable, PermissionDenied,
        FailedPrecondition (damaged).
        """
        parsed = parse_reference(reference)
        self._policy.check_reference(str(parsed))
        selection = selection or single("")
        naming = naming or Naming(str(parsed))
        who = (access.identity, access.scheme, access.hosts, tuple(sorted(access.headers.items())))
        names = (naming.name, tuple(sorted(naming.labels.items())), naming.extras)
        key = (scope.current(), str(parsed), selection, names, who)
        flight = self._flights.get(key)
        if flight is None:
            reports: list[Report] = []

            def tell(progress: Progress) -> None:
                for each in tuple(reports):
                    each(progress)

            work = self._leased(parsed, access, selection, naming, tell)
            task = asyncio.create_task(work, name=f"pull {parsed}")
            flight = self._flights[key] = _Flight(task, reports)
            task.add_done_callback(lambda _: self._flights.pop(key, None))
        return await _joined(flight, report)

    async def _leased(
        self,
        reference: Reference,
        access: Access,
        selection: Selection,
        naming: Naming,
        report: Report,
    ) -> list[Image]:
        async with leased(self._leases, "pull", str(reference)):
            for unpack in selection.unpacks:
                await self._unpacker.snapshotter(unpack.snapshotter)
            session = await self._registry.session(reference, access)
            pull = _Pull(session, self._content, self._unpacker, self._policy, report)
            target = await pull.run(selection)
            return await put_images(self._images, naming.records(target))


class _Pull:
    """One transfer from one registry."""

    def __init__(
        self,
        session: Session,
        content: ContentStore,
        unpacker: Unpacker,
        policy: Policy,
        report: Report,
    ) -> None:
        self._session = session
        self._content = content
        self._unpacker = unpacker
        self._policy = policy
        self.reference = session.reference
        self._report = report
        self._source = {source_label(self.reference): self.reference.path}
        settings = session.settings
        self._origin = Origin(
            session.located, self._source, settings.connections, settings.attempts
        )
        self._runnable: bool | None = None

    async def run(self, selection: Selection) -> Descriptor:
        """Bring everything in; the target."""
        self._report(Progress(str(self.reference), "resolving"))
        resolved = await resolve(self._session)
        await self._document(resolved.descriptor, resolved.data, selection, _DEPTH)
        if selection.unpacks and self._runnable is False:
            wanted = ", ".join(platforms.format(u.platform) for u in selection.unpacks)
            raise InvalidArgument(
                f"image {self.reference.familiar}: is not for {wanted}",
                hint="name its platform with --platform",
            )
        return resolved.descriptor

    async def _document(
        self, target: Descriptor, data: bytes, selection: Selection, depth: int
    ) -> None:
        document = parse(data, target.media_type)
        await self._policy.check_manifest(str(self.reference), target, data)
        await self._store(target, data, document)
        if isinstance(document, Manifest):
            await self._manifest(target, document, selection)
            return
        if not depth:
            raise InvalidArgument(f"image {self.reference.familiar}: too many nested indexes")
        chosen = selection.manifests(document, self.reference.familiar)
        # one that no platform can be told of (an artifact, an attestation) is not looked into
        work = [self._child(entry, selection, depth - 1) for entry in chosen]
        if selection.metadata:
            work += [self._metadata(entry) for entry in document.manifests if entry not in chosen]
        await together(work)

    async def _child(self, entry: Descriptor, selection: Selection, depth: int) -> None:
        if entry.media_type in mediatypes.INDEXES | mediatypes.MANIFESTS:
            await self._document(entry, await self._fetched(entry), selection, depth)
        else:
            await self._unpacker.fetch(entry, self._origin, self._report)

    async def _metadata(self, entry: Descriptor) -> None:
        """Manifest and config of a platform whose layers nobody wants."""
        if entry.media_type not in mediatypes.MANIFESTS:
            return
        data = await self._fetched(entry)
        document = parse(data, entry.media_type)
        await self._store(entry, data, document)
        if isinstance(document, Manifest):
            await self._config(document)

    async def _manifest(self, target: Descriptor, manifest: Manifest, selection: Selection) -> None:
        data = await self._config(manifest)
        config = _image_config(manifest, data)
        platform = config.platform if config and config.platform.architecture else target.platform
        wanted = selection.unpack(platform) if platform else selection.unpacks
        if config is None:  # an artifact, which is for no platform
            wanted = ()
        elif selection.unpacks:
            self._runnable = self._runnable or bool(wanted)
        if config is not None and wanted:
            for unpack in wanted:
                await self._unpacker.unpack(
                    manifest, config,
                    snapshotter=unpack.snapshotter, origin=self._origin, report=self._report,
                )  # fmt: skip
            return
        await together(
            self._unpacker.fetch(layer, self._origin, self._report) for layer in manifest.layers
        )

    async def _config(self, manifest: Manifest) -> bytes:
        try:
            data = await read_blob(self._content, manifest.config.digest)
        except NotFound:
            data = await small_blob(self._session, manifest.config)
        await self._store(manifest.config, data, None)
        return data

    async def _fetched(self, entry: Descriptor) -> bytes:
        """A manifest that is here already, or else from the registry."""
        try:
            return await read_blob(self._content, entry.digest)
        except NotFound:
            return (await document(self._session, entry.digest, wanted=entry)).data

    async def _store(
        self, target: Descriptor, data: bytes, document: Manifest | Index | None
    ) -> None:
        children = document.children if document else ()
        self._report(Progress(target.digest, "done", target.size, target.size, target, children))
        await write_blob(
            self._content,
            f"{target.digest}",
            data,
            expected=target.digest,
            labels={**self._source, **(child_labels(document) if document else {})},
        )


def _image_config(manifest: Manifest, data: bytes) -> ImageConfig | None:
    """The config of an image; None for an artifact's."""
    if manifest.config.media_type not in mediatypes.CONFIGS:
        return None
    return parse_config(data)


async def _joined(flight: _Flight, report: Report) -> list[Image]:
    """Wait for a flight; the last one to leave ends it."""
    flight.reports.append(report)
    try:
        return await asyncio.shield(flight.task)
    finally:
        flight.reports.remove(report)
        if not flight.reports and not flight.task.done():
            flight.task.cancel()
            await asyncio.wait([flight.task])
