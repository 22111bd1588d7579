"""Push: an image from the content store into a registry, what it is made of first."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile

from cored.abc.content import ContentStore, read_blob
from cored.abc.records import Image, LeaseStore
from cored.abc.values import Descriptor
from cored.engine.gather import together
from cored.engine.progress import Progress, Report, silent
from cored.engine.registry import ANONYMOUS, Access, Registry, Session, Uploads, refer
from cored.engine.selection import Selection
from cored.engine.transfers import leased, source_label
from cored.errors import InvalidArgument
from cored.oci import mediatypes
from cored.oci.manifest import Index, Manifest, parse
from cored.oci.reference import parse as parse_reference

__all__ = ["Pusher"]

_AT_ONCE = 3
_EVERYTHING = Selection()


class Pusher:
    """Pushes images; blobs that the registry has are not sent again."""

    def __init__(self, registry: Registry, content: ContentStore, leases: LeaseStore) -> None:
        self._registry = registry
        self._content = content
        self._leases = leases

    async def push(
        self,
        image: Image,
        reference: str,
        selection: Selection = _EVERYTHING,
        *,
        access: Access = ANONYMOUS,
        report: Report = silent,
    ) -> None:
        """Push ``image`` under ``reference``. NotFound for content that is not here;
        Unavailable; PermissionDenied."""
        target = parse_reference(reference)
        async with leased(self._leases, "push"):
            session = await self._registry.session(target, access)
            push = _Push(self._content, session, selection, report)
            await push.run(image.target)


class _Push:
    """One image on its way."""

    def __init__(
        self,
        content: ContentStore,
        session: Session,
        selection: Selection,
        report: Report,
    ) -> None:
        self._content = content
        self._session = session
        self._uploads = Uploads(session)
        self._reference = session.reference
        self._selection = selection
        self._report = report
        self._places = asyncio.Semaphore(_AT_ONCE)
        self._gone: dict[str, asyncio.Lock] = {}
        self._sent: set[str] = set()

    async def run(self, target: Descriptor) -> None:
        await self._document(target, self._reference.tag or target.digest)

    async def _document(self, target: Descriptor, name: str) -> None:
        """A manifest or index: a registry takes it when everything in it is there."""
        data = await read_blob(self._content, target.digest)
        document = parse(data, target.media_type)
        self._report(Progress(target.digest, "waiting", 0, target.size, target, document.children))
        if isinstance(document, Index):
            chosen = self._selection.manifests(document, self._reference.familiar)
            await together(self._child(entry) for entry in chosen)
        else:
            await together(self._blob(child) for child in _stored(document))
        # a tag may point elsewhere by now: only under its own digest can it be there already
        if name == target.digest and await self._uploads.has(target, manifest=True):
            self._tell(target, "exists")
            return
        answer = await self._uploads.manifest(target, data, name)
        if document.subject is not None and "OCI-Subject" not in answer.headers:
            await refer(self._session, self._uploads, target, document)
        self._tell(target, "done")

    async def _child(self, entry: Descriptor) -> None:
        if entry.media_type in mediatypes.INDEXES | mediatypes.MANIFESTS:
            await self._document(entry, entry.digest)
        else:
            await self._blob(entry)

    async def _blob(self, blob: Descriptor) -> None:
        """Send a blob, once however many manifests have it."""
        self._report(Progress(blob.digest, "waiting", 0, blob.size, blob))
        async with self._gone.setdefault(blob.digest, asyncio.Lock()), self._places:
            if blob.digest in self._sent:
                return
            if await self._uploads.has(blob):
                self._tell(blob, "exists")
            else:
                await self._send(blob)
                self._tell(blob, "done")
            self._sent.add(blob.digest)

    async def _send(self, blob: Descriptor) -> None:
        loop = asyncio.get_running_loop()

        def told(offset: int) -> None:
            step = Progress(blob.digest, "uploading", offset, blob.size, blob)
            loop.call_soon_threadsafe(self._report, step)

        async with self._file(blob) as path:
            await self._uploads.blob(blob, path, told, await self._sources(blob))

    async def _sources(self, blob: Descriptor) -> list[str]:
        """Other repositories of the registry that the blob is known to be in."""
        labels = (await self._content.info(blob.digest)).labels
        known = labels.get(source_label(self._reference), "")
        return [each for each in known.split(",") if each and each != self._reference.path][:1]

    @asynccontextmanager
    async def _file(self, blob: Descriptor) -> AsyncIterator[Path]:
        async with await self._content.reader(blob.digest) as reader:
            if reader.size != blob.size:
                raise InvalidArgument(
                    f"blob {blob.digest}: has {reader.size} bytes, its manifest says {blob.size}"
                )
            if reader.path is not None:
                yield reader.path
                return
            with NamedTemporaryFile(prefix="cored-push-") as spool:
                offset = 0
                while data := await reader.read_at(offset, 1 << 20):
                    spool.write(data)
                    offset += len(data)
                spool.flush()
                yield Path(os.fsdecode(spool.name))

    def _tell(self, target: Descriptor, status: str) -> None:
        self._report(Progress(target.digest, status, target.size, target.size, target))


def _stored(manifest: Manifest) -> list[Descriptor]:
    """What a registry holds of an image: foreign layers are elsewhere."""
    return [c for c in manifest.children if not (mediatypes.is_foreign(c.media_type) and c.urls)]
