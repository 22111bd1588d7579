"""A task behind a shim's Task service."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.empty_pb2 import Empty

from cored import log
from cored._pb.containerd.task.v2 import shim_pb2 as pb
from cored._pb.containerd.v1.types import task_pb2
from cored.abc.runtime import ExecOptions, Exit, ProcessState, Status, Stdio, Task
from cored.abc.values import Labels, Typed
from cored.errors import NotFound, Unavailable
from cored.rpc.ttrpc_client import Client
from cored_runtime_shim.bundle import Bundle

__all__ = ["ShimTask", "killed"]

_STATUS = {
    task_pb2.CREATED: Status.CREATED,
    task_pb2.RUNNING: Status.RUNNING,
    task_pb2.STOPPED: Status.STOPPED,
    task_pb2.PAUSED: Status.PAUSED,
    task_pb2.PAUSING: Status.PAUSING,
}


class ShimTask(Task):
    """``destroy`` cleans up behind a shim that died, ``forget`` removes what a task leaves."""

    def __init__(
        self,
        bundle: Bundle,
        client: Client | None,
        version: int,
        destroy: Callable[[Bundle], Coroutine[Any, Any, Exit]],
        forget: Callable[[Bundle], Awaitable[None]],
    ) -> None:
        self.id = bundle.id
        self.namespace = bundle.namespace
        self.bundle = bundle.path
        self._files = bundle
        self._client = client
        self._service = f"containerd.task.v{version}.Task"
        self._destroy = destroy
        self._forget = forget
        self._dead: asyncio.Task[Exit] | None = None
        self._pid = 0

    @property
    def pid(self) -> int:
        return self._pid

    @property
    def exit_told(self) -> bool:
        return self._files.exit_told

    def tell_exit(self) -> None:
        self._files.tell_exit()

    def created(self, pid: int) -> None:
        """Take note of init's pid."""
        self._pid = pid

    async def state(self, exec_id: str = "") -> ProcessState:
        try:
            found = await self._call(
                "State", pb.StateRequest(id=self.id, exec_id=exec_id), pb.StateResponse()
            )
        except Unavailable:
            exit = await self._after_death(exec_id)
            stopped = Status.STOPPED
            return ProcessState(
                self.id, exec_id, str(self.bundle), exit.pid, stopped, Stdio(),
                exit.status, exit.exited_at,
            )  # fmt: skip
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
        return int((await self._call("Start", request, pb.StartResponse())).pid)

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
        await self._call("Kill", request, Empty())

    async def wait(self, exec_id: str = "") -> Exit:
        request = pb.WaitRequest(id=self.id, exec_id=exec_id)
        try:
            found = await self._call("Wait", request, pb.WaitResponse())
        except Unavailable:
            return await self._after_death(exec_id)
        return Exit(self._pid if not exec_id else 0, found.exit_status, _ns(found))

    async def delete(self, exec_id: str = "") -> Exit:
        request = pb.DeleteRequest(id=self.id, exec_id=exec_id)
        try:
            found = await self._call("Delete", request, pb.DeleteResponse())
            exit = Exit(found.pid, found.exit_status, _ns(found))
            if not exec_id:
                await self._shut_down()
        except Unavailable:
            exit = await self._after_death(exec_id)
        if not exec_id:
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

    async def _call(self, method: str, request: Any, answer: Any) -> Any:
        if self._client is None:
            raise Unavailable(f"task {self.id!r}: its shim is gone")
        return await self._client.call(
            self._service,
            method,
            request,
            answer,
            metadata={"containerd-namespace-ttrpc": self.namespace},
        )

    async def _shut_down(self) -> None:
        """Let the shim end; it has nothing left to do."""
        client = self._client
        assert client is not None
        if self._files.shared:
            client.close()
            return
        try:
            await self._call("Shutdown", pb.ShutdownRequest(id=self.id), Empty())
        except Unavailable as error:
            log.get("runtime").debug("shim ended before it answered", error=str(error))
        client.close()

    async def _after_death(self, exec_id: str) -> Exit:
        """The shim is gone: clean up once, and answer the end that is recorded or was made."""
        if exec_id:
            raise NotFound(f"process {exec_id!r} of task {self.id!r}: went with its shim")
        if self._dead is None:
            if not self.bundle.exists():
                raise NotFound(f"task {self.id!r}: not found, it has been deleted")
            self._dead = asyncio.create_task(self._destroy(self._files))
        return await asyncio.shield(self._dead)


def _ns(message: Any) -> int:
    # Go's shims say the year 1 where there is no time
    if not message.HasField("exited_at") or message.exited_at.seconds < 0:
        return 0
    return int(message.exited_at.seconds * 10**9 + message.exited_at.nanos)


def _any(value: Typed) -> AnyMessage:
    return AnyMessage(type_url=value.type_url, value=value.value)


def killed(pid: int) -> Exit:
    """The end of a process whose own nobody saw: as if by SIGKILL, now."""
    return Exit(pid, 137, time.time_ns())
