"""Containers while they live: started, stopped, watched to their end, found again."""

from __future__ import annotations

import asyncio
import signal
import time
from contextlib import suppress
from dataclasses import replace

from cored import log
from cored._pb.cri.v1 import api_pb2 as pb
from cored.abc.runtime import Exit, Status
from cored.engine.snapshotters import Snapshotters
from cored.engine.tasks import Tasks
from cored.engine.userns import mapped
from cored.errors import CoredError, FailedPrecondition, NotFound
from cored_service_cri import signals, spec
from cored_service_cri.cgroups import Cgroups
from cored_service_cri.events import Events
from cored_service_cri.output import Output
from cored_service_cri.registry import Registry
from cored_service_cri.values import NAMESPACE, Container, State

__all__ = ["Lives"]

_START_ERROR = 128
_KILL_PATIENCE = 60.0
_PAUSE = 1.0


class Lives:
    """A watcher for each container that runs; closing leaves the containers running."""

    def __init__(
        self,
        registry: Registry,
        tasks: Tasks,
        snapshotters: Snapshotters,
        output: Output,
        cgroups: Cgroups,
        events: Events,
    ) -> None:
        self._registry = registry
        self._tasks = tasks
        self._snapshotters = snapshotters
        self._output = output
        self._cgroups = cgroups
        self._events = events
        self._watchers: dict[str, asyncio.Task[None]] = {}
        self._starting: set[str] = set()

    async def recover(self) -> None:
        """What became of the containers meanwhile."""
        for one in list(self._registry.containers.values()):
            try:
                await self._adopt(one)
            except CoredError as error:
                # one that is broken must not keep the others from being served
                log.get("cri").error("not taken over", container=one.id, error=str(error))
                if (NAMESPACE, one.id) in self._tasks.known():
                    self._watch(one.id)
        await self._output.recover(self._registry.containers)

    async def close(self) -> None:
        """Stop watching; the containers stay."""
        for watcher in self._watchers.values():
            watcher.cancel()
        await asyncio.gather(*self._watchers.values(), return_exceptions=True)

    async def start(self, one: Container) -> None:
        """Start it; one that cannot be started has exited with 128."""
        if one.state.phase != pb.CONTAINER_CREATED:
            name = pb.ContainerState.Name(one.state.phase)
            raise FailedPrecondition(f"container {one.id!r}: is in state {name}")
        if not self._registry.pod(one.pod.id).state.ready:
            raise FailedPrecondition(f"pod sandbox {one.pod.id!r}: is not ready")
        if one.id in self._starting:
            raise FailedPrecondition(f"container {one.id!r}: is being started")
        self._starting.add(one.id)
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
        finally:
            self._starting.discard(one.id)
        one = self._registry.containers.get(one.id, one)
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

    async def end(self, id: str) -> None:
        """Kill and delete its task, if it has one."""
        if (NAMESPACE, id) not in self._tasks.known():
            return
        with suppress(NotFound):
            with suppress(CoredError):
                await self._tasks.kill(id, signal.SIGKILL)
            state = await self._tasks.state(id)
            if state.status is not Status.CREATED:
                await self._tasks.wait(id)
            await self._tasks.delete(id)

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
            exit = await self._waited(id)
            killed = exit.status == 128 + signal.SIGKILL and await self._oom_killed(id)
            try:
                await self._tasks.delete(id)
            except NotFound:
                pass  # another client has deleted it
            except CoredError as error:
                # kubelet must hear of the end; when it removes the container this is tried again
                log.get("cri").error("task not deleted", container=id, error=str(error))
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

    async def _waited(self, id: str) -> Exit:
        """How it ended, also when its shim cannot be asked for a while. NotFound."""
        while True:
            try:
                return await self._tasks.wait(id)
            except NotFound:
                raise
            except CoredError as error:
                log.get("cri").error("cannot wait", container=id, error=str(error))
                await asyncio.sleep(_PAUSE)

    async def _oom_killed(self, id: str) -> bool:
        """Its shim knows, too: a cgroup of systemd's may have gone with its last process."""
        if self._cgroups.oom_killed(id):
            return True
        task = self._tasks.known().get((NAMESPACE, id))
        try:
            causes = await asyncio.to_thread(task.causes) if task is not None else {}
        except (OSError, ValueError):
            return False
        return causes.get("oom_kills", 0) > 0

    async def _failed(self, one: Container, error: CoredError) -> None:
        """It could not be started: keep why, and free the task."""
        await self.end(one.id)
        self._output.close(one.id)
        self._cgroups.forget(one.id)
        state = replace(
            one.state, started_at=0, finished_at=time.time_ns(), exit_code=_START_ERROR,
            reason="StartError", message=error.message,
        )  # fmt: skip
        with suppress(NotFound):
            one = await self._registry.change(replace(one, state=state))
            self._events.container(pb.CONTAINER_STOPPED_EVENT, one)


def _ended(one: Container, exit: Exit, oom: bool) -> State:
    reason = "OOMKilled" if oom else ("Completed" if exit.status == 0 else "Error")
    return replace(one.state, finished_at=exit.exited_at, exit_code=exit.status, reason=reason)


def _shares_pids(one: Container) -> bool:
    """Whether its end does not take the other processes of its cgroup along by itself."""
    return bool(one.config.linux.security_context.namespace_options.pid != pb.CONTAINER)
