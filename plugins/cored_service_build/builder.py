"""Builds, as many at once as are asked for; what they share, and what earlier daemons left."""

from __future__ import annotations

import asyncio
import os
import shutil
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from cored import scope
from cored.abc.content import ContentStore
from cored.abc.differ import Differ
from cored.abc.records import ContainerStore, Image, ImageStore, LeaseStore, NamespaceStore
from cored.abc.values import Descriptor
from cored.archive.pool import WorkerPool
from cored.engine.gather import together
from cored.engine.images import Images
from cored.engine.pull import Puller
from cored.engine.snapshotters import Snapshotters
from cored.engine.transfers import leased
from cored.engine.unpack import Unpacker
from cored.errors import DeadlineExceeded
from cored.oci import mediatypes, platforms
from cored.oci.values import Platform
from cored.scope import Scope
from cored_service_build.base_images import Bases
from cored_service_build.building import Build
from cored_service_build.cache import Cache
from cored_service_build.directories import Kept
from cored_service_build.dockerfile.ignore import read as read_ignore
from cored_service_build.dockerfile.lint import errors_wanted, lint
from cored_service_build.dockerfile.parser import parse
from cored_service_build.dockerfile.scopes import platform_arguments
from cored_service_build.elsewhere import completed
from cored_service_build.endings import Endings
from cored_service_build.graph import plan
from cored_service_build.layers import Layers
from cored_service_build.mounting import Caches
from cored_service_build.places import Memory
from cored_service_build.results import Results
from cored_service_build.running import LABEL, Runner
from cored_service_build.steps import Flights, Steps
from cored_service_build.values import Report, Request, Result, Told

__all__ = ["CONTEXTS", "Builder", "Parts"]

CONTEXTS = 10 * 2**30


@dataclass(frozen=True, slots=True)
class Parts:
    """What builds stand on; ``root`` outlives the daemon, ``state`` need not."""

    cache: Cache
    images: Images
    image_store: ImageStore
    content: ContentStore
    leases: LeaseStore
    namespaces: NamespaceStore
    containers: ContainerStore
    snapshotters: Snapshotters
    puller: Puller
    unpacker: Unpacker
    pool: WorkerPool
    differ: Differ
    runner: Runner
    root: Path
    state: Path


@dataclass(slots=True)
class Builder:
    """``parallel`` is how many steps of all builds work at once; ``contexts`` how many bytes of
    clients' directories are kept."""

    parts: Parts
    parallel: int = 0
    contexts: int = CONTEXTS
    flights: Flights = field(default_factory=Flights)
    memory: Memory = field(default_factory=Memory)
    caches: Caches = field(init=False)
    kept: Kept = field(init=False)
    endings: Endings = field(default_factory=Endings)
    limit: asyncio.Semaphore = field(init=False)

    def __post_init__(self) -> None:
        self.caches = Caches(self.parts.root / "cache-mounts")
        self.kept = Kept(self.parts.root / "contexts", self.contexts)
        self.limit = asyncio.Semaphore(self.parallel or max(2, os.cpu_count() or 2))

    @property
    def spool(self) -> Path:
        """For contexts and downloads; empty when the daemon starts."""
        return self.parts.root / "spool"

    async def clean(self) -> None:
        """End what an earlier daemon's builds left: containers, snapshots, files."""
        for place in (self.spool, self.parts.state / "work"):
            await asyncio.to_thread(shutil.rmtree, place, ignore_errors=not place.exists())
            place.mkdir(mode=0o700, parents=True)
        for namespace in await self.parts.namespaces.list():
            with scope.entered(Scope(namespace.name)):
                for record in await self.parts.containers.list([f'labels."{LABEL}"']):
                    await self.parts.runner.remove(record.id)

    @asynccontextmanager
    async def build(
        self, request: Request, report: Report, spool: Path, *, unnamed: bool = False
    ) -> AsyncIterator[tuple[Result, Sequence[Image]]]:
        """Build; what came of it stays as long as the body runs, and longer under its names.

        ``spool`` is an empty directory, the caller's to remove. ``unnamed``: it gets no name.
        CoredError; DeadlineExceeded.
        """
        async with leased(self.parts.leases, "build"):
            try:
                async with asyncio.timeout(request.timeout or None):
                    result, results = await self._built(request, report, spool)
            except TimeoutError as error:
                raise DeadlineExceeded(f"build: not done in {request.timeout:g} s") from error
            images: Sequence[Image] = ()
            if not unnamed:
                images = await results.name(result, request.tags)
            yield result, images

    async def _built(self, request: Request, report: Report, spool: Path) -> tuple[Result, Results]:
        parts = self.parts
        id, snapshots = await parts.snapshotters.choose()
        work = parts.state / "work"
        layers = Layers(id, snapshots, parts.content, parts.leases, parts.pool, parts.differ, work)
        steps = Steps(report, parts.cache, layers, self.flights, request.no_cache, self.limit)
        results = Results(parts.content, parts.image_store, id)
        bases = Bases(
            id, snapshots, parts.images, parts.puller, parts.unpacker, parts.content, parts.leases
        )
        try:
            request = await completed(request, steps, spool)
            builds = self._builds(request, steps, bases, report, spool)
            await together(build.run() for build in builds)
            await steps.settle()
        finally:
            # pulls, too: they would go on under a lease that is about to end
            await asyncio.shield(asyncio.gather(steps.end(), bases.close()))
            await asyncio.shield(parts.runner.sweep())
        states = [build.state for build in builds]
        made = [await results.write(state, request) for state in states]
        return made[0] if len(made) == 1 else await results.index(made, states), results

    def _builds(
        self, request: Request, steps: Steps, bases: Bases, report: Report, spool: Path
    ) -> list[Build]:
        """One for each platform. DockerfileError."""
        parts, layers = self.parts, steps.layers
        file = parse(request.dockerfile, request.dockerfile_name)
        ignore = read_ignore(request.ignore) if request.ignore else None
        warnings = lint(file, ignore, request.args)
        for warning in warnings:
            report(Told(warning.rule, warning.text, warning.where.first))
        if warnings and errors_wanted(file, request.args):
            raise file.source.error(warnings[0].where, f"{warnings[0].rule}: {warnings[0].text}")
        here = _shown(platforms.host())
        wanted = [_shown(platforms.parse(each)) for each in request.platforms]
        named = {*request.contexts, *request.images} - {""}
        builds = []
        for platform in wanted:
            known = platform_arguments(platform, here)
            planned = plan(file, request.target, request.args, known, named)
            label = platform if len(wanted) > 1 else ""
            builds.append(
                Build(
                    request,
                    file,
                    planned,
                    platform,
                    steps,
                    layers,
                    parts.runner,
                    bases,
                    self.caches,
                    self.memory,
                    spool,
                    label,
                )
            )
        return builds

    async def files(self, result: Result) -> Descriptor:
        """All files of an image as one tar in the content store, held by the current lease."""
        _, snapshots = await self.parts.snapshotters.choose()
        key = f"build-view {uuid.uuid4().hex}"
        if not result.chain_id:
            return await self.parts.differ.compare((), (), media_type=mediatypes.OCI_LAYER)
        mounts = await snapshots.view(key, result.chain_id)
        try:
            return await self.parts.differ.compare((), mounts, media_type=mediatypes.OCI_LAYER)
        finally:
            await asyncio.shield(snapshots.remove(key))


def _shown(platform: Platform) -> str:
    """As Dockerfiles know it: the variant that every arm64 has goes without saying."""
    return platforms.format(platform).replace("/arm64/v8", "/arm64")
