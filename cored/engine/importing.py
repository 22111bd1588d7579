"""Import: archives of images into the content store, unpacked, with names."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile

from cored.abc.content import ContentStore, write_blob
from cored.abc.records import Image, ImageStore, LeaseStore
from cored.abc.values import Descriptor, Platform
from cored.engine.archives import ImageArchive, Named
from cored.engine.naming import Naming
from cored.engine.progress import Progress, Report, silent
from cored.engine.selection import Selection
from cored.engine.transfers import child_labels, leased, put_images
from cored.engine.unpack import Unpacker
from cored.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound
from cored.oci import mediatypes, platforms
from cored.oci.manifest import Index, Manifest, parse_config
from cored.oci.reference import parse as parse_reference

__all__ = ["Importer"]


class Importer:
    """``spool`` is a directory for archives that arrive as streams."""

    def __init__(
        self,
        content: ContentStore,
        images: ImageStore,
        leases: LeaseStore,
        unpacker: Unpacker,
        spool: Path,
    ) -> None:
        self._content = content
        self._images = images
        self._leases = leases
        self._unpacker = unpacker
        self._spool = spool

    async def import_stream(
        self,
        data: AsyncIterator[bytes],
        what: str,
        selection: Selection,
        *,
        name: str = "",
        naming: Naming | None = None,
        unnamed: bool = False,
        report: Report = silent,
    ) -> list[Image]:
        """Import an archive as it arrives; ``what`` names it in errors. See import_file."""
        with NamedTemporaryFile(dir=self._spool, prefix="import-") as file:
            size = 0
            async for chunk in data:
                await asyncio.to_thread(file.write, chunk)
                size += len(chunk)
                report(Progress(what, "receiving", size))
            file.flush()
            return await self.import_file(
                Path(file.name), what, selection,
                name=name, naming=naming, unnamed=unnamed, report=report,
            )  # fmt: skip

    async def import_file(
        self,
        path: Path,
        what: str,
        selection: Selection,
        *,
        name: str = "",
        naming: Naming | None = None,
        unnamed: bool = False,
        report: Report = silent,
    ) -> list[Image]:
        """Import the images of an archive and unpack what ``selection`` says.

        ``name`` is for an archive with one image, in place of the name that it brings. With
        ``naming`` the archive's index is an image as well, what has no name that fits is kept by it
        alone, and what is for none of the platforms is left out. ``unnamed``: what has no name is
        kept under its digest. InvalidArgument for what is no archive, or is damaged, NotFound when
        nothing is for the platforms; nothing of it stays.
        """
        async with leased(self._leases, "import"), _opened(path, what) as archive:
            found = await asyncio.to_thread(archive.images)
            if naming is None:
                named = _named(what, found, name, unnamed)
                records = [Image(each.name, each.target) for each in named]
            else:
                found = _wanted(archive, found, selection, what)
                records = await self._kept(archive, found, naming)
            for target in {each.target.digest: each.target for each in found}.values():
                await self._one(archive, target, selection, report)
            return await put_images(self._images, records)

    async def _kept(self, archive: ImageArchive, found: list[Named], naming: Naming) -> list[Image]:
        """Store the archive's index; all records for it and for its images."""
        index, data = await asyncio.to_thread(archive.index)
        records = naming.records(index)
        labels = child_labels(Index(tuple(each.target for each in found)))
        await write_blob(
            self._content, f"import-{index.digest}", data, expected=index.digest, labels=labels
        )
        for each in found:
            records += naming.annotated(each.target, each.name)
        return records

    async def _one(
        self, archive: ImageArchive, target: Descriptor, selection: Selection, report: Report
    ) -> None:
        document = archive.document(target)
        await self._children(archive, document, report)
        await self._blob(archive, target, child_labels(document), report)
        await self._unpack(archive, target, document, selection, report)

    async def _unpack(
        self,
        archive: ImageArchive,
        target: Descriptor,
        document: Manifest | Index,
        selection: Selection,
        report: Report,
    ) -> None:
        if isinstance(document, Index):
            for entry in selection.manifests(document, target.digest):
                if entry.digest in archive:
                    inner = archive.document(entry)
                    await self._unpack(archive, entry, inner, selection, report)
            return
        if document.config.media_type not in mediatypes.CONFIGS:
            return
        config = parse_config(archive.small(document.config.digest))
        platform = _platform(archive, target)
        for unpack in selection.unpack(platform) if platform else selection.unpacks:
            await self._unpacker.unpack(
                document, config, snapshotter=unpack.snapshotter, report=report
            )

    async def _children(
        self, archive: ImageArchive, document: Manifest | Index, report: Report
    ) -> None:
        """Store what a document refers to and the archive holds; other platforms may be absent."""
        for child in document.children:
            if child.digest not in archive:
                if isinstance(document, Manifest) and not mediatypes.is_foreign(child.media_type):
                    raise InvalidArgument(
                        f"blob {child.digest}: is not in the archive", hint="it may be cut short"
                    )
                continue
            labels: Mapping[str, str] = {}
            if isinstance(document, Index):
                inner = archive.document(child)
                labels = child_labels(inner)
                await self._children(archive, inner, report)
            await self._blob(archive, child, labels, report)

    async def _blob(
        self, archive: ImageArchive, target: Descriptor, labels: Mapping[str, str], report: Report
    ) -> None:
        if target.size < 1 << 20:
            data = archive.small(target.digest)
            await write_blob(
                self._content, f"import-{target.digest}", data,
                expected=target.digest, labels=labels,
            )  # fmt: skip
            return
        try:
            writer = await self._content.writer(
                f"import-{target.digest}", size=target.size, expected=target.digest
            )
        except AlreadyExists:
            report(Progress(target.digest, "exists", target.size, target.size, target))
            return
        async with writer:
            await writer.truncate(0)
            chunks = archive.chunks(target.digest)
            offset = 0
            while data := await asyncio.to_thread(next, chunks, b""):
                await writer.write(data)
                offset += len(data)
                report(Progress(target.digest, "receiving", offset, target.size, target))
            try:
                await writer.commit(target.size, target.digest, labels)
            except FailedPrecondition as error:
                await writer.truncate(0)
                raise InvalidArgument(
                    f"blob {target.digest}: the archive's is damaged", hint=error.message
                ) from error


