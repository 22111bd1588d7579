"""Repair: blobs fetched again from where they came, snapshots unpacked again from their blobs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import NamedTemporaryFile

from cored import scope
from cored.abc.content import ContentStore
from cored.abc.records import LeaseStore, Resource
from cored.abc.snapshots import Kind, Snapshotter
from cored.abc.values import Descriptor
from cored.archive.jobs import LayerJob, Source
from cored.archive.pool import WorkerPool
from cored.engine.check.layers import Known
from cored.engine.registry import Access, Registry, document
from cored.engine.transfers import source_label
from cored.engine.unpack import Unpacker
from cored.errors import CoredError, InvalidArgument, NotFound
from cored.metadata.graph import Node
from cored.metadata.inventory import BlobRow, Inventory, SnapshotRow
from cored.oci import mediatypes
from cored.oci.reference import Reference, parse

__all__ = ["Repairer"]

_SOURCE = "containerd.io/distribution.source."


class Repairer:
    """``spool`` is a directory for blobs on their way."""

    def __init__(
        self,
        inventory: Inventory,
        content: ContentStore,
        snapshotters: Mapping[str, Snapshotter],
        leases: LeaseStore,
        registry: Registry,
        unpacker: Unpacker,
        pool: WorkerPool,
        spool: Path,
    ) -> None:
        self._inventory = inventory
        self._content = content
        self._snapshotters = snapshotters
        self._leases = leases
        self._registry = registry
        self._unpacker = unpacker
        self._pool = pool
        self._spool = spool

    async def blob(self, rows: Sequence[BlobRow], said: Descriptor | None, access: Access) -> str:
        """Fetch a blob again; why that cannot be done, '' when it is whole again."""
        digest = rows[0].digest
        wanted = said or Descriptor("", digest, rows[0].size)
        why = "nobody knows where it came from: pull or import its image again"
        for reference in self._references(rows, digest):
            try:
                with NamedTemporaryFile(dir=self._spool, prefix="repair-") as file:
                    await self._fetch(reference, wanted, access, Path(file.name))
                    await self._inventory.replace(digest, wanted.size, Path(file.name))
            except CoredError as error:
                why = str(error)
            else:
                return ""
        return why

    def _references(self, rows: Sequence[BlobRow], digest: str) -> Iterator[Reference]:
        """Where a blob is known to be: labels have no port, the names of images do."""
        named: list[Reference] = []
        for name in self._inventory.image_names():
            with suppress(InvalidArgument):  # not everything that is called something is pulled
                named.append(parse(name))
        found = set()
        for label, path in _sources(rows):
            hosts = [r.host for r in named if r.path == path and source_label(r) == label]
            for host in (*hosts, label.removeprefix(_SOURCE)):
                if (host, path) not in found:
                    found.add((host, path))
                    yield Reference(host, path, digest=digest)

    async def _fetch(
        self, reference: Reference, wanted: Descriptor, access: Access, target: Path
    ) -> None:
        """The blob into a file, verified."""
        session = await self._registry.session(reference, access)
        if wanted.media_type in mediatypes.INDEXES | mediatypes.MANIFESTS or not wanted.media_type:
            try:
                found = await document(session, wanted.digest, wanted=wanted)
                target.write_bytes(found.data)
                return
            except NotFound:
                if wanted.media_type:
                    raise
        located = session.located(wanted)
        source = Source(str(target), located.routes)
        job = LayerJob(source, wanted.media_type, wanted.digest, wanted.size, "")
        await self._pool.run(job, renew=located.renew)

    async def snapshots(
        self, id: str, damaged: Sequence[SnapshotRow], known: Known
    ) -> dict[Node, str]:
        """Unpack damaged layers of one namespace and snapshotter again, under a lease; by node,
        why not.

        All that stands on them goes with them, and comes again; where that is a container's, or
        somebody's view, nothing is touched.
        """
        rows = [r for r in self._inventory.snapshots() if r.node[:2] == damaged[0].node[:2]]
        outcome: dict[Node, str] = {}
        gone: set[str] = set()
        for bad in damaged:
            above = _above(rows, bad)
            used = next((r for r in above if r.kind is not Kind.COMMITTED), None)
            unknown = next((r for r in above if r.key not in known.layers), None)
            if used is not None:
                outcome[bad.node] = f"in use by {self._user(used)}: remove that first"
            elif unknown is not None:
                outcome[bad.node] = f"{unknown.key!r} is no layer of an image that is here"
            else:
                gone.update(row.key for row in above)
                outcome[bad.node] = ""
        why = await self._again(id, [row.key for row in reversed(rows) if row.key in gone], known)
        return {node: text or why for node, text in outcome.items()}

    async def _again(self, id: str, keys: Sequence[str], known: Known) -> str:
        """Remove the snapshots (children come first) and unpack every image that had one.

        Images keep their layers by the topmost: what stays below is held meanwhile.
        """
        images = [image for image in known.images if not set(keys).isdisjoint(image.chain)]
        lease = scope.current().lease or ""
        try:
            for key in {key for image in images for key in image.chain}.difference(keys):
                await self._leases.add(lease, Resource(key, f"snapshots/{id}"))
            for key in keys:
                with suppress(NotFound):  # collected, its child being gone
                    await self._snapshotters[id].remove(key)
            for image in images:
                await self._unpacker.unpack(image.manifest, image.config, snapshotter=id)
        except CoredError as error:
            return str(error)
        return ""

    def _user(self, row: SnapshotRow) -> str:
        """Who an active snapshot or view is for."""
        users = self._inventory.users([row.node])[row.node]
        user = next((node for node in users if node.type == "container"), None)
        return f"container {user.id}" if user else f"snapshot {row.key!r}"


def _sources(rows: Sequence[BlobRow]) -> Iterator[tuple[str, str]]:
    """Labels of registries, and repositories that a blob is known to be in."""
    found = dict.fromkeys(
        (label, path)
        for row in rows
        for label, paths in row.labels.items()
        if label.startswith(_SOURCE)
        for path in paths.split(",")
        if path
    )
    yield from found


def _above(rows: Sequence[SnapshotRow], bottom: SnapshotRow) -> list[SnapshotRow]:
    """A snapshot and all that stand on it; ``rows`` come parents first."""
    keys = {bottom.key}
    found = []
    for row in rows:
        if row.key in keys or row.parent in keys:
            keys.add(row.key)
            found.append(row)
    return found
