"""The Task service: one container's processes, through the OCI runtime."""

from __future__ import annotations

import os
import re
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from coreshim import fast, idmaps
from coreshim.codec import decode
from coreshim.console import Console
from coreshim.exits import exit_file, facts_of, write_exit
from coreshim.hibernation import Luggage, State
from coreshim.loop import Future, Loop
from coreshim.oom import OomWatch
from coreshim.process import CREATED, PAUSED, RUNNING, STOPPED, Process, listed
from coreshim.publish import Publisher
from coreshim.reaper import Ended, Reaper
from coreshim.rootfs import Rootfs
from coreshim.runtime import OciRuntime
from coreshim.server import EXISTS, INVALID, NOT_FOUND, PRECONDITION, Failure, Method
from coreshim.spec import has_pid_namespace, with_terminal

__all__ = ["TaskService"]

# a process's last words may be in a pipe that something else still holds
_DRAIN = 2.0
# the exit status of a process that could not be started
_NOT_STARTED = 255
_EXEC_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


class TaskService:
    """Answers for one container in the shim ``pid``.

    ``publish`` takes events where somebody wants them.
    """

    def __init__(
        self,
        loop: Loop,
        reaper: Reaper,
        pid: int,
        namespace: str,
        id: str,
        bundle: str,
        publish: Publisher,
    ) -> None:
        self._loop = loop
        self._reaper = reaper
        self._pid = pid
        self._namespace = namespace
        self._id = id
        self._bundle = bundle
        self._rootfs = Rootfs(bundle)
        self._publish = publish
        self._runtime: OciRuntime | None = None
        self._processes: dict[str, Process] = {}
        self._own_pids = True
        self._cgroups: list[str] = []
        self._oom: OomWatch | None = None

    def methods(self) -> dict[tuple[str, str], Method]:
        """The handlers by (service, method), for both versions of the service."""
        names = {
            "Create": ("CreateTaskRequest", "CreateTaskResponse", self.create),
            "Start": ("StartRequest", "StartResponse", self.start),
            "State": ("StateRequest", "StateResponse", self.state),
            "Delete": ("DeleteRequest", "DeleteResponse", self.delete),
            "Exec": ("ExecProcessRequest", "Empty", self.exec),
            "Kill": ("KillRequest", "Empty", self.kill),
            "Wait": ("WaitRequest", "WaitResponse", self.wait),
            "ResizePty": ("ResizePtyRequest", "Empty", self.resize),
            "CloseIO": ("CloseIORequest", "Empty", self.close_io),
            "Pids": ("PidsRequest", "PidsResponse", self.pids),
            "Pause": ("PauseRequest", "Empty", self.pause),
            "Resume": ("ResumeRequest", "Empty", self.resume),
            "Update": ("UpdateTaskRequest", "Empty", self.update),
            "Checkpoint": ("CheckpointTaskRequest", "Empty", self.checkpoint),
            "Stats": ("StatsRequest", "StatsResponse", self.stats),
            "Connect": ("ConnectRequest", "ConnectResponse", self.connect),
            "Shutdown": ("ShutdownRequest", "Empty", self.shutdown),
        }
        return {
            (f"containerd.task.{version}.Task", name): method
            for version in ("v2", "v3")
            for name, method in names.items()
        } | {("cored.shim.v1.Shim", "Join"): ("JoinRequest", "Empty", self.join)}

    async def run_program(self, arguments: Sequence[str], files: Mapping[int, int]) -> Ended:
        """Run a program to its end."""
        pid = self._reaper.spawn(arguments, files)
        ended: Ended = await self._reaper.ended(pid)
        return ended

    @property
    def quiet(self) -> bool:
        """Whether nothing is being done."""
        return not self._reaper.starting and all(
            process.quiet for process in self._processes.values()
        )

    @property
    def awaited(self) -> list[int]:
        """The pids of those whose end is to come; a coroutine waits for each."""
        return [process.child for process in self._processes.values() if process.runs]

    def pack(self, luggage: Luggage) -> State:
        """What :meth:`unpack` needs; only while :attr:`quiet`."""
        return {
            "options": None if self._runtime is None else self._runtime.options,
            "own_pids": self._own_pids,
            "mounted": self._rootfs.mounted,
            "cgroups": self._cgroups,
            "oom": None if self._oom is None else self._oom.pack(luggage),
            "processes": [process.pack(luggage) for process in self._processes.values()],
        }

    def unpack(self, state: State, luggage: Luggage) -> None:
        """Go on where an earlier worker has stopped."""
        if state["options"] is not None:
            self._runtime = self._runtime_with(state["options"])
        self._own_pids, self._rootfs.mounted = state["own_pids"], state["mounted"]
        self._cgroups = state["cgroups"]
        if state["oom"] is not None:
            self._oom = self._oom_watch()
            self._oom.unpack(state["oom"], luggage)
        for each in state["processes"]:
            process = Process.unpacked(self._loop, each, luggage)
            self._processes[process.exec_id] = process
            if each["runs"]:
                process.reaped = self._reaper.ended(process.child)
                self._loop.spawn(self._await_exit(process))

    def _runtime_with(self, options: dict[str, Any]) -> OciRuntime:
        return OciRuntime(self._reaper, self._bundle, self._id, self._namespace, options)

    def _oom_watch(self) -> OomWatch:
        return OomWatch(self._loop, lambda: self._publish.oom(self._id))

    @property
    def idle(self) -> bool:
        """Whether there is no process to look after."""
        return not self._processes and not self._reaper.starting

    async def create(self, request: dict[str, Any]) -> dict[str, Any]:
        if self._processes or self._reaper.starting:
            raise Failure(EXISTS, f"task {request['id']!r}: already exists in this shim")
        options = request["options"] or {"type_url": "", "value": b""}
        known = options["type_url"].endswith("runc.v1.Options")
        runtime = self._runtime_with(decode("Options", options["value"] if known else b""))
        process = Process(self._loop, "", request)
        self._reaper.begin()
        try:
            self._rootfs.mount(request["rootfs"])
            process.image = request["checkpoint"]
            if not process.image:
                with idmaps.volumes(self._bundle):
                    await self._begin(process, lambda files, console: runtime.create(
                        files, self._pid_file(process), console
                    ))  # fmt: skip
        except BaseException:
            process.close()
            await self._undo(runtime)
            raise
        finally:
            self._reaper.settle()
        self._runtime = runtime
        self._own_pids = has_pid_namespace(self._bundle)
        self._processes[""] = process
        if process.pid:
            self._watch_init(process)
        self._publish.task_created(self._id, self._bundle, request, process.pid)
        return {"pid": process.pid}

    async def start(self, request: dict[str, Any]) -> dict[str, Any]:
        process = self._process(request)
        if process.status != CREATED or process.begun:
            raise Failure(PRECONDITION, f"{self._name(process)}: has been started already")
        process.begun = True
        process.started = Future(self._loop)
        self._reaper.begin()
        try:
            if process.exec_id:
                self._check_running()
                await self._start_exec(process)
                self._loop.spawn(self._await_exit(process))
            elif process.image:
                await self._begin(process, lambda files, console: self._oci().restore(
                    files, self._pid_file(process), console, process.image
                ))  # fmt: skip
                self._watch_init(process)
            else:
                await self._start_init(process)
            process.status = RUNNING
            self._publish.task_started(self._id, process.exec_id, process.pid)
        except BaseException:
            process.begun = False
            raise
        finally:
            self._reaper.settle()
            # after this answer is on its way
            self._loop.later(0.0, process.started.set)
        return {"pid": process.pid}

    async def exec(self, request: dict[str, Any]) -> None:
        exec_id = request["exec_id"]
        if not _EXEC_ID.fullmatch(exec_id):
            raise Failure(INVALID, f"process {exec_id!r} of task {self._id!r}: invalid name")
        if exec_id in self._processes:
            raise Failure(EXISTS, f"process {exec_id!r} of task {self._id!r}: already exists")
        self._check_running()
        process = Process(self._loop, exec_id, request)
        process.spec = with_terminal(request)
        self._processes[exec_id] = process
        self._publish.exec_added(self._id, exec_id)

    def _check_running(self) -> None:
        if self._process({}).status == STOPPED:
            raise Failure(PRECONDITION, f"task {self._id!r}: has ended")

    async def state(self, request: dict[str, Any]) -> dict[str, Any]:
        process = self._process(request)
        return {
            "id": self._id,
            "bundle": self._bundle,
            "pid": process.pid,
            "status": process.status,
            "stdin": process.stdin,
            "stdout": process.stdout,
            "stderr": process.stderr,
            "terminal": process.terminal,
            "exit_status": process.exit_status,
            "exited_at": process.exit_time,
            "exec_id": process.exec_id,
        }

    async def wait(self, request: dict[str, Any]) -> dict[str, Any]:
        process = self._process(request)
        await process.exit
        return {"exit_status": process.exit_status, "exited_at": process.exit_time}

    async def delete(self, request: dict[str, Any]) -> dict[str, Any]:
        process = self._process(request)
        never_ran = process.exec_id and not process.pid and not process.begun
        if process.status == CREATED and not process.exec_id and not process.pid:
            process.ended(0, time.time_ns())  # a checkpoint that was never restored
        elif process.status == CREATED and not process.exec_id:
            await self._oci().simple("delete", "--force")
            with suppress(ProcessLookupError):
                process.kill(signal.SIGKILL)
            await process.exit
        elif process.status != STOPPED and not never_ran:
            raise Failure(PRECONDITION, f"{self._name(process)}: is running, kill it first")
        elif not process.exec_id:
            await self._delete_stopped()
        if process.streams is not None:
            await process.streams.drained(_DRAIN)
        process.close()
        if not process.exec_id:
            if self._oom is not None:
                self._oom.close()
            fast.remove_cgroups(self._cgroups)
            self._rootfs.unmount()
        if process.exec_id:
            self._oci().forget(self._pid_file(process))
            with suppress(FileNotFoundError):
                os.unlink(exit_file(self._bundle, process.exec_id))
        self._processes.pop(process.exec_id, None)
        process.exit.set()  # nobody waits for what never ran
        answer = {
            "pid": process.pid,
            "exit_status": process.exit_status,
            "exited_at": process.exit_time,
        }
        self._publish.task_deleted(self._id, process.exec_id, answer)
        return answer

    async def kill(self, request: dict[str, Any]) -> None:
        process = self._process(request)
        number = request["signal"]
        if not 0 <= number < signal.NSIG:
            raise Failure(INVALID, f"{self._name(process)}: no signal has the number {number}")
        finished = Failure(NOT_FOUND, f"{self._name(process)}: process already finished")
        if request["all"]:
            try:
                await self._oci().kill_all(number)
            except Failure as failure:
                raise (finished if process.status == STOPPED else failure) from failure
            return
        if process.status == STOPPED or not process.pid:
            raise finished
        try:
            await self._oci().signal(
                number, process.kill, self._pid_file(process), started=process.status != CREATED
            )
        except ProcessLookupError as error:
            raise finished from error
        except Failure as failure:  # a runtime's own kill, which came too late
            raise (finished if process.exit.done else failure) from failure

    async def resize(self, request: dict[str, Any]) -> None:
        process = self._process(request)
        if process.streams is not None:
            process.streams.resize(request["width"], request["height"])

    async def join(self, request: dict[str, Any]) -> None:
        if (streams := self._process(request).streams) is not None:
            streams.join(request["stdout"], request["stderr"])

    async def close_io(self, request: dict[str, Any]) -> None:
        process = self._process(request)
        if request["stdin"] and process.streams is not None:
            process.streams.close_stdin()

    async def pids(self, request: dict[str, Any]) -> dict[str, Any]:
        return {"processes": listed(await self._oci().pids(), self._processes.values())}

    async def pause(self, request: dict[str, Any]) -> None:
        self._must_be(RUNNING, "is not running")
        await self._oci().simple("pause")
        self._turn(RUNNING, PAUSED)
        self._publish.paused(self._id)

    async def resume(self, request: dict[str, Any]) -> None:
        self._must_be(PAUSED, "is not paused")
        await self._oci().simple("resume")
        self._turn(PAUSED, RUNNING)
        self._publish.resumed(self._id)

    def _must_be(self, status: int, otherwise: str) -> None:
        if self._process({"exec_id": ""}).status != status:
            raise Failure(PRECONDITION, f"task {self._id!r}: {otherwise}")

    def _turn(self, before: int, after: int) -> None:
        """Change init's status, unless it has ended meanwhile."""
        init = self._process({"exec_id": ""})
        if init.status == before:
            init.status = after

    async def update(self, request: dict[str, Any]) -> None:
        if request["resources"]:
            await self._oci().update(request["resources"]["value"])

    async def checkpoint(self, request: dict[str, Any]) -> None:
        given = request["options"] or {"value": b""}
        options = decode("CheckpointOptions", given["value"])
        await self._oci().checkpoint(request["path"], options)

    async def stats(self, request: dict[str, Any]) -> dict[str, Any]:
        from coreshim.metrics import metrics  # half a page of tables that most shims never need

        init = self._process({"exec_id": ""})
        if init.status == STOPPED:
            raise Failure(NOT_FOUND, f"task {self._id!r}: has ended")
        type_url, value = metrics(init.pid)
        return {"stats": {"type_url": type_url, "value": value}}

    async def connect(self, request: dict[str, Any]) -> dict[str, Any]:
        init = self._processes.get("")
        return {"shim_pid": self._pid, "task_pid": init.pid if init else 0, "version": "3"}

    async def shutdown(self, request: dict[str, Any]) -> None:
        if "" in self._processes and not request["now"]:
            return  # execs that nobody has deleted hold nobody up
        self._loop.later(0.01, lambda: self._loop.spawn(self._stop()))

    async def _stop(self) -> None:
        """End when all events are told, or nobody listens to them."""
        await self._publish.told(_DRAIN)
        self._loop.stop()

    def _process(self, request: Mapping[str, Any]) -> Process:
        exec_id = request.get("exec_id", "")
        process = self._processes.get(exec_id)
        if process is None:
            what = f"process {exec_id!r} of task {self._id!r}" if exec_id else f"task {self._id!r}"
            raise Failure(NOT_FOUND, f"{what}: not found")
        return process

    def _name(self, process: Process) -> str:
        if process.exec_id:
            return f"process {process.exec_id!r} of task {self._id!r}"
        return f"task {self._id!r}"

    def _oci(self) -> OciRuntime:
        if self._runtime is None:
            raise Failure(NOT_FOUND, f"task {self._id!r}: not found")
        return self._runtime

    def _pid_file(self, process: Process) -> str:
        name = f"exec-{process.exec_id}.pid" if process.exec_id else "init.pid"
        return os.path.join(self._bundle, name)

    async def _begin(self, process: Process, run: Any) -> None:
        """Run ``create`` or ``exec`` with the process's streams; then its pid is known."""
        streams = process.open_streams(self._loop, (self._id, self._namespace))
        console: Console | None = None
        try:
            await streams.ready()
            if process.terminal:
                console = Console(self._loop, f"{os.getpid()}-{process.exec_id or '.init'}")
            child = await run(streams.files, console.path if console else "")
            if console is not None:
                streams.attach_console(await console.take())
        finally:
            streams.started()
            if console is not None:
                console.close()
        with open(self._pid_file(process)) as file:
            process.begins(int(file.read()), child or 0)
        process.reaped = self._reaper.ended(process.child)

    def _watch_init(self, process: Process) -> None:
        """The container runs, or waits to: look after its init and its memory."""
        self._cgroups = fast.cgroups_of(process.pid)
        self._oom = self._oom_watch()
        self._oom.open(self._cgroups)
        self._loop.spawn(self._await_exit(process))

    async def _start_init(self, process: Process) -> None:
        oci = self._oci()
        assert process.reaped is not None
        if not oci.fast or not await fast.start(self._loop, oci.kind, oci.state, process.reaped):
            await oci.start(process.child if process.child != process.pid else 0)

    async def _start_exec(self, process: Process) -> None:
        path = os.path.join(self._bundle, f"exec-{process.exec_id}.json")
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(process.spec)
        runtime = self._oci()
        try:
            await self._begin(process, lambda files, console: runtime.exec(
                files, path, self._pid_file(process), console
            ))  # fmt: skip
        except BaseException:
            process.close()
            # whoever waits for it must not wait for ever; it stays until it is deleted
            process.ended(_NOT_STARTED, time.time_ns())
            raise
        finally:
            os.unlink(path)
            with suppress(FileNotFoundError):
                os.unlink(self._pid_file(process))

    async def _await_exit(self, process: Process) -> None:
        assert process.reaped is not None
        ended: Ended = await process.reaped
        if self._oom is not None and self._oom.check():
            await self._publish.told(_DRAIN)  # the cause before the effect
        self._record(process, ended)
        if not process.exec_id and not self._own_pids:
            await self._kill_rest()
        await process.started
        process.ended(ended.status, ended.at)
        self._publish.task_exited(self._id, process)

    def _record(self, process: Process, ended: Ended) -> None:
        facts = {} if process.exec_id else facts_of(ended, self._cgroups, self._oom)
        try:
            write_exit(exit_file(self._bundle, process.exec_id), process.pid, ended, facts)
        except OSError as error:  # no space: who waits must be told all the same
            print(f"exit of {self._name(process)}: {error}", file=sys.stderr)

    async def _kill_rest(self) -> None:
        """Without a pid namespace of its own a container's other processes outlive its init."""
        try:
            await self._oci().kill_all(signal.SIGKILL)
        except Failure as failure:
            print(f"after the exit of init: {failure}", file=sys.stderr)

    async def _delete_stopped(self) -> None:
        oci = self._oci()
        own = oci.fast and self._own_pids
        if own and fast.delete(oci.kind, oci.state, self._cgroups):
            return
        await oci.delete()

    async def _undo(self, runtime: OciRuntime) -> None:
        """After a create that failed: nothing of it stays."""
        await runtime.undo()
        self._rootfs.unmount()