@asynccontextmanager
async def _opened(path: Path, what: str) -> AsyncIterator[ImageArchive]:
    archive = await asyncio.to_thread(ImageArchive, path, what)
    try:
        yield archive
    finally:
        archive.close()


def _wanted(
    archive: ImageArchive, found: list[Named], selection: Selection, what: str
) -> list[Named]:
    """The images for one of the wanted platforms. NotFound when there are others only."""
    offered = {each.target.digest: _platform(archive, each.target) for each in found}
    wanted = [
        each
        for each in found
        if (there := offered[each.target.digest]) is None or selection.allows(there)
    ]
    if found and not wanted:
        others = ", ".join(sorted({platforms.format(p) for p in offered.values() if p}))
        asked = ", ".join(platforms.format(p) for p in selection.platforms)
        raise NotFound(f"{what}: has nothing for {asked}", hint=f"there is {others}")
    return wanted


def _platform(archive: ImageArchive, target: Descriptor) -> Platform | None:
    """What an image is for; None for an index, which is for several, and for what is no image."""
    document = archive.document(target)
    if isinstance(document, Index) or document.config.media_type not in mediatypes.CONFIGS:
        return None
    config = parse_config(archive.small(document.config.digest))
    return config.platform if config.platform.architecture else target.platform


def _named(what: str, found: list[Named], name: str, unnamed: bool) -> list[Named]:
    """The images with complete names."""
    if name:
        if len({each.target.digest for each in found}) != 1:
            raise InvalidArgument(f"{what}: has {len(found)} images, a name fits only one")
        return [Named(str(parse_reference(name)), found[0].target)]
    named = []
    for each in found:
        if not each.name and unnamed:
            named.append(Named(each.target.digest, each.target))
            continue
        if not each.name:
            raise InvalidArgument(f"{what}: an image has no name", hint="give one with --name")
        named.append(Named(str(parse_reference(each.name)), each.target))
    if not named:
        raise InvalidArgument(f"{what}: holds no images")
    return named
