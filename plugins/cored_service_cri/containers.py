"""Containers of pods from end to end: record, root filesystem, spec, task, and their ends."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from cored import linux, log
from cored._pb.cri.v1 import api_pb2 as pb
from cored.abc.records import Container as Record
from cored.abc.runtime import Exit, Status
from cored.abc.values import Mount, Typed
from cored.engine import names
from cored.engine.roots import Roots
from cored.engine.snapshotters import Snapshotters
from cored.engine.tasks import Tasks
from cored.engine.userns import mapped
from cored.errors import CoredError, DeadlineExceeded, FailedPrecondition, InvalidArgument, NotFound
from cored.oci.security import Host
from cored.oci.users import User
from cored_service_cri import identity, mounts, resources, signals, spec
from cored_service_cri.cgroups import Cgroups
from cored_service_cri.checkpoint import archive
from cored_service_cri.events import Events
from cored_service_cri.imagefacts import Facts, ImageFacts
from cored_service_cri.output import Output
from cored_service_cri.pods import Pods, runtime_options
from cored_service_cri.registry import Registry
from cored_service_cri.values import NAMESPACE, Container, Pod, State
from cored_service_cri.volumes import Volumes

__all__ = ["Containers"]

_START_ERROR = 128
_KILL_PATIENCE = 60.0


class Containers:
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
        cgroups: Cgroups,
        events: Events,
        host: Host,
    ) -> None:
        self._registry = registry
        self._tasks = tasks
        self._pods = pods
        self._images = images
        self._roots = roots
        self._snapshotters = snapshotters
        self._volumes = volumes
        self._output = output
        self._cgroups = cgroups
        self._events = events
        self._host = host
        self._watchers: dict[str, asyncio.Task[None]] = {}
        # the image's passwd and group by chain id: what is in an image stays as it is
        self._accounts: dict[str, tuple[str, str]] = {}

    async def recover(self) -> None:
        """What became of the containers meanwhile."""
        for one in list(self._registry.containers.values()):
            await self._adopt(one)
        await self._output.recover(self._registry.containers)

    async def close(self) -> None:
        """Stop watching; the containers stay."""
        for watcher in self._watchers.values():
            watcher.cancel()
        await asyncio.gather(*self._watchers.values(), return_exceptions=True)

    async def create(self, pod: Pod, config: pb.ContainerConfig) -> str:
        """Make a container, not started, and answer its id; nothing stays of one that fails."""
        if not pod.state.ready:
            raise FailedPrecondition(f"pod sandbox {pod.id!r}: is not ready")
        if not config.metadata.name:
            raise InvalidArgument("container: its metadata needs a name")
        mounts.check(config.mounts)
        image = await self._images.find(config.image.image)
        snapshotter = await self._roots.ready(image.unpacked)
        state = State(
            pod=pod.id,
            image=image.tags[0] if image.tags else image.reference,
            image_id=image.id,
            image_ref=image.reference,
            created_at=time.time_ns(),
            stop_signal=image.unpacked.config.stop_signal,
            snapshotter=snapshotter,
        )
        made = Container(names.new_id(), config, pod, state)
        with self._registry.reserved(made.name, made.id):
            try:
                made = await self._made(made, image)
            except BaseException:
                await asyncio.shield(self._discard(made))
                raise
        self._events.container(pb.CONTAINER_CREATED_EVENT, made)
        return made.id

    async def start(self, one: Container) -> None:
        """Start it; one that cannot be started has exited with 128."""
        if one.state.phase != pb.CONTAINER_CREATED:
            name = pb.ContainerState.Name(one.state.phase)
            raise FailedPrecondition(f"container {one.id!r}: is in state {name}")
        if not self._registry.pod(one.pod.id).state.ready:
            raise FailedPrecondition(f"pod sandbox {one.pod.id!r}: is not ready")
        try:
            stdio = await self._output.open(one)
            _, chosen = await self._snapshotters.choose(one.state.snapshotter)
            rootfs = mapped(await chosen.mounts(one.id), spec.id_range(one.pod.modes))
            created = await self._tasks.create(one.id, rootfs=rootfs, stdio=stdio)
            self._cgroups.learn(one.id, created.pid)
            started_at = time.time_ns()  # before: it may have ended when we hear of its start
            await self._tasks.start(one.id)
        except CoredError as error:
            await self._failed(one, error)
            raise
        started = replace(one.state, started_at=started_at)
        one = await self._registry.change(replace(one, state=started))
        self._watch(one.id)
        self._events.container(pb.CONTAINER_STARTED_EVENT, one)

    async def stop(self, one: Container, timeout: float) -> None:
        """Its stop signal, then after so many seconds SIGKILL; fine when it does not run."""
        watcher = self._watchers.get(one.id)
        if watcher is None:
            return
        if timeout > 0:
            with suppress(NotFound):  # it has just ended
                await self._tasks.kill(one.id, signals.stop_signal(one))
            done, _ = await asyncio.wait([watcher], timeout=timeout)
            if done:
                return
        with suppress(NotFound):
            await self._tasks.kill(one.id, signal.SIGKILL, all=_shares_pids(one))
        done, _ = await asyncio.wait([watcher], timeout=_KILL_PATIENCE)
        if not done:
            raise FailedPrecondition(f"container {one.id!r}: does not end, even by SIGKILL")

    async def remove(self, one: Container) -> None:
        """End it if it runs, and remove all that belongs to it."""
        await self.stop(one, 0)
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

    async def _made(self, one: Container, image: Facts) -> Container:
        _, snapshotter = await self._snapshotters.choose(one.state.snapshotter)
        volumes = await self._volumes.mount(one)
        held = replace(
            one.state,
            volumes=tuple(volume.key for volume in volumes),
            volume_ids={volume.target: volume.image for volume in volumes},
        )
        one = replace(one, state=held)
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
        user = await self._user(one, image, rootfs)
        order = spec.Order(
            id=one.id,
            config=one.config,
            pod=one.pod,
            image=image.unpacked.config,
            user=user,
            files=self._pods.place(one.pod.id),
            host=self._host,
            shared=self._shared(one),
            images={volume.target: volume.path for volume in volumes},
        )
        document = await asyncio.to_thread(spec.container, order)
        groups = tuple(document["process"]["user"]["additionalGids"])
        state = replace(one.state, user=(user.uid, user.gid), groups=groups)
        return await self._registry.change(replace(one, state=state), spec.typed(document))

    async def _user(self, one: Container, image: Facts, rootfs: Sequence[Mount]) -> User:
        """Who it runs as. InvalidArgument."""
        chain = image.unpacked.chain_id
        if chain not in self._accounts:
            self._accounts[chain] = await asyncio.to_thread(
                _accounts, rootfs, self._pods.place(one.pod.id)
            )
            while len(self._accounts) > 500:
                del self._accounts[next(iter(self._accounts))]
        passwd, group = self._accounts[chain]
        context = one.config.linux.security_context
        return identity.resolve(context, image.unpacked.config.user, passwd, group)

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

    async def _adopt(self, one: Container) -> None:
        """A container of an earlier daemon."""
        running = (NAMESPACE, one.id) in self._tasks.known()
        if running and one.state.phase != pb.CONTAINER_EXITED:
            state = await self._tasks.state(one.id)
            if state.status is Status.CREATED:
                # the daemon died between the two halves of a start: it is as before the first
                with suppress(CoredError):
                    await self._tasks.kill(one.id, signal.SIGKILL)
                await self._tasks.delete(one.id)
                return
            if not one.state.started_at:
                started = replace(one.state, started_at=time.time_ns())
                await self._registry.change(replace(one, state=started))
            self._cgroups.learn(one.id, state.pid)
            self._watch(one.id)
        elif one.state.phase == pb.CONTAINER_RUNNING:
            gone = replace(
                one.state, finished_at=time.time_ns(), exit_code=255, reason="Unknown",
                message="it ended with the machine, or its shim did",
            )  # fmt: skip
            await self._registry.change(replace(one, state=gone))

    def _watch(self, id: str) -> None:
        self._watchers[id] = asyncio.create_task(self._ending(id), name=f"container {id}")

    async def _ending(self, id: str) -> None:
        """Wait for the end, keep how it was, and free the task."""
        try:
            exit = await self._tasks.wait(id)
            killed = exit.status == 128 + signal.SIGKILL and self._cgroups.oom_killed(id)
            with suppress(NotFound):  # another client has deleted it
                await self._tasks.delete(id)
            self._output.close(id)
            self._cgroups.forget(id)
            one = self._registry.containers.get(id)
            if one is not None:
                one = await self._registry.change(replace(one, state=_ended(one, exit, killed)))
                self._events.container(pb.CONTAINER_STOPPED_EVENT, one)
        except NotFound as error:
            log.get("cri").info("a container has gone", container=id, error=str(error))
        finally:
            self._watchers.pop(id, None)

    async def _failed(self, one: Container, error: CoredError) -> None:
        """It could not be started: keep why, and free the task."""
        await self._end_task(one.id)
        self._output.close(one.id)
        self._cgroups.forget(one.id)
        state = replace(
            one.state, started_at=0, finished_at=time.time_ns(), exit_code=_START_ERROR,
            reason="StartError", message=error.message,
        )  # fmt: skip
        with suppress(NotFound):
            one = await self._registry.change(replace(one, state=state))
            self._events.container(pb.CONTAINER_STOPPED_EVENT, one)

    async def _discard(self, one: Container) -> None:
        """Remove all that belongs to a container, as far as it is there."""
        await self._end_task(one.id)
        self._output.discard(one.id)
        await self._volumes.unmount(one.state.snapshotter, one.id, one.state.volumes)
        async with self._registry.removal(one):
            _, snapshotter = await self._snapshotters.choose(one.state.snapshotter)
            with suppress(NotFound):
                await snapshotter.remove(one.id)

    async def _end_task(self, id: str) -> None:
        if (NAMESPACE, id) not in self._tasks.known():
            return
        with suppress(NotFound):
            with suppress(CoredError):
                await self._tasks.kill(id, signal.SIGKILL)
            state = await self._tasks.state(id)
            if state.status is not Status.CREATED:
                await self._tasks.wait(id)
            await self._tasks.delete(id)


def _ended(one: Container, exit: Exit, oom: bool) -> State:
    reason = "OOMKilled" if oom else ("Completed" if exit.status == 0 else "Error")
    return replace(one.state, finished_at=exit.exited_at, exit_code=exit.status, reason=reason)


def _shares_pids(one: Container) -> bool:
    """Whether its end does not take the other processes of its cgroup along by itself."""
    return bool(one.config.linux.security_context.namespace_options.pid != pb.CONTAINER)


def _accounts(rootfs: Sequence[Mount], place: Path) -> tuple[str, str]:
    """The image's passwd and group. FailedPrecondition."""
    with linux.mounted(rootfs, place) as root:
        return _read(root, "/etc/passwd"), _read(root, "/etc/group")


def _read(root: Path, path: str) -> str:
    """A file of the container's, looked up as the container would; '' where there is none."""
    try:
        with linux.opened_below(str(root), path) as found:
            return Path(found).read_text(errors="replace")
    except OSError:
        return ""
