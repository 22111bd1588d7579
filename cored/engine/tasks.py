"""Tasks: the running side of containers, across the runtime, the records and the events.

The runtime supervises; this module decides who may ask for what, publishes what happened (once,
in order: create, start, exit, delete) and finds everything again after a restart.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from cored import log, scope
from cored.abc import events
from cored.abc.events import EventBus
from cored.abc.records import ContainerStore
from cored.abc.runtime import (
    CreateOptions,
    ExecOptions,
    Exit,
    ProcessState,
    Runtime,
    RuntimeInfo,
    Status,
    Stdio,
    Task,
)
from cored.abc.values import Labels, Mount, Typed
from cored.engine.gather import whole
from cored.errors import (
    AlreadyExists,
    CoredError,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
)
from cored.later import Later
from cored.metadata.names import check_identifier
from cored.scope import Scope

__all__ = ["Tasks"]

SpecHook = Callable[[str, str, dict[str, Any]], None]


@dataclass(slots=True)
class _Entry:
    """A task, and by exec id: the watchers of its processes, and the gates that order events.

    ``over`` are the processes whose exits have been published, ``exits`` are all that are known.
    """

    task: Task
    watchers: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    pids: dict[str, int] = field(default_factory=dict)
    gates: dict[str, asyncio.Lock] = field(default_factory=dict)
    over: set[str] = field(default_factory=set)
    exits: dict[str, Exit] = field(default_factory=dict)

    def gate(self, exec_id: str) -> asyncio.Lock:
        """Held while a process starts, so that its exit is not published before its start."""
        return self.gates.setdefault(exec_id, asyncio.Lock())

    async def exit_published(self, exec_id: str) -> None:
        """Return when the exit of a process that ended has been published."""
        watcher = self.watchers.get(exec_id)
        if watcher is not None:
            await asyncio.wait([watcher])


class Tasks:
    """All tasks of the daemon; use as ``async with Tasks.opened(...)``."""

    def __init__(
        self,
        runtime: Runtime,
        containers: Later[ContainerStore],
        bus: EventBus,
        adjust_spec: Callable[[], SpecHook | None],
    ) -> None:
        self._runtime = runtime
        self._containers = containers
        self._bus = bus
        self._adjust_spec = adjust_spec
        self._entries: dict[tuple[str, str], _Entry] = {}
        self._unwatched: set[tuple[str, str]] = set()
        self._creating: set[tuple[str, str]] = set()
        self._watching: set[asyncio.Task[None]] = set()

    @classmethod
    @asynccontextmanager
    async def opened(
        cls,
        runtime: Runtime,
        containers: Later[ContainerStore],
        bus: EventBus,
        adjust_spec: Callable[[], SpecHook | None] = lambda: None,
    ) -> AsyncIterator[Tasks]:
        """Find the tasks of earlier daemons, then serve; leave all of them running at the end.

        ``adjust_spec`` answers what is to look at each spec, if anything.
        """
        tasks = cls(runtime, containers, bus, adjust_spec)
        await tasks._recover()
        try:
            yield tasks
        finally:
            await tasks._stop_watching()

    async def create(
        self,
        container_id: str,
        *,
        rootfs: Sequence[Mount] = (),
        stdio: Stdio | None = None,
        checkpoint: str = "",
        options: Typed | None = None,
        runtime: str = "",
        spec: Typed | None = None,
    ) -> ProcessState:
        """Create the task of a container's record. AlreadyExists; FailedPrecondition.

        ``spec`` goes before the record's: for what must not be kept.
        """
        key = (scope.namespace(), container_id)
        record = await (await self._containers.get()).get(container_id)
        if record.spec is None:
            raise FailedPrecondition(f"container {container_id!r}: its record has no spec")
        if key in self._entries or key in self._creating:
            raise AlreadyExists(f"task {container_id!r}: already exists")
        wanted = CreateOptions(
            spec=self._adjusted(spec or record.spec, container_id),
            rootfs=rootfs,
            stdio=stdio or Stdio(),
            checkpoint=checkpoint,
            options=options or record.runtime_options,
            runtime=runtime or record.runtime,
            sandbox=record.sandbox,
            labels=record.labels,
        )
        self._creating.add(key)
        try:
            task = await self._runtime.create(container_id, wanted)
            self._entries[key] = _Entry(task)
        except CoredError:
            # not before: a good spec is long, and the runtime reads it anyway
            _check_json(f"container {container_id!r}: its spec", wanted.spec)
            raise
        finally:
            self._creating.discard(key)
        await self._bus.publish(self._created(task, wanted))
        self._watch(key, "")
        return ProcessState(task.id, "", str(task.bundle), task.pid, Status.CREATED, wanted.stdio)

    async def start(self, id: str, exec_id: str = "") -> int:
        """Start a created process and answer its pid."""
        # whatever becomes of the caller: what has started is watched, and its events are published
        return await whole(self._start(id, exec_id))

    async def _start(self, id: str, exec_id: str) -> int:
        entry = self._entry(id)
        _check_exec(id, exec_id)
        async with entry.gate(exec_id):
            pid = entry.pids[exec_id] = await entry.task.start(exec_id)
            started: events.Event = events.TaskStart(id, pid)
            if exec_id:
                started = events.TaskExecStarted(id, exec_id, pid)
            await self._bus.publish(started)
        self._watch((scope.namespace(), id), exec_id)
        return pid

    async def exec(self, id: str, exec_id: str, options: ExecOptions) -> None:
        """Create one more process in a running task. AlreadyExists; InvalidArgument."""
        task = self._entry(id).task
        check_identifier("exec", exec_id)
        _check_json(f"exec {exec_id!r} of task {id!r}: its process", options.spec)
        await task.exec(exec_id, options)
        await self._bus.publish(events.TaskExecAdded(id, exec_id))

    async def delete(self, id: str, exec_id: str = "") -> Exit:
        """Forget a stopped process, or ('' ) the whole task. Its exit has been published."""
        # half of it must not stay because the caller went away
        return await whole(self._delete(id, exec_id))

    async def _delete(self, id: str, exec_id: str) -> Exit:
        key = (scope.namespace(), id)
        entry = self._entry(id)
        _check_exec(id, exec_id)
        if exec_id not in entry.over:
            await self._must_have_stopped(entry, id, exec_id)
        exit = await entry.task.delete(exec_id)
        entry.exits.setdefault(exec_id, exit)
        if exec_id:
            entry.gates.pop(exec_id, None)
            entry.pids.pop(exec_id, None)
            entry.over.discard(exec_id)
            entry.exits.pop(exec_id, None)
            watcher = entry.watchers.pop(exec_id, None)
            if watcher is not None:
                watcher.cancel()
        elif self._entries.pop(key, None) is None:
            raise NotFound(f"task {id!r}: not found")
        else:
            for watcher in entry.watchers.values():
                watcher.cancel()
            await self._bus.publish(events.TaskDelete(id, exit.pid, exit.status, exit.exited_at))
        return exit

    async def _must_have_stopped(self, entry: _Entry, id: str, exec_id: str) -> None:
        """FailedPrecondition unless it has, or never ran; then its exit has been published."""
        state = await entry.task.state(exec_id)
        if state.status in (Status.RUNNING, Status.PAUSED, Status.PAUSING):
            what = f"process {exec_id!r} of task {id!r}" if exec_id else f"task {id!r}"
            raise FailedPrecondition(f"{what}: must be stopped before deletion: is {state.status}")
        if state.status is Status.STOPPED:
            await entry.exit_published(exec_id)

    async def kill(self, id: str, signal: int, exec_id: str = "", all: bool = False) -> None:
        """Send a signal to one process, or to all of the task."""
        await self._entry(id).task.kill(signal, exec_id=exec_id, all=all)

    async def wait(self, id: str, exec_id: str = "") -> Exit:
        """How a process ended, once it has."""
        entry = self._entry(id)
        watcher = entry.watchers.get(exec_id)
        if watcher is not None and exec_id not in entry.exits:
            await asyncio.wait([watcher])  # which asks already: one question for all
        if watcher is not None and exec_id in entry.exits:
            return entry.exits[exec_id]
        return await entry.task.wait(exec_id)

    async def state(self, id: str, exec_id: str = "") -> ProcessState:
        """What is known of a process."""
        return await self._entry(id).task.state(exec_id)

    async def list(self) -> list[ProcessState]:
        """The init processes of all tasks in the namespace."""
        namespace = scope.namespace()
        entries = [e for (where, _), e in self._entries.items() if where == namespace]
        states = await asyncio.gather(*(e.task.state() for e in entries), return_exceptions=True)
        return [s for s in states if isinstance(s, ProcessState)]

    async def resize(self, id: str, width: int, height: int, exec_id: str = "") -> None:
        """Set the size of a process's terminal, in characters."""
        await self._entry(id).task.resize(width, height, exec_id)

    async def join(self, id: str, stdout: str, stderr: str) -> None:
        """Copy its output to FIFOs of one more reader."""
        await self._entry(id).task.join(stdout, stderr)

    async def close_stdin(self, id: str, exec_id: str = "") -> None:
        """Let a process see the end of its input."""
        await self._entry(id).task.close_stdin(exec_id)

    async def pause(self, id: str) -> None:
        """Freeze all processes."""
        await self._entry(id).task.pause()
        await self._bus.publish(events.TaskPaused(id))

    async def resume(self, id: str) -> None:
        """Thaw all processes."""
        await self._entry(id).task.resume()
        await self._bus.publish(events.TaskResumed(id))

    async def pids(self, id: str) -> Sequence[int]:
        """The pids of all processes, as the host sees them."""
        return await self._entry(id).task.pids()

    async def update(self, id: str, resources: Typed, annotations: Labels) -> None:
        """Change the limits of a running task; ``resources`` is OCI linux.resources as JSON."""
        await self._entry(id).task.update(resources, annotations)

    async def stats(self, id: str) -> Typed:
        """The cgroup's metrics."""
        return await self._entry(id).task.stats()

    async def checkpoint(self, id: str, path: str, options: Typed | None) -> None:
        """Write a checkpoint to the directory ``path``."""
        await self._entry(id).task.checkpoint(path, options)
        await self._bus.publish(events.TaskCheckpointed(id, path))

    async def runtime_info(self, runtime: str, options: Typed | None) -> RuntimeInfo:
        """What the runtime says of itself."""
        return await self._runtime.info(runtime, options)

    async def runtimes(self) -> Sequence[RuntimeInfo]:
        """All that containers may ask for here."""
        return await self._runtime.runtimes()

    def known(self) -> Mapping[tuple[str, str], Task]:
        """All tasks by (namespace, id)."""
        return {key: entry.task for key, entry in self._entries.items()}

    def _entry(self, id: str) -> _Entry:
        key = (scope.namespace(), id)
        try:
            entry = self._entries[key]
        except KeyError:
            raise NotFound(f"task {id!r}: not found") from None
        if key in self._unwatched:  # what is done to it may end it
            self._unwatched.remove(key)
            self._watch_all(key)
        return entry

    def _adjusted(self, spec: Typed, id: str) -> Typed:
        """The spec as the observer plugins want it; untouched bytes where there are none."""
        adjust = self._adjust_spec()
        if adjust is None:
            return spec
        document = json.loads(spec.value)
        adjust(scope.namespace(), id, document)
        return Typed(spec.type_url, json.dumps(document).encode())

    def _created(self, task: Task, wanted: CreateOptions) -> events.TaskCreate:
        return events.TaskCreate(
            container_id=task.id,
            bundle=str(task.bundle),
            rootfs=tuple(wanted.rootfs),
            stdin=wanted.stdio.stdin,
            stdout=wanted.stdio.stdout,
            stderr=wanted.stdio.stderr,
            terminal=wanted.stdio.terminal,
            checkpoint=wanted.checkpoint,
            pid=task.pid,
        )

    def _watch(self, key: tuple[str, str], exec_id: str) -> None:
        """Publish the exit of a process when it comes, once."""
        entry = self._entries.get(key)
        if entry is None or exec_id in entry.watchers:
            return
        watcher = asyncio.create_task(
            self._publish_exit(key, entry, exec_id), name=f"exit of {key[1]}/{exec_id}"
        )
        entry.watchers[exec_id] = watcher
        self._watching.add(watcher)
        watcher.add_done_callback(self._watching.discard)

    async def _publish_exit(self, key: tuple[str, str], entry: _Entry, exec_id: str) -> None:
        namespace, id = key
        log.context(namespace=namespace, container=id)
        try:
            with scope.entered(Scope(namespace)):
                exit = await entry.task.wait(exec_id)
        except CoredError as error:
            # the task was deleted before it started, or its supervisor is beyond reach
            log.get("tasks").info("no exit to publish", exec_id=exec_id, reason=str(error))
            return
        if exec_id and not exit.exited_at:
            return  # it was deleted before it started
        entry.exits[exec_id] = exit
        async with entry.gate(exec_id):
            pid = exit.pid or entry.pids.get(exec_id, 0)
            await self._bus.publish(
                events.TaskExit(id, exec_id or id, pid, exit.status, exit.exited_at),
                namespace=namespace,
            )
            entry.over.add(exec_id)
        # before the loop turns, and the events are on their way
        entry.task.tell_exit(exec_id)

    async def _recover(self) -> None:
        for key, task in (await self._runtime.recover()).items():
            self._entries[key] = _Entry(task)
            self._unwatched.add(key)

    def watch(self) -> None:
        """Publish the exits of processes of earlier daemons: now there is somebody to hear it."""
        while self._unwatched:
            self._watch_all(self._unwatched.pop())

    def _watch_all(self, key: tuple[str, str]) -> None:
        for exec_id in self._entries[key].task.untold():
            self._watch(key, exec_id)

    async def _stop_watching(self) -> None:
        watchers = list(self._watching)
        for watcher in watchers:
            watcher.cancel()
        await asyncio.gather(*watchers, return_exceptions=True)


def _check_exec(id: str, exec_id: str) -> None:
    """NotFound for what no exec can be called: files have their names."""
    try:
        if exec_id:
            check_identifier("exec", exec_id)
    except InvalidArgument:
        raise NotFound(f"process {exec_id!r} of task {id!r}: not found") from None


def _check_json(what: str, spec: Typed) -> None:
    """InvalidArgument unless ``spec`` is a JSON object."""
    try:
        document = json.loads(spec.value)
    except (ValueError, RecursionError) as error:
        raise InvalidArgument(f"{what} is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise InvalidArgument(f"{what} is no JSON object")
