"""containerd.services.tasks.v1.Tasks, with real containers of busybox."""

from __future__ import annotations

import json
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.grpc_client import Client, kept, message, only_cored, opened

SPEC = "types.containerd.io/opencontainers/runtime-spec/1/Spec"
PROCESS = "types.containerd.io/opencontainers/runtime-spec/1/Process"
RESOURCES = "types.containerd.io/opencontainers/runtime-spec/1/LinuxResources"
CREATED, RUNNING, STOPPED, PAUSED = 1, 2, 3, 4
CGROUP = "cored-api-tests"
FOREVER = "trap 'exit 3' TERM; while :; do sleep 0.1; done"


@pytest.fixture(scope="module")
def rootfs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """A mount of a root file system with busybox's shell; the cgroups are gone at the end."""
    root = tmp_path_factory.mktemp("rootfs")
    for name in ("bin", "proc", "dev", "tmp", "sys"):
        (root / name).mkdir()
    shutil.copy("/bin/busybox", root / "bin/busybox")
    for applet in ("sh", "sleep", "cat", "echo", "true", "stty"):
        (root / "bin" / applet).symlink_to("busybox")
    yield {"type": "bind", "source": str(root), "options": ["rbind", "rw"]}
    for place in Path("/sys/fs/cgroup").glob(f"*/{CGROUP}"):
        with suppress(OSError):
            place.rmdir()


def process(*args: str, terminal: bool = False) -> dict[str, Any]:
    return {
        "terminal": terminal,
        "user": {"uid": 0, "gid": 0},
        "args": list(args),
        "env": ["PATH=/bin", "TERM=xterm"],
        "cwd": "/",
        "noNewPrivileges": True,
        "capabilities": {kind: ["CAP_KILL"] for kind in ("bounding", "effective", "permitted")},
    }


def spec(name: str, *args: str, terminal: bool = False) -> Any:
    document = {
        "ociVersion": "1.0.2",
        "process": process(*args, terminal=terminal),
        "root": {"path": "rootfs"},
        "hostname": "test",
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {
                "destination": "/dev",
                "type": "tmpfs",
                "source": "tmpfs",
                "options": ["nosuid", "mode=755", "size=65536k"],
            },
            {"destination": "/dev/pts", "type": "devpts", "source": "devpts"},
        ],
        "linux": {
            "cgroupsPath": f"/{CGROUP}/{name}",
            "resources": {"devices": [{"allow": False, "access": "rwm"}]},
            "namespaces": [{"type": t} for t in ("pid", "ipc", "uts", "mount", "network")],
        },
    }
    return kept(SPEC, json.dumps(document).encode())


class Container:
    """A container's record with the calls on its task, its id filled in."""

    def __init__(self, api: Client, rootfs: dict[str, Any], id: str) -> None:
        self.api = api
        self.id = id
        self._rootfs = rootfs

    def make(self, *args: str, terminal: bool = False, **task: Any) -> int:
        """Record and task; the pid."""
        self.api.containers.Create(
            container={
                "id": self.id,
                "runtime": {"name": "io.containerd.runc.v2"},
                "spec": spec(f"{self.api.namespace}-{self.id}", *args, terminal=terminal),
            }
        )
        return self.create(terminal=terminal, **task)

    def create(self, **task: Any) -> int:
        return int(self.api.tasks.Create(container_id=self.id, rootfs=[self._rootfs], **task).pid)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        rpc = getattr(self.api.tasks, name)
        return lambda **fields: rpc(container_id=self.id, **fields)

    def run(self, *args: str, **task: Any) -> int:
        pid = self.make(*args, **task)
        assert self.Start().pid == pid
        return pid

    def status(self, exec_id: str = "") -> int:
        return int(self.Get(exec_id=exec_id).process.status)

    def add(self, exec_id: str, *args: str, terminal: bool = False, **stdio: Any) -> None:
        self.Exec(
            exec_id=exec_id,
            terminal=terminal,
            spec=kept(PROCESS, json.dumps(process(*args, terminal=terminal)).encode()),
            **stdio,
        )

    def stop(self) -> Any:
        self.Kill(signal=9, all=True)
        self.Wait()
        return self.Delete()


@pytest.fixture
def container(api: Client, rootfs: dict[str, Any]) -> Iterator[Container]:
    """A container that is not made yet; whatever is left of it goes at the end."""
    made = Container(api, rootfs, "c")
    yield made
    for task in api.tasks.List().tasks:
        left = Container(api, rootfs, task.id)
        with suppress(Exception):
            left.Resume()
        with suppress(Exception):
            left.Kill(signal=9, all=True)
            left.Wait()
        left.Delete()


