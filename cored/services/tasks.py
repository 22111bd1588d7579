"""containerd.services.tasks.v1.Tasks"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import DecodeError, Message

from cored import filters as language
from cored import scope
from cored._pb.containerd.runc.v1 import oci_pb2
from cored._pb.containerd.services.tasks.v1 import tasks_pb2 as pb
from cored._pb.containerd.types import metrics_pb2
from cored._pb.containerd.v1.types import task_pb2
from cored.abc.records import ContainerStore
from cored.abc.runtime import ExecOptions, Exit, ProcessState, Status, Stdio
from cored.abc.service import Service
from cored.abc.values import Typed
from cored.engine.tasks import Tasks
from cored.errors import CoredError, InvalidArgument
from cored.later import Later
from cored.services.wire import (
    descriptor_message,
    descriptor_value,
    mount_values,
    timestamp,
    typed_message,
    typed_value,
)

if TYPE_CHECKING:  # it comes later
    from cored.engine.checkpoints import Checkpoints

__all__ = ["TasksService"]

_STATUS = {
    Status.UNKNOWN: task_pb2.UNKNOWN,
    Status.CREATED: task_pb2.CREATED,
    Status.RUNNING: task_pb2.RUNNING,
    Status.STOPPED: task_pb2.STOPPED,
    Status.PAUSED: task_pb2.PAUSED,
    Status.PAUSING: task_pb2.PAUSING,
}


class TasksService(Service):
    service = "containerd.services.tasks.v1.Tasks"
    lasting = frozenset({"Wait"})

    def __init__(
        self, tasks: Tasks, containers: Later[ContainerStore], checkpoints: Later[Checkpoints]
    ) -> None:
        self._tasks = tasks
        self._containers = containers
        self._checkpoints = checkpoints

    async def Create(self, request: pb.CreateTaskRequest) -> pb.CreateTaskResponse:
        options = typed_value(request, "options")
        path = _options(oci_pb2.Options, options).criu_image_path
        if request.HasField("checkpoint") and request.checkpoint.digest and not path:
            image = descriptor_value(request.checkpoint)
            checkpoints = await self._checkpoints.get()
            async with checkpoints.restored(request.container_id, image) as path:
                return await self._create(request, options, path)
        return await self._create(request, options, path)

    async def _create(
        self, request: pb.CreateTaskRequest, options: Typed | None, checkpoint: str
    ) -> pb.CreateTaskResponse:
        state = await self._tasks.create(
            request.container_id,
            rootfs=mount_values(request.rootfs),
            stdio=_stdio(request),
            checkpoint=checkpoint,
            options=options,
            runtime=request.runtime_path,
        )
        return pb.CreateTaskResponse(container_id=state.id, pid=state.pid)

    async def Checkpoint(self, request: pb.CheckpointTaskRequest) -> pb.CheckpointTaskResponse:
        options = typed_value(request, "options")
        path = _options(oci_pb2.CheckpointOptions, options).image_path
        record = await (await self._containers.get()).get(request.container_id)
        spec = typed_message(record.spec)
        packed = spec.SerializeToString() if spec else b""
        checkpoints = await self._checkpoints.get()
        made = await checkpoints.make(request.container_id, options, path, packed)
        return pb.CheckpointTaskResponse(descriptors=map(descriptor_message, made))

    async def Start(self, request: pb.StartRequest) -> pb.StartResponse:
        pid = await self._tasks.start(request.container_id, request.exec_id)
        return pb.StartResponse(pid=pid)

    async def Delete(self, request: pb.DeleteTaskRequest) -> pb.DeleteResponse:
        exit = await self._tasks.delete(request.container_id)
        return _deleted(request.container_id, exit)

    async def DeleteProcess(self, request: pb.DeleteProcessRequest) -> pb.DeleteResponse:
        if not request.exec_id:
            raise InvalidArgument(f"task {request.container_id!r}: exec id is required")
        exit = await self._tasks.delete(request.container_id, request.exec_id)
        return _deleted(request.exec_id, exit)

    async def Get(self, request: pb.GetRequest) -> pb.GetResponse:
        state = await self._tasks.state(request.container_id, request.exec_id)
        return pb.GetResponse(process=_process(state))

    async def List(self, request: pb.ListTasksRequest) -> pb.ListTasksResponse:
        return pb.ListTasksResponse(tasks=map(_process, await self._tasks.list()))

    async def Kill(self, request: pb.KillRequest) -> Empty:
        await self._tasks.kill(request.container_id, request.signal, request.exec_id, request.all)
        return Empty()

    async def Exec(self, request: pb.ExecProcessRequest) -> Empty:
        spec = typed_value(request, "spec")
        if not request.exec_id or spec is None:
            raise InvalidArgument(
                f"task {request.container_id!r}: an exec needs an exec id and a process spec"
            )
        await self._tasks.exec(
            request.container_id, request.exec_id, ExecOptions(spec, _stdio(request))
        )
        return Empty()

    async def ResizePty(self, request: pb.ResizePtyRequest) -> Empty:
        await self._tasks.resize(
            request.container_id, request.width, request.height, request.exec_id
        )
        return Empty()

    async def CloseIO(self, request: pb.CloseIORequest) -> Empty:
        if request.stdin:
            await self._tasks.close_stdin(request.container_id, request.exec_id)
        else:  # nothing to do, for a process that must be there
            await self._tasks.state(request.container_id, request.exec_id)
        return Empty()

    async def Pause(self, request: pb.PauseTaskRequest) -> Empty:
        await self._tasks.pause(request.container_id)
        return Empty()

    async def Resume(self, request: pb.ResumeTaskRequest) -> Empty:
        await self._tasks.resume(request.container_id)
        return Empty()

    async def ListPids(self, request: pb.ListPidsRequest) -> pb.ListPidsResponse:
        pids = await self._tasks.pids(request.container_id)
        return pb.ListPidsResponse(processes=(task_pb2.ProcessInfo(pid=p) for p in pids))

    async def Update(self, request: pb.UpdateTaskRequest) -> Empty:
        resources = typed_value(request, "resources")
        if resources is None:
            raise InvalidArgument(f"task {request.container_id!r}: no resources to update")
        await self._tasks.update(request.container_id, resources, dict(request.annotations))
        return Empty()

    async def Metrics(self, request: pb.MetricsRequest) -> pb.MetricsResponse:
        wanted = language.parse(tuple(request.filters))
        metrics = []
        for namespace, id in self._tasks.known():
            if namespace != scope.namespace() or not wanted.match(_fields(id, namespace)):
                continue
            try:
                data = await self._tasks.stats(id)
            except CoredError:
                continue  # it ended in the meantime: containerd leaves such out of the answer too
            metrics.append(
                metrics_pb2.Metric(
                    timestamp=timestamp(time.time_ns()), id=id, data=typed_message(data)
                )
            )
        return pb.MetricsResponse(metrics=metrics)

    async def Wait(self, request: pb.WaitRequest) -> pb.WaitResponse:
        exit = await self._tasks.wait(request.container_id, request.exec_id)
        return pb.WaitResponse(exit_status=exit.status, exited_at=timestamp(exit.exited_at))


_O = TypeVar("_O", bound=Message)


def _options(kind: type[_O], given: Typed | None) -> _O:
    """Options of a runtime in runc's messages; defaults where they are another one's."""
    parsed: _O = kind()
    if given is None or given.type_url.rpartition("/")[2] != kind.DESCRIPTOR.full_name:
        return parsed
    try:
        parsed.ParseFromString(given.value)
    except DecodeError as error:
        raise InvalidArgument(f"task: its {kind.DESCRIPTOR.name} are damaged: {error}") from error
    return parsed


def _fields(id: str, namespace: str) -> Callable[[tuple[str, ...]], str | None]:
    values: dict[tuple[str, ...], str] = {("id",): id, ("namespace",): namespace}
    return values.get


def _stdio(request: pb.CreateTaskRequest | pb.ExecProcessRequest) -> Stdio:
    return Stdio(request.stdin, request.stdout, request.stderr, request.terminal)


def _deleted(id: str, exit: Exit) -> pb.DeleteResponse:
    return pb.DeleteResponse(
        id=id, pid=exit.pid, exit_status=exit.status, exited_at=timestamp(exit.exited_at)
    )


def _process(state: ProcessState) -> task_pb2.Process:
    return task_pb2.Process(
        container_id=state.id,
        id=state.exec_id or state.id,
        pid=state.pid,
        status=_STATUS[state.status],
        stdin=state.stdio.stdin,
        stdout=state.stdio.stdout,
        stderr=state.stdio.stderr,
        terminal=state.stdio.terminal,
        exit_status=state.exit_status,
        exited_at=timestamp(state.exited_at),
    )
