"""The calls of cored.workloads.v1.Workloads about what goes on in containers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass

from google.protobuf.empty_pb2 import Empty

from cored._pb.cored.workloads.v1 import processes_pb2, workloads_pb2
from cored.abc.runtime import Stdio
from cored.engine import processes
from cored.engine.adjustments import Adjustments
from cored.engine.containers import Containers
from cored.engine.execs import ExecConfig
from cored.engine.journal import Journal, parsed
from cored.engine.tasks import Tasks
from cored.engine.workload import ContainerView, RestartPolicy
from cored.errors import CoredError, FailedPrecondition
from cored.oci.resources import Resources
from cored_service_workloads import fields, usage
from cored_service_workloads.messages import timestamp
from cored_service_workloads.usage import Sample

__all__ = ["ProcessCalls", "ProcessParts"]

_INTERVAL = 1.0


@dataclass(frozen=True, slots=True)
class ProcessParts:
    """What the calls stand on."""

    containers: Containers
    adjustments: Adjustments
    journal: Journal
    tasks: Tasks


class ProcessCalls:
    """One method for each RPC."""

    def __init__(self, parts: ProcessParts) -> None:
        self._containers = parts.containers
        self._adjustments = parts.adjustments
        self._journal = parts.journal
        self._tasks = parts.tasks

    async def Restart(self, request: processes_pb2.RestartRequest) -> Empty:
        timeout = request.timeout_seconds if request.HasField("timeout_seconds") else None
        await self._containers.restart(request.container, timeout, request.signal)
        return Empty()

    async def Pause(self, request: processes_pb2.ContainerRequest) -> Empty:
        await self._adjustments.pause(request.container)
        return Empty()

    async def Unpause(self, request: processes_pb2.ContainerRequest) -> Empty:
        await self._adjustments.unpause(request.container)
        return Empty()

    async def Rename(self, request: processes_pb2.RenameRequest) -> Empty:
        await self._adjustments.rename(request.container, request.name)
        return Empty()

    async def Update(self, request: workloads_pb2.UpdateRequest) -> Empty:
        restart = None
        if request.HasField("restart"):
            restart = fields.value(RestartPolicy, request.restart)
        limits = fields.value(Resources, request.resources)
        await self._adjustments.update(request.container, limits, restart)
        return Empty()

    async def PruneContainers(
        self, request: processes_pb2.PruneContainersRequest
    ) -> processes_pb2.PruneContainersResponse:
        removed, freed = await self._adjustments.prune(request.filters)
        return processes_pb2.PruneContainersResponse(removed=removed, reclaimed=freed)

    async def Attach(self, request: processes_pb2.AttachRequest) -> processes_pb2.AttachResponse:
        if request.stdout or request.stderr:
            await self._containers.join(request.container, request.stdout, request.stderr)
        _, stdio = await self._containers.attachable(request.container)
        return processes_pb2.AttachResponse(
            stdin=stdio.stdin, stdout=stdio.stdout, stderr=stdio.stderr, terminal=stdio.terminal
        )

    async def Exec(self, request: processes_pb2.ExecRequest) -> processes_pb2.ExecResponse:
        view = await self._containers.view(request.container)
        if not self._containers.running(view.record.id):
            raise FailedPrecondition(f"container {request.container!r}: is not running")
        if view.status == "paused":
            raise FailedPrecondition(
                f"container {request.container!r}: is paused", hint="unpause it first"
            )
        config = fields.value(ExecConfig, request)
        stdio = Stdio(request.stdin, request.stdout, request.stderr, request.terminal)
        exec_id, pid = await self._containers.execs.begin(view.record, config, stdio)
        return processes_pb2.ExecResponse(exec_id=exec_id, pid=pid)

    async def WaitExec(self, request: processes_pb2.WaitExecRequest) -> workloads_pb2.WaitResponse:
        record = await self._containers.find(request.container)
        exit = await self._containers.execs.wait(record.id, request.exec_id)
        return workloads_pb2.WaitResponse(
            exit_status=exit.status, exited_at=timestamp(exit.exited_at)
        )

    async def ResizeExec(self, request: processes_pb2.ResizeExecRequest) -> Empty:
        record = await self._containers.find(request.container)
        await self._containers.execs.resize(
            record.id, request.exec_id, request.width, request.height
        )
        return Empty()

    async def KillExec(self, request: processes_pb2.KillExecRequest) -> Empty:
        record = await self._containers.find(request.container)
        await self._containers.execs.kill(record.id, request.exec_id, request.signal)
        return Empty()

    async def Top(self, request: processes_pb2.TopRequest) -> processes_pb2.TopResponse:
        record = await self._containers.find(request.container)
        if not self._containers.running(record.id):
            raise FailedPrecondition(f"container {request.container!r}: is not running")
        pids = await self._tasks.pids(record.id)
        titles, rows = await processes.listed(pids, list(request.arguments))
        made = [processes_pb2.TopResponse.Row(cells=row) for row in rows]
        return processes_pb2.TopResponse(titles=titles, rows=made)

    async def Stats(
        self, request: processes_pb2.StatsRequest
    ) -> AsyncIterator[processes_pb2.StatsResponse]:
        memory = await asyncio.to_thread(usage.host_memory)
        before: dict[str, Sample] = {}
        for name in request.containers:
            await self._containers.find(name)
        first = True
        while True:
            views = await self._wanted(request)
            answer = processes_pb2.StatsResponse()
            found = await asyncio.gather(*(self._sample(view, memory) for view in views))
            for view, now in zip(views, found, strict=True):
                id, name = view.record.id, view.name
                if now is None:
                    answer.containers.add(id=id, name=name)
                    continue
                answer.containers.append(usage.shown(id, name, before.get(id), now))
                before[id] = now
            # the share of the CPU needs two looks
            if not first:
                yield answer
                if not request.stream:
                    return
            first = False
            await asyncio.sleep(_INTERVAL)

    async def Events(
        self, request: processes_pb2.EventsRequest
    ) -> AsyncIterator[processes_pb2.Happening]:
        since = request.since.ToNanoseconds() if request.HasField("since") else 0
        until = request.until.ToNanoseconds() if request.HasField("until") else 0
        async for one in self._journal.read(parsed(request.filters), since, until):
            yield processes_pb2.Happening(
                time=timestamp(one.time),
                type=one.type,
                action=one.action,
                id=one.id,
                attributes=one.attributes,
            )

    async def _wanted(self, request: processes_pb2.StatsRequest) -> list[ContainerView]:
        if request.containers:
            views = []
            for name in request.containers:
                with suppress(CoredError):  # removed meanwhile
                    views.append(await self._containers.view(name))
            return views
        return await self._containers.list(all=request.all)

    async def _sample(self, view: ContainerView, memory: int) -> Sample | None:
        if not view.pid or not self._containers.running(view.record.id):
            return None
        try:
            metrics = await self._tasks.stats(view.record.id)
        except CoredError:  # it has just ended
            return None
        return await asyncio.to_thread(usage.sample, metrics, view.pid, memory)
