"""Containers while they run and when they end: started, watched, started again, found again."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from cored import log, scope
from cored.abc.events import EventBus
from cored.abc.records import Container, ContainerStore
from cored.abc.runtime import Exit, Status, Stdio
from cored.abc.snapshots import Snapshotter
from cored.abc.values import Typed
from cored.engine import restarts
from cored.engine.health import HealthChecks
from cored.engine.links import linked
from cored.engine.lives import Key, Lives
from cored.engine.logdrivers import LogDrivers
from cored.engine.networking import Networking
from cored.engine.recipe import Recipe, joinable
from cored.engine.restarts import Backoff
from cored.engine.sharing import Sharing, renewed
from cored.engine.storage import Storage
from cored.engine.tasks import Tasks
from cored.engine.userns import ids_of, mapped
from cored.engine.why import Diagnosis
from cored.engine.workload import (
    NAME,
    STATE,
    ContainerConfig,
    ContainerState,
    decoded,
    with_state,
)
from cored.errors import CoredError, NotFound
from cored.scope import Scope

__all__ = ["SPEC", "Supervision"]

SPEC = "types.containerd.io/opencontainers/runtime-spec/1/Spec"


class Discard(Protocol):
    """Remove all that belongs to a container."""

    def __call__(self, record: Container, *, volumes: bool = False) -> Awaitable[None]: ...


class Supervision:
    """``recipe`` answers what a container is made from, ``discard`` removes one."""

    def __init__(
        self,
        store: ContainerStore,
        tasks: Tasks,
        snapshotters: Mapping[str, Snapshotter],
        networking: Networking,
        storage: Storage,
        health: HealthChecks,
        lives: Lives,
        bus: EventBus,
        recipe: Callable[[str, ContainerConfig], Recipe],
        discard: Discard,
        logs: LogDrivers,
        diagnosis: Diagnosis,
    ) -> None:
        self._store = store
        self._tasks = tasks
        self._snapshotters = snapshotters
        self.networking = networking
        self.storage = storage
        self.health = health
        self.lives = lives
        self._bus = bus
        self._recipe = recipe
        self._discard = discard
        self._logs = logs
        self._diagnosis = diagnosis
        # who wanted the end of those that are about to have it
        self._asked: dict[Key, tuple[str, float]] = {}
        self._backoff = Backoff()
        # whose tasks could not be deleted: they are in the way of the next start
        self._stuck: set[Key] = set()
        self._oom: set[Key] = set()
        self._due: list[Key] = []

    def share(self, sharing: Sharing) -> None:
        """Whom to ask for what a container has of others; before any is started."""
        self._sharing = sharing

    def forget(self, key: Key) -> None:
        """Its next restart is its first."""
        self._backoff.forget(key)

    async def start(self, record: Container, fifos: Stdio | None = None, again: int = 0) -> int:
        """Start it and answer its pid. ``again``: how often its policy has, this time included."""
        key = (scope.namespace(), record.id)
        config, _ = decoded(record)
        if fifos is not None:
            # a task that was created, not started, has the streams of then
            await self.end_task(record.id)
        try:
            if key in self._stuck:
                await self.end_task(record.id)
            await self.storage.ready(config)
            if key in self._tasks.known() and await self._outdated(record, config):
                fifos = joinable((await self._tasks.state(record.id)).stdio)
                await self.end_task(record.id)
            if key not in self._tasks.known():
                # gone with a reboot
                await asyncio.to_thread(self._recipe(record.id, config).share_memory)
                await self._new_task(record, config, fifos or Stdio())
            await self._join(record)
            self._oom.discard(key)
            pid = await self._tasks.start(record.id)
        except CoredError as error:
            explained = await self._diagnosis.explained(record, error)
            await self._failed(record, explained, again)
            raise explained from error
        self._asked.pop(key, None)
        state = decoded(record)[1].after(again, time.time_ns())
        record = await self.put(record, state)
        self.lives.begin(key, self._ending(key, record.id, config))
        if config.health is not None:
            self.health.begin(record, config.health, self._recipe(record.id, config).place)
        return pid

    async def _outdated(self, record: Container, config: ContainerConfig) -> bool:
        """Whether what it has of others has changed since its task was created."""
        borrowed = await self._sharing.borrowed(config)
        if borrowed is None or record.spec is None:
            return False
        document = json.loads(record.spec.value)
        renewed(document, borrowed)
        return bool(document != json.loads(record.spec.value))

    async def _new_task(self, record: Container, config: ContainerConfig, fifos: Stdio) -> None:
        borrowed = await self._sharing.borrowed(config)
        if borrowed is not None and record.spec is not None:
            document = json.loads(record.spec.value)
            renewed(document, borrowed)
            spec = Typed(SPEC, json.dumps(document).encode())
            await self._store.update(replace(record, spec=spec), ("spec",))
        mounts = await self._snapshotters[record.snapshotter].mounts(record.id)
        recipe = self._recipe(record.id, config)
        fifos = fifos if fifos.stdin or fifos.stdout or fifos.stderr else recipe.fifos
        stdio = self._logs.stdio(record, recipe.place, fifos)
        async with self.storage.parts(config, recipe.place):
            await self._tasks.create(record.id, rootfs=mapped(mounts, ids_of(record)), stdio=stdio)

    async def _join(self, record: Container) -> None:
        """Put a created container into its networks. CoredError, as they have it."""
        config, _ = decoded(record)
        if config.links:
            config = await linked(config, self._sharing.find, self.networking)
        task = self._tasks.known()[scope.namespace(), record.id]
        recipe = self._recipe(record.id, config)
        await self.networking.join(
            record.id, task.pid, record.labels[NAME], recipe.hostname, config, recipe.place
        )

    async def _ending(self, key: Key, id: str, config: ContainerConfig) -> Exit:
        """Wait for the end; keep how it was, free the task, and do what is then to do."""
        scope.enter(Scope(key[0]))
        try:
            exit = await self._tasks.wait(id)
            self.lives.remember(key, exit)
            self.health.end(id)
            causes = await self._causes(key) if exit.status else {}
            # the kernel takes its time with both
            await asyncio.gather(
                self._tried(key, self._freed(key, config)),
                self._tried(key, self.networking.leave(id)),
            )
            # much may have been changed meanwhile: networks, limits, policies
            await self._tried(key, self._after(key, exit, causes))
        except CoredError as error:
            log.get("containers").error("end unknown", id=id, error=str(error))
            raise
        finally:
            self.lives.over(key)
        self.lives.settle(key, exit)
        return exit

    async def _tried(self, key: Key, work: Awaitable[None]) -> None:
        """One step after an end: that it fails must not keep the others from being done."""
        try:
            await work
        except NotFound:
            pass  # a containerd client has deleted the task itself, or the whole container
        except Exception as error:
            log.get("containers").error("after the end", id=key[1], error=repr(error))

    async def _freed(self, key: Key, config: ContainerConfig) -> None:
        id, left = key[1], Stdio()
        self._stuck.add(key)
        try:
            if config.terminal and config.open_stdin:  # others cannot be detached from
                left = joinable((await self._tasks.state(id)).stdio)
            await self._tasks.delete(id)
        finally:
            if key not in self._tasks.known():
                self._stuck.discard(key)
        _remove_left(left)

    async def _causes(self, key: Key) -> Mapping[str, int]:
        task = self._tasks.known().get(key)
        try:
            return {} if task is None else await asyncio.to_thread(task.causes)
        except (CoredError, OSError) as error:
            log.get("containers").warning("causes", id=key[1], error=str(error))
            return {}

    async def _after(self, key: Key, exit: Exit, causes: Mapping[str, int]) -> None:
        record = await self._store.get(key[1])
        config, _ = decoded(record)
        await self._tried(key, self.storage.ended(config, key[1]))
        # while no daemon was there nobody has heard of it
        oom = key in self._oom or causes.get("oom_kills", 0) > 0
        self._oom.discard(key)
        asked = self._who_asked(key)

        def ended(record: Container) -> ContainerState:
            config, state = decoded(record)
            state = replace(
                state, exited_at=exit.exited_at, exit_status=exit.status, oom_killed=oom,
                causes=causes, asked=asked,
            )  # fmt: skip
            return replace(state, restarting=restarts.wanted(config.restart, state))

        if config.auto_remove:
            if exit.status:
                await self._diagnosis.remember(with_state(record, ended(record)))
            await self._discard(record, volumes=True)
            return
        _, state = decoded(await self._amended(key, ended))
        if state.restarting:
            delay = self._backoff.next(key, state.started_at, exit)
            self.lives.restart_later(key, self._again(key, delay))

    async def _again(self, key: Key, delay: float) -> None:
        """Start it after so many seconds; where it cannot, try again as its policy says."""
        scope.enter(Scope(key[0]))
        while True:
            await asyncio.sleep(delay)
            self.lives.restart_begins(key)
            async with self.lives.gate(key):
                try:
                    record = await self._store.get(key[1])
                    if key in self.lives:
                        return
                    await self.start(record, None, decoded(record)[1].restarts + 1)
                    return
                except NotFound:
                    return
                except CoredError as error:
                    log.get("containers").warning("restart", id=key[1], error=str(error))
                config, state = decoded(await self._store.get(key[1]))
                if not restarts.wanted(config.restart, state):
                    return
                exit = Exit(0, state.exit_status, state.exited_at)
                delay = self._backoff.next(key, 0, exit)
                await self.put(record, replace(state, restarting=True))
                self.lives.restart_later(key, self._again(key, delay))
                return

    async def _failed(self, record: Container, error: CoredError, again: int) -> None:
        """It could not be started: keep why, as the record says it, and free the task."""
        with suppress(CoredError):
            await self._tasks.kill(record.id, signal.SIGKILL)
        key = (scope.namespace(), record.id)
        config, _ = decoded(record)
        await self._tried(key, self._freed(key, replace(config, terminal=False)))
        await self._tried(key, self.networking.leave(record.id))
        await self._tried(key, self.storage.ended(config))
        failed = ContainerState(
            exited_at=time.time_ns(), exit_status=128, error=str(error), restarts=again,
            lives=decoded(record)[1].after(again, 0).lives,
        )  # fmt: skip
        if config.auto_remove:
            await self._diagnosis.remember(with_state(record, failed))
            await self._discard(record, volumes=True)
        else:
            await self.put(record, failed)
        self.lives.settle(key, Exit(0, failed.exit_status, failed.exited_at))

    async def adopt(self, record: Container) -> None:
        """A container of an earlier daemon; a broken one must not keep this one from coming."""
        key = (scope.namespace(), record.id)
        await self._tried(key, self._adopt(key, record))

    async def _adopt(self, key: Key, record: Container) -> None:
        config, state = decoded(record)
        self.health.recall(record.id, self._recipe(record.id, config).place)
        if key in self._tasks.known() and await self._started(record.id):
            self.lives.begin(key, self._ending(key, record.id, config))
            if config.health is not None:
                place = self._recipe(record.id, config).place
                self.health.begin(record, config.health, place, adopted=True)
            return
        if config.auto_remove and (state.exited_at == 0):
            await self._discard(record, volumes=True)
            return
        if state.started_at and not state.exited_at:
            now = time.time_ns()
            error = "ended with the machine"
            state = replace(state, exited_at=now, exit_status=255, error=error)
            await self.put(record, state)
        if state.exited_at and restarts.wanted(config.restart, state, boot=True):
            await self.put(record, replace(state, restarting=True, stopped=False))
            self._due.append(key)

    async def _started(self, id: str) -> bool:
        try:
            return (await self._tasks.state(id)).status is not Status.CREATED
        except CoredError as error:
            # most likely it runs, and its shim will answer later
            log.get("containers").warning("not answering", id=id, error=str(error))
            return True

    def restart_due(self) -> None:
        """Start those that :meth:`adopt` has found waiting; what others have left is cleared."""
        for key in self._due:
            self.lives.restart_later(key, self._again(key, 0))
        self._due.clear()

    async def end_task(self, id: str) -> None:
        """Kill and delete its task, if it has one."""
        if (scope.namespace(), id) in self._tasks.known():
            with suppress(NotFound):
                await self._tasks.kill(id, signal.SIGKILL)
            with suppress(NotFound):
                await self._tasks.wait(id)
                await self._tasks.delete(id)
        self._stuck.discard((scope.namespace(), id))

    async def put(self, record: Container, state: ContainerState) -> Container:
        # only this: names and limits may have been changed since somebody read the record
        return await self._store.update(with_state(record, state), (f"extensions.{STATE}",))

    async def _amended(self, key: Key, change: Callable[[Container], ContainerState]) -> Container:
        """Make the state another by what it is now: of two who do so the second sees the first."""
        async with self.lives.pen(key):
            record = await self._store.get(key[1])
            return await self.put(record, change(record))

    async def stopped_by_hand(self, record: Container) -> None:
        """Keep that somebody wanted it to end, where its policy asks for that."""
        config, _ = decoded(record)
        if config.restart.name not in ("", "no"):
            key = (scope.namespace(), record.id)
            await self._amended(key, lambda now: replace(decoded(now)[1], stopped=True))

    def asked(self, id: str, what: str, within: float = 10.0) -> None:
        """Somebody does what may end it in so many seconds."""
        key = (scope.namespace(), id)
        if key in self.lives:
            self._asked[key] = what, time.monotonic() + within

    def _who_asked(self, key: Key) -> str:
        what, until = self._asked.pop(key, ("", 0.0))
        return what if time.monotonic() < until else ""

    async def put_off(self, id: str) -> None:
        """A restart that was awaited is not to come."""
        key = (scope.namespace(), id)
        record = await self._amended(key, lambda now: replace(decoded(now)[1], restarting=False))
        _, state = decoded(record)
        self.lives.settle(key, Exit(0, state.exit_status, state.exited_at))

    async def notice_oom(self) -> None:
        async for envelope in self._bus.subscribe(("topic==/tasks/oom",)):
            id = getattr(envelope.event, "container_id", None) or envelope.fields.get(
                "container_id"
            )
            key = (envelope.namespace, str(id))
            if key in self.lives:  # others' ends nobody would ever ask for
                self._oom.add(key)

    def pid(self, id: str) -> int:
        key = (scope.namespace(), id)
        task = self._tasks.known().get(key)
        return task.pid if task is not None and key in self.lives else 0


def _remove_left(stdio: Stdio) -> None:
    """The pipes of a corectl that has left its container to itself, and so has left them here."""
    for path in map(Path, filter(None, (stdio.stdin, stdio.stdout, stdio.stderr))):
        if path.parent.name.startswith("corectl-"):
            path.unlink(missing_ok=True)
            with suppress(OSError):  # others are in it; or corectl was faster
                path.parent.rmdir()
