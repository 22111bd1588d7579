"""What every runtime must do (:mod:`cored.abc.runtime`). Needs root, and a busybox's tree."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cored.abc.runtime import Status
from cored.abc.values import Typed
from cored.errors import AlreadyExists, CoredError, FailedPrecondition, NotFound
from cored.testing.processes import ProcessContract
from cored.testing.stage import Opened, Stage, eventually, needs, wait
from cored.testing.streams import StreamContract

__all__ = ["RuntimeContract"]


class RuntimeContract(ProcessContract, StreamContract):
    """Subclass it with the fixtures ``opened``, which opens the runtime anew on the same state,
    and ``rootfs`` (see :class:`Stage`); also ``runtime_name`` and ``runtime_options``, as
    containers ask for it, and ``place``, a directory for files, where the defaults will not do.

    What it cannot do is declared, by :attr:`RuntimeInfo.limits` or the fixture ``limits``, and
    shown as an expected failure; a wrong declaration fails.
    """

    @pytest.fixture
    def runtime_name(self) -> str:
        return ""

    @pytest.fixture
    def runtime_options(self) -> Typed | None:
        return None

    @pytest.fixture
    def limits(self) -> dict[str, str]:
        """More limits than the runtime says of itself."""
        return {}

    @pytest.fixture
    def place(self, tmp_path: Path) -> Path:
        return tmp_path

    @pytest.fixture
    async def stage(
        self,
        opened: Opened,
        rootfs: Path,
        place: Path,
        runtime_name: str,
        runtime_options: Typed | None,
        limits: dict[str, str],
    ) -> AsyncIterator[Stage]:
        async with Stage.opened(
            opened, rootfs, place, runtime_name, runtime_options, limits
        ) as stage:
            yield stage

    async def test_it_tells_what_it_is(self, stage: Stage) -> None:
        info = await stage.runtime.info(stage.name, stage.options)
        assert info.version
        assert info.path.startswith("/")
        assert info.problem == ""
        with pytest.raises(CoredError):
            await stage.runtime.info("io.containerd.nobody-has-this.v7", None)

    async def test_a_created_task_has_a_pid_and_has_not_begun(self, stage: Stage) -> None:
        task = await stage.create("echo", "begun")
        state = await task.state()
        assert (state.status, state.pid) == (Status.CREATED, task.pid)
        assert (state.id, state.exec_id, state.bundle) == (task.id, "", str(task.bundle))
        assert (state.exit_status, state.exited_at) == (0, 0)
        assert Path(f"/proc/{task.pid}").exists()
        assert stage.output(task.id) == ""
        assert await task.start() == task.pid

    @pytest.mark.parametrize("code", [0, 3, 255])
    async def test_the_exit_status_is_the_programs(self, stage: Stage, code: int) -> None:
        before = time.time_ns()
        exit, output = await stage.run("sh", "-c", f"echo out; exit {code}")
        assert (exit.status, output) == (code, "out\n")
        assert before <= exit.exited_at <= time.time_ns()

    async def test_a_signals_exit_status_is_its_number_and_128(self, stage: Stage) -> None:
        task = await stage.running("sleep", "1000")
        await task.kill(9)
        assert (await wait(task)).status == 137

    async def test_everybody_who_waits_hears_the_same(self, stage: Stage) -> None:
        task = await stage.create("sh", "-c", "sleep 0.3; exit 4")
        early = [asyncio.ensure_future(wait(task)) for _ in range(5)]
        await task.start()
        answers = {*(await asyncio.gather(*early)), await wait(task), await wait(task)}
        assert len(answers) == 1
        state = await task.state()
        exit = answers.pop()
        assert (state.status, state.exit_status, state.exited_at) == (
            Status.STOPPED, 4, exit.exited_at,
        )  # fmt: skip
        assert (await task.delete()).status == 4

    async def test_a_created_task_can_be_killed(self, stage: Stage) -> None:
        task = await stage.create("sleep", "1000")
        await task.kill(9)
        assert (await wait(task)).status == 137
        await task.delete()

    async def test_a_created_task_can_be_deleted(self, stage: Stage) -> None:
        task = await stage.create("sleep", "1000")
        await task.delete()
        await eventually(lambda: not Path(f"/proc/{task.pid}").exists())
        assert not task.bundle.exists()

    @needs("precondition")
    async def test_a_running_task_cannot_be_deleted(self, stage: Stage) -> None:
        task = await stage.running("sleep", "1000")
        with pytest.raises(FailedPrecondition):
            await task.delete()
        assert (await task.state()).status is Status.RUNNING

    async def test_nothing_stays_of_a_deleted_task(self, stage: Stage) -> None:
        task = await stage.running("sleep", "1000")
        groups = _cgroups(task.pid)
        await task.kill(9)
        await wait(task)
        await task.delete()
        assert not task.bundle.exists()
        assert not [path for path in groups if path.exists()]
        assert str(task.bundle) not in Path("/proc/self/mounts").read_text()
        with pytest.raises(CoredError):
            await task.state()

    async def test_an_id_is_taken_until_it_is_deleted(self, stage: Stage) -> None:
        task = await stage.create("true", id="one")
        with pytest.raises(AlreadyExists):
            await stage.create("true", id="one")
        await task.delete()
        assert (await stage.run("true", id="one"))[0].status == 0

    async def test_a_program_that_is_not_there_is_an_error_and_leaves_nothing(
        self, stage: Stage
    ) -> None:
        # some runtimes look for it when the task is made, others when it starts
        with pytest.raises(CoredError):
            await stage.running("/no/such/program", id="bad")
        for task in stage.tasks:
            await task.kill(9)
            await wait(task)
            await task.delete()
        assert (await stage.run("true", id="bad"))[0].status == 0

    @needs("precondition")
    async def test_a_task_starts_once(self, stage: Stage) -> None:
        task = await stage.running("sleep", "1000")
        with pytest.raises(FailedPrecondition):
            await task.start()
        await task.kill(9)
        await wait(task)
        with pytest.raises(FailedPrecondition):
            await task.start()

    async def test_what_has_ended_cannot_be_killed_or_paused(self, stage: Stage) -> None:
        task = await stage.running("true")
        await wait(task)
        with pytest.raises(NotFound):
            await task.kill(9)
        for call in (task.pause, task.resume):
            with pytest.raises(CoredError):
                await call()

    @needs("pause")
    async def test_a_paused_task_stands_still(self, stage: Stage) -> None:
        task = await stage.running("sh", "-c", "while :; do echo .; sleep 0.02; done")
        await eventually(lambda: stage.output(task.id) != "")
        await task.pause()
        assert (await task.state()).status is Status.PAUSED
        still = stage.output(task.id)
        await asyncio.sleep(0.2)
        assert stage.output(task.id) == still
        await task.resume()
        assert (await task.state()).status is Status.RUNNING
        await eventually(lambda: len(stage.output(task.id)) > len(still))

    @needs("pause", "precondition")
    async def test_only_what_runs_is_paused_and_only_that_resumed(self, stage: Stage) -> None:
        task = await stage.create("sleep", "1000")
        for call in (task.pause, task.resume):
            with pytest.raises(FailedPrecondition):
                await call()
        await task.start()
        with pytest.raises(FailedPrecondition):
            await task.resume()
        await task.pause()
        with pytest.raises(FailedPrecondition):
            await task.pause()

    @needs("update")
    async def test_limits_of_a_running_task_can_be_changed(self, stage: Stage) -> None:
        task = await stage.running("sleep", "1000")
        resources = Typed(
            "types.containerd.io/opencontainers/runtime-spec/1/LinuxResources",
            b'{"pids": {"limit": 33}, "memory": {"limit": 67108864}}',
        )
        await task.update(resources, {})
        assert _limit(task.pid, "pids.max") == "33"
        assert _limit(task.pid, "memory.max", "memory.limit_in_bytes") == "67108864"

    async def test_stats_are_the_cgroups(self, stage: Stage) -> None:
        task = await stage.running("sleep", "1000")
        found = await task.stats()
        assert found.type_url.rpartition("/")[2] in (
            "io.containerd.cgroups.v1.Metrics", "io.containerd.cgroups.v2.Metrics",
        )  # fmt: skip
        assert found.value

    @needs("recovery")
    async def test_the_next_daemon_finds_every_task_again(self, stage: Stage) -> None:
        made = await stage.create("sh", "-c", "exit 3", id="made")
        runs = await stage.running("sleep", "1000", id="runs")
        over = await stage.running("sh", "-c", "exit 5", id="over")
        exit = await wait(over)
        found = await stage.reopen()
        assert sorted(found) == ["made", "over", "runs"]
        states = {id: await task.state() for id, task in found.items()}
        assert (states["made"].status, states["made"].pid) == (Status.CREATED, made.pid)
        assert (states["runs"].status, states["runs"].pid) == (Status.RUNNING, runs.pid)
        assert (await wait(found["over"])).exited_at == exit.exited_at
        await found["made"].start()
        assert (await wait(found["made"])).status == 3
        await found["runs"].kill(9)
        assert (await wait(found["runs"])).status == 137
        for task in found.values():
            await task.delete()

    @needs("recovery")
    async def test_what_ends_between_two_daemons_has_its_own_end(self, stage: Stage) -> None:
        task = await stage.running("sh", "-c", "sleep 0.5; exit 6", id="late")
        pid = task.pid
        await stage.daemon.aclose()
        await eventually(lambda: not Path(f"/proc/{pid}").exists())
        await asyncio.sleep(1.5)  # the shim looks at the clock after it has reaped it
        ended = time.time_ns()
        found = (await stage.reopen())["late"]
        exit = await wait(found)
        assert (exit.status, exit.exited_at <= ended) == (6, True)
        await found.delete()


def _cgroups(pid: int) -> list[Path]:
    """Its cgroup directories, but for those that we are in."""
    ours = Path("/proc/self/cgroup").read_text().splitlines()
    found = []
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if line in ours or path == "/":
            continue
        name = controllers.removeprefix("name=")
        trees = (
            (f"/sys/fs/cgroup/{name}",) if name else ("/sys/fs/cgroup", "/sys/fs/cgroup/unified")
        )
        found += [Path(tree + path) for tree in trees if os.path.isdir(tree + path)]  # noqa: PTH112
    return found


def _limit(pid: int, *names: str) -> str:
    """What a file of its cgroups says, by the first name that there is."""
    for group in _cgroups(pid):
        for name in names:
            if (group / name).exists():
                return (group / name).read_text().strip()
    raise AssertionError(f"no cgroup of {pid} has {names}")
