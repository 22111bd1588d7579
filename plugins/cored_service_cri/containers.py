"""Containers of pods: made with record, root filesystem and spec, changed, and removed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from cored._pb.cri.v1 import api_pb2 as pb
from cored.abc.records import Container as Record
from cored.abc.values import Typed
from cored.engine import names
from cored.engine.roots import Roots
from cored.engine.snapshotters import Snapshotters
from cored.engine.tasks import Tasks
from cored.errors import DeadlineExceeded, FailedPrecondition, InvalidArgument, NotFound
from cored.oci.security import Host
from cored_service_cri import identity, mounts, resources, spec
from cored_service_cri.accounts import Accounts
from cored_service_cri.checkpoint import archive
from cored_service_cri.events import Events
from cored_service_cri.imagefacts import Facts, ImageFacts
from cored_service_cri.lives import Lives
from cored_service_cri.output import Output
from cored_service_cri.pods import Pods, runtime_options
from cored_service_cri.registry import Registry
from cored_service_cri.values import NAMESPACE, Container, Pod, State
from cored_service_cri.volumes import Volume, Volumes

__all__ = ["Containers"]


class Containers:
    """They live in :class:`Lives`."""

    def __init__(
        self,
        registry: Registry,
        tasks: Tasks,
        pods: Pods,
        images: ImageFacts,
        roots: Roots,
        snapshotters: Snapshotters,
        volumes: Volumes,
        output: Output,
        lives: Lives,
        events: Events,
        host: Host,
        by_handler: Mapping[str, str],
    ) -> None:
        """``by_handler`` has the snapshotters of runtime handlers that want another."""
        self._registry = registry
        self._tasks = tasks
        self._pods = pods
        self._images = images
        self._roots = roots
        self._snapshotters = snapshotters
        self._volumes = volumes
        self._output = output
        self._lives = lives
        self._events = events
        self._host = host
        self._by_handler = by_handler
        self._accounts = Accounts()

    async def recover(self) -> None:
        """Remove what an earlier daemon had not finished."""
        for one in self._registry.unfinished:
            await self._discard(one)
        self._registry.unfinished.clear()

    async def create(self, pod: Pod, config: pb.ContainerConfig) -> str:
        """Make a container, not started, and answer its id; nothing stays of one that fails."""
        if not pod.state.ready:
            raise FailedPrecondition(f"pod sandbox {pod.id!r}: is not ready")
        if not config.metadata.name:
            raise InvalidArgument("container: its metadata needs a name")
        mounts.check(config.mounts)
        image = await self._images.find(config.image.image)
        snapshotter = await self._roots.ready(
            image.unpacked, self._by_handler.get(pod.state.handler, "")
        )
        id = names.new_id()
        volumes = await self._volumes.plan(id, config.mounts)
        state = State(
            pod=pod.id,
            image=image.tags[0] if image.tags else image.reference,
            image_id=image.id,
            image_ref=image.reference,
            created_at=time.time_ns(),
            stop_signal=image.unpacked.config.stop_signal,
            snapshotter=snapshotter,
            volumes=tuple(volume.key for volume in volumes),
            volume_ids={volume.target: volume.image for volume in volumes},
        )
        made = Container(id, config, pod, state)
        with self._registry.reserved(made.name, made.id):
            try:
                made = await self._made(made, image, volumes)
            except BaseException:
                await asyncio.shield(self._discard(made))
                raise
        self._events.container(pb.CONTAINER_CREATED_EVENT, made)
        return made.id

    async def remove(self, one: Container) -> None:
        """End it if it runs, and remove all that belongs to it."""
        await self._lives.stop(one, 0)
        one = self._registry.containers.get(one.id, one)
        await self._discard(one)
        self._events.container(pb.CONTAINER_DELETED_EVENT, one)

    async def update(self, one: Container, wanted: pb.LinuxContainerResources) -> None:
        """Other limits, from now on. FailedPrecondition when it has ended."""
        if one.state.phase == pb.CONTAINER_EXITED:
            raise FailedPrecondition(f"container {one.id!r}: has exited")
        config = pb.ContainerConfig()
        config.CopyFrom(one.config)
        limits = resources.merged(config.linux.resources, wanted)
        config.linux.resources.CopyFrom(limits)
        if (NAMESPACE, one.id) in self._tasks.known():
            document = resources.document(limits, self._host)
            kind = "types.containerd.io/opencontainers/runtime-spec/1/LinuxResources"
            await self._tasks.update(one.id, Typed(kind, spec.typed(document).value), {})
        # the next start is of the spec
        table = await self._registry.spec(one.id)
        rules = table["linux"]["resources"]["devices"]
        table["linux"]["resources"] = {"devices": rules, **resources.document(limits, self._host)}
        one = replace(self._registry.container(one.id), config=config)
        await self._registry.change(one, spec.typed(table))

    async def checkpoint(self, one: Container, location: str, timeout: float) -> None:
        """Write a checkpoint as a tar archive. FailedPrecondition, and what the runtime says."""
        if one.state.phase != pb.CONTAINER_RUNNING:
            raise FailedPrecondition(f"container {one.id!r}: is not running")
        if not location:
            raise InvalidArgument(f"container {one.id!r}: no location for its checkpoint given")
        try:
            async with asyncio.timeout(timeout or None):
                await archive(self._tasks, one, Path(location))
        except TimeoutError as error:
            raise DeadlineExceeded(
                f"container {one.id!r}: its checkpoint takes too long"
            ) from error

    async def _made(self, one: Container, image: Facts, volumes: Sequence[Volume]) -> Container:
        _, snapshotter = await self._snapshotters.choose(one.state.snapshotter)
        # the record first: what it names is out of the collection's reach
        record = Record(
            id=one.id,
            labels=one.labels | self._volumes.labels(volumes),
            image=image.names[0],
            runtime=one.pod.state.runtime,
            runtime_options=runtime_options(one.pod.config.linux.cgroup_parent),
            spec=spec.typed({}),
            snapshotter=one.state.snapshotter,
            snapshot_key=one.id,
            extensions=one.extensions(),
        )
        await self._registry.add(one, record)
        rootfs = await snapshotter.prepare(one.id, image.unpacked.chain_id)
        chain_id, place = image.unpacked.chain_id, self._pods.place(one.pod.id)
        passwd, group = await self._accounts.of(chain_id, rootfs, place)
        context = one.config.linux.security_context
        user = identity.resolve(context, image.unpacked.config.user, passwd, group)
        order = spec.Order(
            id=one.id,
            config=one.config,
            pod=one.pod,
            image=image.unpacked.config,
            user=user,
            files=place,
            host=self._host,
            shared=self._shared(one),
            images=await self._volumes.mount(one.id, volumes),
        )
        document = await asyncio.to_thread(spec.container, order)
        groups = tuple(document["process"]["user"]["additionalGids"])
        state = replace(one.state, user=(user.uid, user.gid), groups=groups)
        return await self._registry.change(replace(one, state=state), spec.typed(document))

    def _shared(self, one: Container) -> dict[str, str | None]:
        """The namespaces that it joins, by type (:class:`spec.Order`)."""
        pod = self._registry.pod(one.pod.id)
        modes = one.config.linux.security_context.namespace_options
        pause = f"/proc/{pod.state.pid}/ns"
        found: dict[str, str | None] = {
            "network": None if pod.host_network else pod.state.netns,
            "ipc": None if pod.modes.ipc == pb.NODE else f"{pause}/ipc",
            "uts": None if pod.host_network else f"{pause}/uts",
        }
        match modes.pid:
            case pb.NODE:
                found["pid"] = None
            case pb.POD:
                found["pid"] = f"{pause}/pid"
            case pb.TARGET:
                found["pid"] = f"/proc/{self._target(pod, modes.target_id)}/ns/pid"
            case _:
                found["pid"] = ""
        if spec.id_range(pod.modes) is not None:
            found["user"] = f"{pause}/user"
        return found

    def _target(self, pod: Pod, id: str) -> int:
        """The pid of the container whose processes another one is to see."""
        target = self._registry.container(id)
        task = self._tasks.known().get((NAMESPACE, target.id))
        if target.pod.id != pod.id or task is None or target.state.phase != pb.CONTAINER_RUNNING:
            raise FailedPrecondition(f"container {id!r}: is no running one of this pod")
        return task.pid

    async def _discard(self, one: Container) -> None:
        """Remove all that belongs to a container, as far as it is there."""
        await self._lives.end(one.id)
        self._output.discard(one.id)
        await self._volumes.unmount(one.state.snapshotter, one.id, one.state.volumes)
        async with self._registry.removal(one):
            _, snapshotter = await self._snapshotters.choose(one.state.snapshotter)
            with suppress(NotFound):
                await snapshotter.remove(one.id)