class Pipes:
    """FIFOs for a process's stdio, their other ends open here."""

    def __init__(self, place: Path, *names: str) -> None:
        self.paths = {}
        for name in names:
            path = place / name
            os.mkfifo(path)
            self.paths[name] = str(path)
        self.files = {
            name: os.open(path, os.O_RDWR | os.O_NONBLOCK) for name, path in self.paths.items()
        }

    def read(self, name: str, until: bytes, seconds: float = 60.0) -> bytes:
        end = time.monotonic() + seconds
        found = b""
        while until not in found:
            assert time.monotonic() < end, found
            try:
                found += os.read(self.files[name], 65536)
            except BlockingIOError:
                time.sleep(0.01)
        return found

    def write(self, name: str, data: bytes) -> None:
        os.write(self.files[name], data)

    def close(self, *names: str) -> None:
        for name in names or tuple(self.files):
            os.close(self.files.pop(name))


@pytest.fixture
def pipes(tmp_path: Path) -> Iterator[Callable[..., Pipes]]:
    made: list[Pipes] = []

    def make(*names: str) -> Pipes:
        place = tmp_path / str(len(made))
        place.mkdir()
        made.append(Pipes(place, *names))
        return made[-1]

    yield make
    for one in made:
        one.close()


def test_a_life(api: Client, container: Container) -> None:
    before = time.time_ns()
    with api.watching(f'namespace=={api.namespace},topic~="^/tasks/"') as seen:
        pid = container.make("sh", "-c", "exit 7")
        assert container.status() == CREATED
        (listed,) = api.tasks.List().tasks
        assert (listed.id, listed.pid, listed.status) == ("c", pid, CREATED)
        assert [p.pid for p in container.ListPids().processes] == [pid]
        assert container.Start().pid == pid
        exit = container.Wait()
        assert exit.exit_status == 7
        assert before < exit.exited_at.ToNanoseconds() <= time.time_ns()
        assert container.Wait() == exit, "also afterwards"
        found = container.Get().process
        assert (found.id, found.pid, found.status, found.exit_status) == ("c", pid, STOPPED, 7)
        assert found.exited_at == exit.exited_at
        deleted = container.Delete()
        assert (deleted.pid, deleted.exit_status) == (pid, 7)
        assert deleted.exited_at == exit.exited_at
    assert seen.topics == ["/tasks/create", "/tasks/start", "/tasks/exit", "/tasks/delete"]
    assert [e.event.type_url for e in seen.envelopes] == [
        "containerd.events.TaskCreate",
        "containerd.events.TaskStart",
        "containerd.events.TaskExit",
        "containerd.events.TaskDelete",
    ]
    created, started, exited, deleted_event = map(opened, seen.envelopes)
    assert (created.container_id, created.pid) == ("c", pid)
    assert created.bundle.endswith(f"/{api.namespace}/c")
    assert [(m.type, m.source) for m in created.rootfs] == [("bind", container._rootfs["source"])]
    assert (started.container_id, started.pid) == ("c", pid)
    assert (exited.container_id, exited.id, exited.pid, exited.exit_status) == ("c", "c", pid, 7)
    assert exited.exited_at == exit.exited_at
    assert (deleted_event.container_id, deleted_event.pid) == ("c", pid)
    assert deleted_event.exit_status == 7
    assert not api.tasks.List().tasks


def test_a_task_can_be_made_again(container: Container) -> None:
    container.run("true")
    container.Wait()
    container.Delete()
    container.create()
    assert container.status() == CREATED


def test_a_created_task_can_be_deleted(container: Container) -> None:
    container.make("true")
    container.Delete()
    with container.api.refused("NOT_FOUND"):
        container.Get()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_signals_arrive(container: Container, pipes: Callable[..., Pipes], number: int) -> None:
    io = pipes("stdout", "stderr")
    container.run("sh", "-c", f"trap 'exit 3' TERM; echo ready; {FOREVER}", **io.paths)
    io.read("stdout", b"ready")
    container.Kill(signal=number)
    assert container.Wait().exit_status == (3 if number == signal.SIGTERM else 128 + number)


