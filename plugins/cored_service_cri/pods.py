"""Pods from end to end: namespaces, network, files, and the pause that holds them."""

from __future__ import annotations

import asyncio
import signal
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from cored import log
from cored._pb.containerd.runc.v1 import oci_pb2
from cored._pb.cri.v1 import api_pb2 as pb
from cored.abc.records import Container as Record
from cored.abc.runtime import Status
from cored.abc.values import Mount, Typed
from cored.cni import namespaces
from cored.engine import names
from cored.engine.gather import first, together
from cored.engine.tasks import Tasks
from cored.errors import CoredError, InvalidArgument, NotFound
from cored.oci.security import Host
from cored_service_cri import files, pause, resources, spec
from cored_service_cri.cgroups import Cgroups
from cored_service_cri.events import Events
from cored_service_cri.networks import PodNetworks
from cored_service_cri.registry import Registry
from cored_service_cri.values import NAMESPACE, Pod, PodState

__all__ = ["Pods", "runtime_options"]

_DEFAULT_RUNTIME = "io.containerd.runc.v2"


def runtime_options(parent: str) -> Typed | None:
    """The options of a task whose cgroup is systemd's."""
    if not resources.is_systemd(parent):
        return None
    options = oci_pb2.Options(systemd_cgroup=True)
    return Typed("containerd.runc.v1.Options", options.SerializeToString())


