"""Removal of images as docker has it: names go one by one, content with the last of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from cored import scope
from cored.abc.content import ContentStore
from cored.abc.records import Container, ContainerStore, Image, ImageStore
from cored.abc.snapshots import Snapshotter
from cored.engine.image_details import ImageDetails, parts
from cored.engine.images import Images
from cored.engine.workload import image_id
from cored.errors import FailedPrecondition, InvalidArgument, NotFound
from cored.metadata.gc import Scheduler
from cored.oci.chainid import chain_ids
from cored.oci.digest import is_digest
from cored.oci.reference import parse as parse_reference

__all__ = ["ImageRemoval", "Removed"]


@dataclass(frozen=True, slots=True)
class Removed:
    """What has gone: names, digests of targets without a name left, and bytes freed."""

    untagged: tuple[str, ...]
    deleted: tuple[str, ...]
    freed: int = 0


class ImageRemoval:
    """``running`` tells whether a container of a namespace has a task."""

    def __init__(
        self,
        images: Images,
        details: ImageDetails,
        store: ImageStore,
        containers: ContainerStore,
        content: ContentStore,
        snapshotters: Mapping[str, Snapshotter],
        gc: Scheduler,
        running: Callable[[str, str], bool],
    ) -> None:
        self._images = images
        self._details = details
        self._store = store
        self._containers = containers
        self._content = content
        self._snapshotters = snapshotters
        self._gc = gc
        self._running = running

    async def remove(self, name: str, *, force: bool = False) -> Removed:
        """Take a name away, or by id all names of an image.

        FailedPrecondition: the last name while containers were made from it (``force``: while
        they run), an id with names in several repositories (without ``force``).
        """
        image = await self._images.resolve(name)
        names = [i for i in await self._store.list() if i.target.digest == image.target.digest]
        by_id = not _is_name(name, image)
        if by_id and not force and len({_repository(each.name) for each in names}) > 1:
            shown = ", ".join(each.name for each in names[:3])
            raise FailedPrecondition(
                f"image {name!r}: has names in several repositories: {shown}",
                hint="name one of them, or use --force for all",
            )
        going = names if by_id else [image]
        last = len(going) == len(names)
        if last:
            await self._check(name, names, force=force)
        for each in going:
            await self._store.delete(each.name)
        await self._gc.collect()
        untagged = tuple(each.name for each in going if not is_digest(each.name))
        return Removed(untagged, await self._gone([image]) if last else ())

    async def prune(self, filters: Sequence[str], *, everything: bool = False) -> Removed:
        """Remove images without names, or all that no container was made from."""
        unknown = [f for f in filters if f.partition("=")[0] not in ("until", "label", "label!")]
        if unknown:
            raise InvalidArgument(
                f"filter {unknown[0]!r}: not for prune", hint="until=, label= or label!="
            )
        found = [summary.image for summary in await self._details.list(filters)]
        going = []
        for image in found:
            if (everything or is_digest(image.name)) and not await self.users([image]):
                going.append(image)
        sizes = await self._sizes(going)
        for image in going:
            with suppress(NotFound):  # somebody else removed it meanwhile
                await self._store.delete(image.name)
        await self._gc.collect()
        # looked up: the collection that a removed name sets off may have been faster than ours
        freed = sum([size for node, size in sizes.items() if not await self._is_there(*node)])
        names = tuple(image.name for image in going if not is_digest(image.name))
        return Removed(names, await self._gone(going), freed)

    async def _is_there(self, type: str, id: str) -> bool:
        """Whether there still is what :meth:`_sizes` has found."""
        try:
            if type == "content":
                await self._content.info(id)
            else:
                await self._snapshotters[type.partition("/")[2]].stat(id)
        except NotFound:
            return False
        return True

    async def _check(self, name: str, names: Sequence[Image], *, force: bool) -> None:
        users = await self.users(names)
        running = [c for c in users if self._running(scope.namespace(), c.id)]
        if running:
            raise FailedPrecondition(
                f"image {name!r}: container {running[0].id[:12]} runs from it",
                hint="stop and remove the container first",
            )
        if users and not force:
            raise FailedPrecondition(
                f"image {name!r}: container {users[0].id[:12]} was made from it",
                hint="remove the container first, or use --force",
            )

    async def users(self, names: Sequence[Image]) -> list[Container]:
        """Containers that were made from an image, under whatever name it had then."""
        known = {image.name for image in names}
        chains, ids = set(), set()
        for part in await parts(self._content, names[0].target):
            ids.add(part.manifest.config.digest)
            if part.config is not None and part.config.diff_ids:
                chains.add(chain_ids(part.config.diff_ids)[-1])
        found = []
        for container in await self._containers.list():
            # layers may be another image's as well, and a name may have moved on
            if id := image_id(container):
                used = id in ids
            else:
                used = container.image in known or await self._parent(container) in chains
            if used:
                found.append(container)
        return found

    async def _parent(self, container: Container) -> str:
        snapshotter = self._snapshotters.get(container.snapshotter)
        if snapshotter is None or not container.snapshot_key:
            return ""
        try:
            return (await snapshotter.stat(container.snapshot_key)).parent
        except NotFound:
            return ""

    async def _gone(self, images: Sequence[Image]) -> tuple[str, ...]:
        """The targets that are not in the store any more."""
        found = []
        for digest in dict.fromkeys(image.target.digest for image in images):
            try:
                await self._content.info(digest)
            except NotFound:
                found.append(digest)
        return tuple(found)

    async def _sizes(self, images: Sequence[Image]) -> dict[tuple[str, str], int]:
        """Bytes of what of images is here, by kind (content, snapshots/<snapshotter>) and id."""
        found: dict[tuple[str, str], int] = {}
        for image in images:
            for part in await parts(self._content, image.target):
                for blob in (part.target, *part.manifest.children):
                    with suppress(NotFound):
                        found["content", blob.digest] = (await self._content.info(blob.digest)).size
                for name in chain_ids(part.config.diff_ids) if part.config else ():
                    for id, snapshotter in self._snapshotters.items():
                        with suppress(NotFound):
                            usage = await snapshotter.usage(name)
                            found[f"snapshots/{id}", name] = usage.size
        return found


def _is_name(text: str, image: Image) -> bool:
    """Whether an image was asked for by its name, not by an id."""
    if text == image.name:
        return not is_digest(text)
    try:
        return str(parse_reference(text)) == image.name
    except InvalidArgument:
        return False


def _repository(name: str) -> str:
    try:
        reference = parse_reference(name)
    except InvalidArgument:
        return name
    return f"{reference.host}/{reference.path}"