def test_waiting_takes_as_long_as_the_process(container: Container) -> None:
    container.run("sh", "-c", FOREVER)
    exits: list[int] = []
    waiters = [
        threading.Thread(target=lambda: exits.append(container.Wait().exit_status))
        for _ in range(3)
    ]
    for waiter in waiters:
        waiter.start()
    time.sleep(0.2)
    assert exits == []
    container.Kill(signal=9)
    for waiter in waiters:
        waiter.join(60)
    assert exits == [137] * 3


@only_cored  # 1.6 says so, or UNKNOWN
def test_a_wait_that_is_given_up_ends(container: Container) -> None:
    container.run("sh", "-c", FOREVER)
    with container.api.refused("DEADLINE_EXCEEDED"):
        container.Wait(timeout=0.2)
    assert container.status() == RUNNING


def test_output_and_input_pass_through_pipes(
    container: Container, pipes: Callable[..., Pipes]
) -> None:
    io = pipes("stdin", "stdout", "stderr")
    container.run("sh", "-c", "echo out; echo err >&2; cat", **io.paths)
    process = container.Get().process
    assert (process.stdin, process.stdout, process.stderr) == tuple(io.paths.values())
    assert not process.terminal
    assert b"out\n" in io.read("stdout", b"out\n")
    assert b"err\n" in io.read("stderr", b"err\n")
    io.write("stdin", b"echoed\n")
    assert b"echoed\n" in io.read("stdout", b"echoed\n")
    io.close("stdin")
    container.CloseIO(stdin=True)
    assert container.Wait().exit_status == 0


def test_a_terminal_has_a_size(container: Container, pipes: Callable[..., Pipes]) -> None:
    io = pipes("stdin", "stdout")
    container.run("sh", terminal=True, **io.paths)
    container.ResizePty(width=93, height=31)
    io.write("stdin", b"stty size; exit\n")
    assert b"31 93" in io.read("stdout", b"31 93")
    container.Wait()
    assert container.Get().process.terminal


def test_another_process(api: Client, container: Container, pipes: Callable[..., Pipes]) -> None:
    container.run("sh", "-c", FOREVER)
    io = pipes("stdout", "stderr")
    with api.watching(f'namespace=={api.namespace},topic~="^/tasks/"') as seen:
        container.add("e", "sh", "-c", "echo hello; exit 4", **io.paths)
        assert container.status("e") == CREATED
        pid = container.Start(exec_id="e").pid
        assert b"hello" in io.read("stdout", b"hello")
        exit = container.Wait(exec_id="e")
        assert exit.exit_status == 4
        found = container.Get(exec_id="e").process
        assert (found.id, found.pid, found.status, found.exit_status) == ("e", pid, STOPPED, 4)
        deleted = container.DeleteProcess(exec_id="e")
        assert (deleted.id, deleted.pid, deleted.exit_status) == ("e", pid, 4)
    with api.refused("NOT_FOUND", "'e'"):
        container.Get(exec_id="e")
    if api.oracle:
        return  # 1.6 tells of a short exec's start after its end, at times
    assert seen.topics == ["/tasks/exec-added", "/tasks/exec-started", "/tasks/exit"]
    assert [e.event.type_url for e in seen.envelopes] == [
        "containerd.events.TaskExecAdded",
        "containerd.events.TaskExecStarted",
        "containerd.events.TaskExit",
    ]
    added, started, exited = map(opened, seen.envelopes)
    assert (added.container_id, added.exec_id) == ("c", "e")
    assert (started.container_id, started.exec_id, started.pid) == ("c", "e", pid)
    assert (exited.container_id, exited.id, exited.pid, exited.exit_status) == ("c", "e", pid, 4)
    assert container.status() == RUNNING


def test_another_process_can_be_killed_and_named_again(container: Container) -> None:
    container.run("sh", "-c", FOREVER)
    for _ in range(2):
        container.add("e", "sleep", "1000")
        with container.api.refused("ALREADY_EXISTS", "'e'"):
            container.add("e", "sleep", "1000")
        container.Start(exec_id="e")
        assert len(container.ListPids().processes) >= 2
        container.Kill(exec_id="e", signal=9)
        assert container.Wait(exec_id="e").exit_status == 137
        container.DeleteProcess(exec_id="e")
    assert container.status() == RUNNING


