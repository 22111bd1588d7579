"""The shim manager: makes tasks, and finds those of earlier daemons again."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.empty_pb2 import Empty

from cored import log, scope
from cored._pb.containerd.task.v2 import shim_pb2 as pb
from cored._pb.containerd.types import mount_pb2
from cored.abc.runtime import CreateOptions, Exit, Runtime, RuntimeInfo, Task
from cored.abc.values import Typed
from cored.errors import CoredError, NotFound, Unavailable
from cored_runtime_shim import asleep, foreign, remains
from cored_runtime_shim.about import About
from cored_runtime_shim.bundle import Bundle, bundles, remove_tree
from cored_runtime_shim.choice import Runtimes
from cored_runtime_shim.foreign import OWN
from cored_runtime_shim.launch import Launcher
from cored_runtime_shim.line import Line
from cored_runtime_shim.logs import for_ours, for_strangers
from cored_runtime_shim.sandbox import ShimSandboxes
from cored_runtime_shim.task import ShimTask, killed

__all__ = ["ShimRuntime"]

# so long a shim of an earlier daemon may keep us from serving, seconds
_SIGN_OF_LIFE = 2.0
_SHUTDOWN = 5.0


class ShimRuntime(Runtime):
    """Tasks below ``state``, and sandboxes."""

    def __init__(self, state: Path, launcher: Launcher, runtimes: Runtimes) -> None:
        self._state = state
        self._launcher = launcher
        self._runtimes = runtimes
        self._about = About(runtimes)
        self._tasks: dict[Path, ShimTask] = {}
        self._removals: set[asyncio.Task[None]] = set()
        self._finding: asyncio.Task[Mapping[tuple[str, str], Task]] | None = None
        self._sweeping: asyncio.Task[None] | None = None
        self.sandboxes = ShimSandboxes(state / ".sandboxes", launcher, runtimes)

    def find(self) -> None:
        """Begin to look for tasks: their shims take a while, which the daemon can use."""
        self._finding = asyncio.create_task(self._find(), name="finding tasks")

    async def close(self) -> None:
        """Let go of what is open; every task lives on."""
        if self._finding is not None:
            self._finding.cancel()
        if self._removals:
            await asyncio.wait(self._removals)
        if self._sweeping is not None:
            await asyncio.wait([self._sweeping])
        for task in self._tasks.values():
            task.close()
        self.sandboxes.close()
        self._launcher.close()

    async def create(self, id: str, options: CreateOptions) -> Task:
        choice = await self._runtimes.choose(options.runtime, options.options, options.spec.value)
        options = replace(options, runtime=choice.shim)
        stdio = for_strangers(options.stdio) if choice.oci is None else for_ours(options.stdio)
        options = replace(options, stdio=stdio)
        bundle = Bundle.make(self._state, scope.namespace(), options, id, choice.oci)
        line: Line | None = None
        try:
            started = await self._start(bundle, options)
            line = Line(bundle.namespace, id, started.address, started.version)
            await line.connect()
            request = _create_request(bundle, options)
            answer = await line.call("Create", request, pb.CreateTaskResponse())
        except BaseException as error:
            # our shim, when it answers, has cleaned up its part
            answered = isinstance(error, CoredError) and not isinstance(error, Unavailable)
            answered = answered and choice.oci is not None
            await asyncio.shield(self._undo(bundle, line, clean=not answered))
            raise
        return self._task(bundle, line, answer.pid)

    async def recover(self) -> Mapping[tuple[str, str], Task]:
        if self._finding is None:
            self.find()
            assert self._finding is not None
        return await asyncio.shield(self._finding)

    async def _find(self) -> Mapping[tuple[str, str], Task]:
        await asyncio.to_thread(remains.forget_other_boots, self._state)
        resting, others = [], []
        for bundle in bundles(self._state):
            task = self._resting(bundle)
            if task is None:
                others.append(bundle)
            else:
                resting.append(task)
        found = await asyncio.gather(*map(self._recovered, others))
        tasks = {(task.namespace, task.id): task for task in (*resting, *found) if task is not None}
        self._sweeping = asyncio.create_task(asyncio.to_thread(remains.sweep_sockets))
        log.get("runtime").info("tasks of earlier daemons", found=len(tasks), asleep=len(resting))
        return tasks

    async def info(self, runtime: str, options: Typed | None) -> RuntimeInfo:
        return await self._about.info(runtime, options)

    async def runtimes(self) -> Sequence[RuntimeInfo]:
        return await self._about.all()

    def _task(
        self, bundle: Bundle, line: Line, pid: int, note: asleep.Note | None = None
    ) -> ShimTask:
        task = ShimTask(bundle, line, self._destroy, self._forget)
        task.created(pid, note)
        self._tasks[bundle.path] = task
        return task

    async def _start(self, bundle: Bundle, options: CreateOptions) -> foreign.Started:
        """A shim of its own; in somebody else's kind of sandbox, the sandbox's."""
        if options.sandbox and options.runtime not in OWN:
            with suppress(NotFound):  # kept by another controller: its containers have own shims
                started = foreign.Started(*self.sandboxes.endpoint(options.sandbox))
                foreign.record(bundle, started)
                (bundle.path / "sandbox").write_text(options.sandbox)
                return started
        return await self._launcher.start(bundle, options)

    async def _undo(self, bundle: Bundle, line: Line | None, *, clean: bool = True) -> None:
        """After a create that failed: end the shim, and what it has not cleaned up."""
        if line is not None and not bundle.shared:
            request = pb.ShutdownRequest(id=bundle.id, now=True)
            with suppress(Unavailable, TimeoutError):
                await line.call("Shutdown", request, Empty(), patience=_SHUTDOWN)
                await asyncio.wait([line.gone], timeout=_SHUTDOWN)
        if line is not None:
            line.close()
        if clean:
            await self._clean(bundle)
        await self._forget(bundle)

    def _resting(self, bundle: Bundle) -> Task | None:
        """The task of a bundle whose shim sleeps, and sleeps on; None when it is to be asked."""
        note = asleep.read(bundle.path)
        if note is None:
            return None
        try:
            line = Line.asleep(bundle.namespace, bundle.id, note)
        except OSError as error:
            _log(bundle).info("its shim went while it slept", error=str(error))
            return None
        return self._task(bundle, line, note.pid, note)

    async def _recovered(self, bundle: Bundle) -> Task | None:
        """The task of a bundle; None when there is none (any more), and it has been removed."""
        try:
            return await self._found(bundle)
        except (CoredError, OSError, ValueError) as error:
            # one that is damaged must not keep the others from being found
            _log(bundle).error("a bundle that cannot be read is left alone", error=str(error))
            return None

    async def _found(self, bundle: Bundle) -> Task | None:
        address, exit = bundle.address, bundle.exit
        if not address and exit is None:
            _log(bundle).info("removing a bundle whose shim never started")
            await self._undo(bundle, None)
            return None
        if not address:
            return self._task(bundle, Line.dead(bundle.namespace, bundle.id), bundle.pid)
        own = bundle.runtime in OWN
        line = Line(bundle.namespace, bundle.id, address, 3 if own else foreign.version_of(bundle))
        if not own:
            self._launcher.found(bundle)
        try:
            pid = await line.find(_SIGN_OF_LIFE)
        except Unavailable as error:
            pid = bundle.pid
            if line.gone.done() and own and not pid and exit is None:
                _log(bundle).info("removing a bundle whose shim died before it created a task")
                await self._undo(bundle, None)
                return None
            _log(bundle).warning("its shim cannot be asked", error=str(error))
        if pid is None:
            _log(bundle).info("removing a bundle whose task was never created, or is deleted")
            await self._undo(bundle, line)
            return None
        return self._task(bundle, line, pid or bundle.pid)

    async def _destroy(self, bundle: Bundle) -> Exit:
        """End a container whose shim has died; its exit as recorded, or as made now."""
        if bundle.settled and bundle.exit is not None:
            return bundle.exit
        pid = bundle.pid
        await self._clean(bundle)
        exit = bundle.exit or killed(pid)
        await asyncio.to_thread(bundle.settle, exit)
        return exit

    async def _clean(self, bundle: Bundle) -> None:
        if bundle.runtime not in OWN:
            try:
                binary = foreign.find(bundle.runtime)
                await foreign.delete(binary, bundle, self._launcher.address)
            except CoredError as error:
                logger = log.get("runtime").bind(container=bundle.id)
                logger.warning("cleaning up after a shim", error=str(error))
        await asyncio.to_thread(remains.end, bundle)

    async def _forget(self, bundle: Bundle) -> None:
        self._launcher.forget(bundle)
        self._tasks.pop(bundle.path, None)
        away = bundle.discard()  # no more than a rename: two turns of a thread take longer
        # nobody waits for its files to go; what is left of them goes with the next daemon
        removal = asyncio.create_task(asyncio.to_thread(remove_tree, away))
        self._removals.add(removal)
        removal.add_done_callback(self._removed)

    def _removed(self, removal: asyncio.Task[None]) -> None:
        self._removals.discard(removal)
        if not removal.cancelled() and (error := removal.exception()) is not None:
            log.get("runtime").error("files of a bundle that is gone stay", error=str(error))


def _log(bundle: Bundle) -> Any:
    return log.get("runtime").bind(namespace=bundle.namespace, container=bundle.id)


def _create_request(bundle: Bundle, options: CreateOptions) -> pb.CreateTaskRequest:
    request = pb.CreateTaskRequest(
        id=bundle.id,
        bundle=str(bundle.path),
        rootfs=[
            mount_pb2.Mount(type=m.type, source=m.source, target=m.target, options=m.options)
            for m in options.rootfs
        ],
        terminal=options.stdio.terminal,
        stdin=options.stdio.stdin,
        stdout=options.stdio.stdout,
        stderr=options.stdio.stderr,
        checkpoint=options.checkpoint,
    )
    if options.options is not None:
        request.options.CopyFrom(
            AnyMessage(type_url=options.options.type_url, value=options.options.value)
        )
    return request
