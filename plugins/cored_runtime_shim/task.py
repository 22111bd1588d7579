"""A task behind a shim's Task service."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any

from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.empty_pb2 import Empty

from cored import log
from cored._pb.containerd.task.v2 import shim_pb2 as pb
from cored._pb.containerd.v1.types import task_pb2
from cored._pb.cored.shim.v1.shim_pb2 import JoinRequest
from cored.abc.runtime import ExecOptions, Exit, ProcessState, Status, Stdio, Task
from cored.abc.values import Labels, Typed
from cored.errors import CoredError, FailedPrecondition, NotFound, Unavailable
from cored_runtime_shim import asleep
from cored_runtime_shim.bundle import KILLED, OWN, Bundle
from cored_runtime_shim.line import Line

__all__ = ["ShimTask", "killed"]

_STATUS = {
    task_pb2.CREATED: Status.CREATED,
    task_pb2.RUNNING: Status.RUNNING,
    task_pb2.STOPPED: Status.STOPPED,
    task_pb2.PAUSED: Status.PAUSED,
    task_pb2.PAUSING: Status.PAUSING,
}


# a state is asked for in lists, which one shim must not hold up, seconds
_STATE_PATIENCE = 2.0


class ShimTask(Task):
    """``destroy`` cleans up behind a shim that died, ``forget`` removes what a task leaves."""

    def __init__(
        self,
        bundle: Bundle,
        line: Line,
        destroy: Callable[[Bundle], Coroutine[Any, Any, Exit]],
        forget: Callable[[Bundle], Awaitable[None]],
    ) -> None:
        self.id = bundle.id
        self.namespace = bundle.namespace
        self.bundle = bundle.path
        self._files = bundle
        self._line = line
        self._destroy = destroy
        self._forget = forget
        self._death: asyncio.Task[Exit] | None = None
        self._ending: asyncio.Task[None] | None = None  # that it is not forgotten half-way
        self._over = False
        self._deleted = False
        self._pid = 0
        self._note: asleep.Note | None = None

    @property
    def pid(self) -> int:
        return self._pid

    def causes(self) -> Mapping[str, int]:
        return self._files.causes

    def untold(self) -> list[str]:
        return self._files.untold()

    def tell_exit(self, exec_id: str = "") -> None:
        self._files.tell_exit(exec_id)

    def created(self, pid: int, note: asleep.Note | None = None) -> None:
        """It is there, with init's pid: from now on the death of its shim is its end."""
        self._pid, self._note = pid, note
        self._line.gone.add_done_callback(lambda _: self._shim_died())

    def close(self) -> None:
        """Let go of the connection; the task lives on."""
        self._over = True
        self._line.close()

    async def state(self, exec_id: str = "") -> ProcessState:
        if self._deleted:
            raise NotFound(f"task {self.id!r}: was deleted")
        if not exec_id and (known := self._said()) is not None:
            return known
        request = pb.StateRequest(id=self.id, exec_id=exec_id)
        try:
            found = await self._line.call(
                "State", request, pb.StateResponse(), patience=_STATE_PATIENCE
            )
        except (Unavailable, TimeoutError) as error:
            if not self._line.gone.done():
                return self._state_of(exec_id, Exit(self._known_pid(exec_id), 0, 0))
            log.get("runtime").debug("no state from its shim", id=self.id, error=str(error))
            return self._state_of(exec_id, await self._after_death(exec_id))
        return ProcessState(
            id=self.id,
            exec_id=exec_id,
            bundle=str(self.bundle),
            pid=found.pid,
            status=_STATUS.get(found.status, Status.UNKNOWN),
            stdio=Stdio(found.stdin, found.stdout, found.stderr, found.terminal),
            exit_status=found.exit_status,
            exited_at=_ns(found),
        )

    async def start(self, exec_id: str = "") -> int:
        request = pb.StartRequest(id=self.id, exec_id=exec_id)
        if not exec_id:
            return int((await self._call("Start", request, pb.StartResponse())).pid)
        # before it can end: whoever comes after us must know that its end is to be told
        self._files.owe(exec_id)
        try:
            pid = int((await self._call("Start", request, pb.StartResponse())).pid)
        except CoredError as error:
            if self._line.gone.done() or not isinstance(error, Unavailable):
                self._files.tell_exit(exec_id)  # nothing has started
            raise
        self._files.owe(exec_id, pid)
        return pid

    async def exec(self, exec_id: str, options: ExecOptions) -> None:
        request = pb.ExecProcessRequest(
            id=self.id,
            exec_id=exec_id,
            terminal=options.stdio.terminal,
            stdin=options.stdio.stdin,
            stdout=options.stdio.stdout,
            stderr=options.stdio.stderr,
            spec=_any(options.spec),
        )
        await self._call("Exec", request, Empty())

    async def kill(self, signal: int, *, exec_id: str = "", all: bool = False) -> None:
        request = pb.KillRequest(id=self.id, exec_id=exec_id, signal=signal, all=all)
        try:
            await self._line.call("Kill", request, Empty())
        except Unavailable as error:
            if not self._line.gone.done():
                raise
            await self._after_death("")
            raise NotFound(f"task {self.id!r}: process already finished") from error

    async def wait(self, exec_id: str = "") -> Exit:
        request = pb.WaitRequest(id=self.id, exec_id=exec_id)
        try:
            found = await self._line.wait(request)
        except Unavailable as error:
            if not self._line.gone.done():
                raise
            log.get("runtime").debug("no end from its shim", id=self.id, error=str(error))
            return await self._after_death(exec_id)
        exit = Exit(self._known_pid(exec_id), found.exit_status, _ns(found))
        if exit.exited_at:
            self._files.keep(exit, exec_id)
        return exit

    async def delete(self, exec_id: str = "") -> Exit:
        request = pb.DeleteRequest(id=self.id, exec_id=exec_id)
        try:
            found = await self._line.call("Delete", request, pb.DeleteResponse())
            exit = Exit(found.pid, found.exit_status, _ns(found))
            if not exec_id:
                self._over = self._deleted = True
                ending = asyncio.create_task(
                    self._shut_down(self._files.shared), name=f"end of the shim of {self.id}"
                )
                if self._files.runtime in OWN:  # nobody needs to wait for ours
                    self._ending = ending
                else:
                    await ending
        except Unavailable:
            if not self._line.gone.done():
                raise
            exit = await self._after_death(exec_id)
        if exec_id:
            self._files.forget_exec(exec_id)
        else:
            await self._forget(self._files)
        return exit

    async def pids(self) -> list[int]:
        found = await self._call("Pids", pb.PidsRequest(id=self.id), pb.PidsResponse())
        return [process.pid for process in found.processes]

    async def pause(self) -> None:
        await self._call("Pause", pb.PauseRequest(id=self.id), Empty())

    async def resume(self) -> None:
        await self._call("Resume", pb.ResumeRequest(id=self.id), Empty())

    async def resize(self, width: int, height: int, exec_id: str = "") -> None:
        request = pb.ResizePtyRequest(id=self.id, exec_id=exec_id, width=width, height=height)
        await self._call("ResizePty", request, Empty())

    async def join(self, stdout: str, stderr: str, exec_id: str = "") -> None:
        request = JoinRequest(id=self.id, exec_id=exec_id, stdout=stdout, stderr=stderr)
        await self._call("Join", request, Empty(), service="cored.shim.v1.Shim")

    async def close_stdin(self, exec_id: str = "") -> None:
        request = pb.CloseIORequest(id=self.id, exec_id=exec_id, stdin=True)
        await self._call("CloseIO", request, Empty())

    async def update(self, resources: Typed, annotations: Labels) -> None:
        request = pb.UpdateTaskRequest(
            id=self.id, resources=_any(resources), annotations=annotations
        )
        await self._call("Update", request, Empty())

    async def stats(self) -> Typed:
        found = await self._call("Stats", pb.StatsRequest(id=self.id), pb.StatsResponse())
        return Typed(found.stats.type_url, found.stats.value)

    async def checkpoint(self, path: str, options: Typed | None) -> None:
        request = pb.CheckpointTaskRequest(
            id=self.id, path=path, options=None if options is None else _any(options)
        )
        await self._call("Checkpoint", request, Empty())

    async def _call(self, method: str, request: Any, answer: Any, service: str = "") -> Any:
        if self._line.gone.done():
            raise FailedPrecondition(f"task {self.id!r}: has ended, its shim died")
        return await self._line.call(method, request, answer, service=service)

    async def _shut_down(self, shared: bool) -> None:
        """Let the shim end; it has nothing left to do."""
        if not shared:
            try:
                await self._line.call("Shutdown", pb.ShutdownRequest(id=self.id), Empty())
            except Unavailable as error:
                log.get("runtime").debug("shim ended before it answered", error=str(error))
        self._line.close()

    def _shim_died(self) -> None:
        if self._death is None and not self._over and not self._files.settled:
            log.get("runtime").warning(
                "its shim died, ending the container", namespace=self.namespace, container=self.id
            )
            self._death = asyncio.create_task(
                self._destroy(self._files), name=f"after the shim of {self.id}"
            )

    async def _after_death(self, exec_id: str) -> Exit:
        """The shim is gone: the end that it recorded, or that was made, when all is cleaned up."""
        if self._death is None:
            if not self.bundle.exists():
                raise NotFound(f"task {self.id!r}: not found, it has been deleted")
            self._death = asyncio.create_task(self._destroy(self._files))
        exit = await asyncio.shield(self._death)
        if not exec_id:
            return exit
        recorded = self._files.exit_of(exec_id)
        if recorded is None:
            raise NotFound(f"process {exec_id!r} of task {self.id!r}: went with its shim")
        return recorded

    def _said(self) -> ProcessState | None:
        """What the shim has left word of before it went to sleep; None when it is to be asked."""
        if self._line.silent or self._line.gone.done():
            return None
        note = self._note = asleep.read(self.bundle, self._note)
        if note is None:
            return None
        return ProcessState(
            self.id, "", str(self.bundle), note.pid, _STATUS.get(note.status, Status.UNKNOWN),
            Stdio(note.stdin, note.stdout, note.stderr, note.terminal),
            note.exit_status, note.exited_at,
        )  # fmt: skip

    def _known_pid(self, exec_id: str) -> int:
        return (self._files.owed_pid(exec_id) or 0) if exec_id else self._pid

    def _state_of(self, exec_id: str, exit: Exit) -> ProcessState:
        """Without the shim's word: unknown, or stopped when there is an end."""
        status = Status.STOPPED if exit.exited_at else Status.UNKNOWN
        return ProcessState(
            self.id, exec_id, str(self.bundle), exit.pid, status, Stdio(),
            exit.status, exit.exited_at,
        )  # fmt: skip


def _ns(message: Any) -> int:
    # Go's shims say the year 1 where there is no time
    if not message.HasField("exited_at") or message.exited_at.seconds < 0:
        return 0
    return int(message.exited_at.seconds * 10**9 + message.exited_at.nanos)


def _any(value: Typed) -> AnyMessage:
    return AnyMessage(type_url=value.type_url, value=value.value)


def killed(pid: int) -> Exit:
    """The end of a process whose own nobody saw: as if by SIGKILL, now."""
    return Exit(pid, KILLED, time.time_ns())