def test_pause_and_resume(api: Client, container: Container) -> None:
    container.run("sh", "-c", FOREVER)
    with api.watching(f'namespace=={api.namespace},topic~="^/tasks/"') as seen:
        container.Pause()
        assert container.status() == PAUSED
        container.Resume()
        assert container.status() == RUNNING
    assert seen.topics == ["/tasks/paused", "/tasks/resumed"]
    assert [opened(e).container_id for e in seen.envelopes] == ["c", "c"]
    assert [e.event.type_url for e in seen.envelopes] == [
        "containerd.events.TaskPaused",
        "containerd.events.TaskResumed",
    ]


def test_metrics(api: Client, container: Container) -> None:
    container.run("sh", "-c", FOREVER)
    (metric,) = api.tasks.Metrics(filters=["id==c"]).metrics
    assert metric.id == "c"
    assert metric.timestamp.seconds > 0
    assert metric.data.type_url in (
        "io.containerd.cgroups.v1.Metrics",
        "io.containerd.cgroups.v2.Metrics",
    )
    assert metric.data.value
    assert len(api.tasks.Metrics().metrics) == 1
    assert not api.tasks.Metrics(filters=["id==other"]).metrics
    with api.refused("INVALID_ARGUMENT", "filter"):
        api.tasks.Metrics(filters=["id="])


def test_limits_can_be_changed(container: Container) -> None:
    container.run("sh", "-c", FOREVER)
    limit = kept(RESOURCES, json.dumps({"pids": {"limit": 77}}).encode())
    container.Update(resources=limit)
    name = f"{container.api.namespace}-{container.id}"
    places = [
        *Path("/sys/fs/cgroup/pids").glob(f"{CGROUP}/{name}/pids.max"),
        *Path("/sys/fs/cgroup").glob(f"{CGROUP}/{name}/pids.max"),
    ]
    assert [place.read_text() for place in places] == ["77\n"]


def test_options_of_runc_are_understood(container: Container) -> None:
    options = message("containerd.runc.v1.Options", binary_name="runc", no_new_keyring=True)
    container.make("true", options=kept("containerd.runc.v1.Options", options))
    container.Start()
    assert container.Wait().exit_status == 0


def task_calls(container: Container, exec_id: str = "") -> list[Callable[[], Any]]:
    """Every call that needs a task, or ``exec_id`` in it."""
    if exec_id:
        return [
            lambda: container.Start(exec_id=exec_id),
            lambda: container.Get(exec_id=exec_id),
            lambda: container.Kill(exec_id=exec_id, signal=9),
            lambda: container.Wait(exec_id=exec_id),
            lambda: container.DeleteProcess(exec_id=exec_id),
            lambda: container.ResizePty(exec_id=exec_id, width=1, height=1),
            lambda: container.CloseIO(exec_id=exec_id, stdin=True),
        ]
    return [
        lambda: container.Start(),
        lambda: container.Get(),
        lambda: container.Kill(signal=9),
        lambda: container.Wait(),
        lambda: container.Delete(),
        lambda: container.Pause(),
        lambda: container.Resume(),
        lambda: container.ListPids(),
        lambda: container.ResizePty(width=1, height=1),
        lambda: container.CloseIO(stdin=True),
        lambda: container.CloseIO(),
        lambda: container.Update(resources=kept(RESOURCES, b"{}")),
        lambda: container.add("e", "true"),
        lambda: container.DeleteProcess(exec_id="e"),
    ]


def test_a_namespace_is_needed(nobody: Client, rootfs: dict[str, Any]) -> None:
    container = Container(nobody, rootfs, "c")
    for call in (
        *task_calls(container),
        container.create,
        nobody.tasks.List,
        nobody.tasks.Metrics,
    ):
        with nobody.refused("FAILED_PRECONDITION", "namespace"):
            call()


@pytest.mark.parametrize("recorded", [False, True], ids=["no container", "no task"])
def test_what_is_not_there(api: Client, rootfs: dict[str, Any], recorded: bool) -> None:
    container = Container(api, rootfs, "c")
    if recorded:
        api.containers.Create(
            container={"id": "c", "runtime": {"name": "x.y.v1"}, "spec": spec("c", "true")}
        )
    else:
        with api.refused("NOT_FOUND", "'c'"):
            container.create()
    for call in (*task_calls(container), *task_calls(container, "e")):
        with api.refused("NOT_FOUND", "'c'"):
            call()
    assert not api.tasks.List().tasks


def test_processes_that_are_not_there(container: Container) -> None:
    container.run("sh", "-c", FOREVER)
    for call in task_calls(container, "absent"):
        with container.api.refused("NOT_FOUND", "'absent'"):
            call()