class Pods:
    """``state`` has the pods' directories, ``root`` what outlives reboots."""

    def __init__(
        self,
        registry: Registry,
        tasks: Tasks,
        networks: PodNetworks,
        cgroups: Cgroups,
        events: Events,
        host: Host,
        root: Path,
        state: Path,
    ) -> None:
        self._registry = registry
        self._tasks = tasks
        self._networks = networks
        self._cgroups = cgroups
        self._events = events
        self._host = host
        self._rootfs = root / "pause"
        self._state = state
        self._watchers: dict[str, asyncio.Task[None]] = {}
        # those that are there: to ask is to run a program
        self._runtimes: set[str] = set()

    async def recover(self) -> None:
        """What became of the pods meanwhile."""
        await self._networks.recover(self._registry.pods)
        for pod in list(self._registry.pods.values()):
            if not pod.state.ready:
                continue
            if await self._alive(pod):
                self._cgroups.learn(pod.id, pod.state.pid)
                self._watch(pod.id)
            else:
                await self._registry.change(_not_ready(pod))
        if self._state.is_dir():
            for place in self._state.iterdir():
                if place.name not in self._registry.pods:
                    await asyncio.to_thread(files.discard, place)

    async def close(self) -> None:
        """Stop watching; the pods stay."""
        for watcher in self._watchers.values():
            watcher.cancel()
        await asyncio.gather(*self._watchers.values(), return_exceptions=True)

    def place(self, id: str) -> Path:
        """The directory of a pod's files."""
        return self._state / id

    async def run(self, config: pb.PodSandboxConfig, handler: str) -> str:
        """Make a pod and answer its id; nothing stays of one that fails."""
        if not config.metadata.name or not config.metadata.namespace:
            raise InvalidArgument("pod sandbox: its metadata needs a name and a namespace")
        runtime = handler or _DEFAULT_RUNTIME
        if runtime not in self._runtimes:
            await self._tasks.runtime_info(runtime, None)
            self._runtimes.add(runtime)
        state = PodState(handler, runtime, time.time_ns())
        pod = Pod(names.new_id(), config, state)
        spec.id_range(pod.modes)
        with self._registry.reserved(pod.name, pod.id):
            try:
                pod = await self._made(pod)
            except BaseException:
                await asyncio.shield(self._discard(pod))
                raise
        self._watch(pod.id)
        self._events.pod(pb.CONTAINER_CREATED_EVENT, pod)
        self._events.pod(pb.CONTAINER_STARTED_EVENT, pod)
        return pod.id

    async def stop(self, pod: Pod) -> None:
        """End the pause, leave the network; fine when that has happened."""
        watcher = self._watchers.pop(pod.id, None)
        if watcher is not None:
            watcher.cancel()
        await together((self._end(pod.id), self._networks.detach(pod.id)))
        self._cgroups.forget(pod.id)
        await self._networks.remove(pod.id)
        await asyncio.to_thread(files.release, self.place(pod.id))
        pod = self._registry.pods.get(pod.id, pod)
        if pod.state.ready:
            with suppress(NotFound):  # it is being removed
                pod = await self._registry.change(_not_ready(pod))
            self._events.pod(pb.CONTAINER_STOPPED_EVENT, pod)

    async def remove(self, pod: Pod) -> None:
        """Forget a pod that has been stopped, and whose containers are gone."""
        async with self._registry.removal(pod):
            await self._networks.remove(pod.id)
            await asyncio.to_thread(files.discard, self.place(pod.id))
        self._events.pod(pb.CONTAINER_DELETED_EVENT, pod)

    async def _made(self, pod: Pod) -> Pod:
        await asyncio.to_thread(files.prepare, self.place(pod.id), pod)
        ids = spec.id_range(pod.modes)
        netns = ""
        # a network namespace belongs to the user namespace that it was made in
        early = not pod.host_network and ids is None
        if early:
            netns = await self._networks.make(pod.id)
        try:
            async with asyncio.TaskGroup() as group:
                attached = group.create_task(self._networks.attach(pod)) if early else None
                created = group.create_task(self._create_pause(pod, netns))
        except BaseExceptionGroup as errors:
            raise first(errors) from errors
        pid = created.result()
        if not pod.host_network and not early:
            netns = await self._networks.make(pod.id, pid)
            ips = await self._networks.attach(pod)
        else:
            ips = attached.result() if attached else ()
        pid = await self._tasks.start(pod.id)
        ready = replace(pod.state, netns=netns, ips=ips, ready=True, pid=pid)
        return await self._registry.change(replace(pod, state=ready))

    async def _create_pause(self, pod: Pod, netns: str) -> int:
        def prepared() -> Typed:
            pause.rootfs(self._rootfs)
            return spec.typed(spec.sandbox(pod, netns, self.place(pod.id), self._host))

        record = Record(
            id=pod.id,
            labels=pod.labels,
            runtime=pod.state.runtime,
            runtime_options=runtime_options(pod.config.linux.cgroup_parent),
            spec=await asyncio.to_thread(prepared),
            extensions=pod.extensions(),
        )
        await self._registry.add(pod, record)
        root = [Mount("bind", str(self._rootfs), "", ("rbind", "ro"))]
        found = await self._tasks.create(pod.id, rootfs=root)
        self._cgroups.learn(pod.id, found.pid)
        return found.pid

    async def _discard(self, pod: Pod) -> None:
        """Remove whatever there is of a pod that could not be made."""
        await self._end(pod.id)
        async with self._registry.removal(pod):
            await self._networks.remove(pod.id)
            await asyncio.to_thread(files.discard, self.place(pod.id))

    async def _end(self, id: str) -> None:
        """Kill and delete the pause, if there is one."""
        if (NAMESPACE, id) not in self._tasks.known():
            return
        with suppress(NotFound):
            with suppress(CoredError):
                await self._tasks.kill(id, signal.SIGKILL)
            state = await self._tasks.state(id)
            if state.status is not Status.CREATED:
                await self._tasks.wait(id)
            await self._tasks.delete(id)

    async def _alive(self, pod: Pod) -> bool:
        """Whether the pause runs, and the network is there (which a reboot takes away)."""
        try:
            state = await self._tasks.state(pod.id)
        except NotFound:
            return False
        there = not pod.state.netns or namespaces.exists(pod.state.netns)
        return state.status is Status.RUNNING and there

    def _watch(self, id: str) -> None:
        self._watchers[id] = asyncio.create_task(self._ending(id), name=f"pod {id}")

    async def _ending(self, id: str) -> None:
        """A pause that ends by itself takes its pod along: kubelet makes another one."""
        try:
            exit = await self._tasks.wait(id)
            pod = self._registry.pods.get(id)
            log.get("cri").warning("a pod's pause has ended", pod=id, status=exit.status)
            if pod is not None and pod.state.ready:
                pod = await self._registry.change(_not_ready(pod))
                self._events.pod(pb.CONTAINER_STOPPED_EVENT, pod)
        except CoredError as error:
            log.get("cri").info("a pod is no longer watched", pod=id, error=str(error))


def _not_ready(pod: Pod) -> Pod:
    return replace(pod, state=replace(pod.state, ready=False, pid=0))
