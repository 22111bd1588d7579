"""Runs a step's command in a container: the daemon's own runtime, network and seccomp filter."""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from cored import linux, scope
from cored.abc.records import Container, ContainerStore
from cored.abc.runtime import Exit, Stdio
from cored.abc.values import Mount, Typed
from cored.archive.place import direct, placed
from cored.engine.networking import Networking
from cored.engine.recipe import Recipe
from cored.engine.tasks import Tasks
from cored.engine.workload import ContainerConfig
from cored.errors import CoredError, NotFound, ResourceExhausted, from_mount_error
from cored.oci.manifest import ImageConfig
from cored.oci.mounts import Bind, Tmpfs
from cored.oci.resources import Resources
from cored.oci.security import Host
from cored.oci.values import Platform
from cored.threads import finished
from cored_service_build.outputs import reading
from cored_service_build.overlays import beneath, unmarked
from cored_service_build.stubs import Stubs

__all__ = ["LABEL", "Runner", "Work"]

LABEL = "cored.io/build"
_SPEC = "types.containerd.io/opencontainers/runtime-spec/1/Spec"
_NO_IMAGE = ImageConfig(Platform(), ())


@dataclass(frozen=True, slots=True)
class Work:
    """What to run, and where; ``binds`` are the mounts that are files or directories here."""

    args: tuple[str, ...]
    env: tuple[str, ...]
    directory: str
    user: str
    network: str
    binds: Sequence[Bind] = ()
    tmpfs: Sequence[Tmpfs] = ()
    privileged: bool = False
    devices: tuple[str, ...] = ()
    memory_limit: int = 0
    milli_cpus: int = 0
    secrets: Sequence[bytes] = ()
    add_hosts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Runner:
    """``state`` holds the files that containers get from us."""

    tasks: Tasks
    containers: ContainerStore
    networking: Networking
    host: Host
    state: Path
    leftover: set[tuple[str, str]] = field(default_factory=set)
    """Containers, by namespace and id, whose records could not be removed, on a full disk."""

    async def run(
        self,
        work: Work,
        rootfs: Sequence[Mount],
        snapshot: tuple[str, str],
        tell: Callable[[bytes], None],
        after: AsyncExitStack,
        behind: Callable[[], bool] = lambda: False,
    ) -> Exit:
        """Run to the end. ``snapshot`` is the snapshotter's id and key. CoredError.

        While who is told what it writes is ``behind`` it has to wait.

        When cancelled the container is killed at once. What is left of it when it has ended goes
        with ``after``; of one that has failed it is gone already, and all that it wrote is told.
        """
        id = f"build-{uuid.uuid4().hex}"
        config = ContainerConfig(
            image="",
            args=work.args,
            env=work.env,
            working_directory=work.directory,
            user=work.user,
            hostname="build",
            network="" if work.network == "default" else work.network,
            tmpfs=tuple(work.tmpfs),
            privileged=work.privileged,
            cdi_devices=work.devices,
            resources=_limits(work),
            extra_hosts=work.add_hosts,
        )
        recipe = Recipe(id, config, _NO_IMAGE, self.state / id, self.host, binds=tuple(work.binds))
        self.networking.check(config)
        after.push_async_callback(finished, _removed, recipe.place)
        await finished(recipe.prepare)
        document, stubs = await finished(_described, recipe, rootfs, self.state)
        record = Container(
            id=id,
            labels={LABEL: "step"},
            runtime="io.containerd.runc.v2",
            spec=_spec({**document, "process": _without_env(document["process"])}),
            snapshotter=snapshot[0],
            snapshot_key=snapshot[1],
        )
        output = reading(recipe.place / "output", tell, work.secrets, behind)
        fifo = await after.enter_async_context(output)
        stdio = Stdio("", fifo, fifo)
        exit = await self._lived(record, recipe, rootfs, stdio, _spec(document), after)
        if exit.status or direct(rootfs) is None:
            await after.pop_all().aclose()
        if stubs.missing:
            # the container's own mount may be there still, but nobody looks through it any more
            async with placed(rootfs, self.state) as place:
                await asyncio.to_thread(stubs.remove, Path(place.directory))
        return exit

    async def _lived(
        self,
        record: Container,
        recipe: Recipe,
        rootfs: Sequence[Mount],
        stdio: Stdio,
        spec: Typed,
        after: AsyncExitStack,
    ) -> Exit:
        await self.containers.create(record)
        after.push_async_callback(self._ended, record.id, rootfs)
        state = await self.tasks.create(record.id, rootfs=rootfs, stdio=stdio, spec=spec)
        await self.networking.join(
            record.id, state.pid, "", recipe.hostname, recipe.config, recipe.place
        )
        await self.tasks.start(record.id)
        return await self.tasks.wait(record.id)

    async def _ended(self, id: str, rootfs: Sequence[Mount]) -> None:
        try:
            await asyncio.shield(self.remove(id))
        except ResourceExhausted:
            self.leftover.add((scope.namespace(), id))
        await finished(unmarked, rootfs)

    async def sweep(self) -> None:
        """Remove what could not be removed before: a failed step has given room back."""
        for namespace, id in list(self.leftover):
            if namespace == scope.namespace():
                await self.remove(id)
                self.leftover.discard((namespace, id))

    async def remove(self, id: str) -> None:
        """End a step's container and let go of all that it has; fine when it is gone."""
        with suppress(CoredError):  # it has ended, or was never started
            await self.tasks.kill(id, signal.SIGKILL)
        with suppress(NotFound):
            await self.tasks.wait(id)
            await self.tasks.delete(id)
        await self.networking.leave(id)
        with suppress(NotFound):
            await self.containers.delete(id)


def _described(
    recipe: Recipe, rootfs: Sequence[Mount], state: Path
) -> tuple[dict[str, object], Stubs]:
    """The spec, and which places of its mounts are not there yet. Blocks. CoredError."""
    document = recipe.spec(recipe.user(rootfs))
    try:
        with linux.mounted(beneath(rootfs), state) as root:
            return document, Stubs.before(root, _targets(document))
    except OSError as error:
        raise from_mount_error("build: mounting a snapshot", error) from error


def _removed(place: Path) -> None:
    shutil.rmtree(place, ignore_errors=not place.exists())


def _spec(document: Mapping[str, object]) -> Typed:
    return Typed(_SPEC, json.dumps(document).encode())


def _without_env(process: object) -> dict[str, object]:
    """For the record, which is on a disk: secrets may be in the environment."""
    assert isinstance(process, dict)
    return {**process, "env": []}


def _limits(work: Work) -> Resources:
    limits = Resources()
    if work.memory_limit:
        limits = replace(limits, memory_limit=work.memory_limit)
    if work.milli_cpus:
        limits = replace(limits, nano_cpus=work.milli_cpus * 1_000_000)
    return limits


def _targets(document: dict[str, object]) -> list[str]:
    mounts = document["mounts"]
    assert isinstance(mounts, list)
    return [str(mount["destination"]) for mount in mounts]