def test_another_namespace_sees_nothing(
    api: Client, other: Client, container: Container, rootfs: dict[str, Any]
) -> None:
    container.run("sh", "-c", FOREVER)
    theirs = Container(other, rootfs, "c")
    for call in task_calls(theirs):
        with other.refused("NOT_FOUND", "'c'"):
            call()
    for call in (theirs.create, theirs.Checkpoint):
        with other.refused("NOT_FOUND", "'c'"):
            call()
    assert not other.tasks.List().tasks
    assert not other.tasks.Metrics().metrics
    assert container.status() == RUNNING


def test_there_is_one_task(container: Container) -> None:
    container.run("sh", "-c", FOREVER)
    with container.api.refused("ALREADY_EXISTS", "'c'"):
        container.create()
    assert container.status() == RUNNING


def test_states_are_respected(container: Container) -> None:
    api = container.api
    container.run("sh", "-c", FOREVER)
    with api.refused("FAILED_PRECONDITION", "'c'", oracle="UNKNOWN"):
        container.Delete()
    with api.refused("FAILED_PRECONDITION", "'c'", oracle="UNKNOWN"):
        container.Start()
    container.Kill(signal=9)
    container.Wait()
    with api.refused("NOT_FOUND"):
        container.Kill(signal=9)
    with api.refused("FAILED_PRECONDITION", "'c'", oracle="UNKNOWN"):
        container.Start()


def test_a_running_process_is_not_deleted(container: Container) -> None:
    container.run("sh", "-c", FOREVER)
    container.add("e", "sleep", "1000")
    container.Start(exec_id="e")
    with container.api.refused("FAILED_PRECONDITION", "'e'", oracle="UNKNOWN"):
        container.DeleteProcess(exec_id="e")
    assert container.status("e") == RUNNING


def test_bad_execs_are_refused(container: Container) -> None:
    container.run("sh", "-c", FOREVER)
    good = kept(PROCESS, json.dumps(process("true")).encode())
    with container.api.refused("INVALID_ARGUMENT", "exec id"):
        container.Exec(spec=good)
    if not container.api.oracle:  # the shim falls over some of these
        for exec_id, spec in (("e", kept(PROCESS, b"nonsense")), ("e", kept(PROCESS, b"[]"))):
            with container.api.refused("INVALID_ARGUMENT"):
                container.Exec(exec_id=exec_id, spec=spec)
        with container.api.refused("INVALID_ARGUMENT"):
            container.Exec(exec_id="e")
        for bad in ("a/b", "../e", "x" * 77):
            with container.api.refused("INVALID_ARGUMENT"):
                container.Exec(exec_id=bad, spec=good)
    assert container.status() == RUNNING


def test_a_command_that_is_not_there(container: Container) -> None:
    """The runtime's words pass through, as clients look for them; nothing of the task stays."""
    with container.api.refused("UNKNOWN", r"OCI runtime .*(no such file|not found)"):
        container.run("/no/such/command")


@only_cored
def test_bad_tasks_are_refused(api: Client, rootfs: dict[str, Any]) -> None:
    for id, body in (("a", b"nonsense"), ("b", b"[]"), ("d", b"\xff")):
        api.containers.Create(
            container={
                "id": id,
                "runtime": {"name": "io.containerd.runc.v2"},
                "spec": kept(SPEC, body),
            }
        )
        with api.refused("INVALID_ARGUMENT", f"'{id}'"):
            Container(api, rootfs, id).create()
    assert not api.tasks.List().tasks


def test_unknown_runtimes_are_refused(api: Client, rootfs: dict[str, Any]) -> None:
    api.containers.Create(
        container={"id": "c", "runtime": {"name": "io.nobody.v9"}, "spec": spec("c", "true")}
    )
    with api.refused("NOT_FOUND", r"nobody\.?-?v9", oracle="UNKNOWN"):
        Container(api, rootfs, "c").create()
    assert not api.tasks.List().tasks


def test_an_exec_that_is_a_path_to_the_containers_files_is_not_found(container: Container) -> None:
    container.make("sleep", "1000")
    for exec_id in ("../config.json", "..", "a/b"):
        with container.api.refused("NOT_FOUND", "not found"):
            container.Start(exec_id=exec_id)
        with container.api.refused("NOT_FOUND", "not found"):
            container.DeleteProcess(exec_id=exec_id)
    assert container.Start().pid
