"""The part of the runtimes' contract that is about processes: execs, signals, pids."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from cored.abc.runtime import Status
from cored.errors import AlreadyExists, CoredError, FailedPrecondition, NotFound
from cored.testing.stage import Stage, eventually, needs, wait

__all__ = ["ProcessContract"]

_TRAP = "trap 'echo heard; exit 7' TERM; echo ready; while :; do sleep 0.05; done"


class ProcessContract:
    """See :class:`cored.testing.runtimes.RuntimeContract`."""

    async def test_an_exec_has_a_life_of_its_own(self, stage: Stage) -> None:
        task = await stage.running("sleep", "1000")
        await stage.exec(task, "e", "sh", "-c", "echo in; exit 4")
        assert (await task.state("e")).status is Status.CREATED
        waiting = asyncio.ensure_future(wait(task, "e"))
        pid = await task.start("e")
        assert pid not in (0, task.pid)
        exit = await waiting
        state = await task.state("e")
        assert (state.status, state.exit_status, state.pid) == (Status.STOPPED, 4, pid)
        assert state.exec_id == "e"
        deleted = await task.delete("e")
        assert (deleted.status, deleted.exited_at) == (4, exit.exited_at)
        assert stage.output(f"{task.id}-e") == "in\n"
        with pytest.raises(NotFound):
            await task.state("e")
        assert (await task.state()).status is Status.RUNNING

    async def test_many_execs_at_once_keep_apart(self, stage: Stage) -> None:
        task = await stage.running("sleep", "1000")

        async def one(number: int) -> int:
            name = f"e{number}"
            await stage.exec(task, name, "sh", "-c", f"echo {name}; exit {number}")
            await task.start(name)
            exit = await wait(task, name)
            await task.delete(name)
            return exit.status

        assert await asyncio.gather(*map(one, range(8))) == list(range(8))
        for number in range(8):
            assert stage.output(f"{task.id}-e{number}") == f"e{number}\n"

    async def test_an_exec_id_is_taken_until_it_is_deleted(self, stage: Stage) -> None:
        task = await stage.running("sleep", "1000")
        await stage.exec(task, "e", "true")
        with pytest.raises(AlreadyExists):
            await stage.exec(task, "e", "true")
        await task.delete("e")  # never started
        await stage.exec(task, "e", "true")
        await task.start("e")
        assert (await wait(task, "e")).status == 0

    @needs("precondition")
    async def test_an_exec_that_runs_cannot_be_deleted_or_started_again(self, stage: Stage) -> None:
        task = await stage.running("sleep", "1000")
        await stage.exec(task, "e", "sleep", "1000")
        await task.start("e")
        for call in (task.delete, task.start):
            with pytest.raises(FailedPrecondition):
                await call("e")
        await task.kill(9, exec_id="e")
        assert (await wait(task, "e")).status == 137

    async def test_unknown_execs_are_not_found(self, stage: Stage) -> None:
        task = await stage.running("sleep", "1000")
        calls = (
            task.state, task.start, task.wait, task.delete,
            lambda id: task.kill(9, exec_id=id), lambda id: task.resize(80, 24, id),
        )  # fmt: skip
        for call in calls:
            with pytest.raises(NotFound):
                await call("x")

    async def test_an_exec_whose_program_is_not_there_fails_alone(self, stage: Stage) -> None:
        task = await stage.running("sleep", "1000")
        await stage.exec(task, "e", "/no/such/program")
        with pytest.raises(CoredError):
            await task.start("e")
        await task.delete("e")
        assert (await task.state()).status is Status.RUNNING

    async def test_no_exec_in_what_has_ended(self, stage: Stage) -> None:
        task = await stage.running("true")
        await wait(task)
        with pytest.raises(CoredError):
            await stage.exec(task, "e", "true")
            await task.start("e")

    async def test_a_signal_arrives(self, stage: Stage) -> None:
        task = await stage.running("sh", "-c", _TRAP)
        await eventually(lambda: "ready" in stage.output(task.id))
        await task.kill(15)
        assert (await wait(task)).status == 7
        assert stage.output(task.id) == "ready\nheard\n"

    async def test_a_signal_goes_to_one_process_alone(self, stage: Stage) -> None:
        task = await stage.running("sh", "-c", _TRAP)
        await stage.exec(task, "e", "sh", "-c", _TRAP)
        await task.start("e")
        await eventually(lambda: "ready" in stage.output(f"{task.id}-e"))
        await task.kill(15, exec_id="e")
        assert (await wait(task, "e")).status == 7
        assert (await task.state()).status is Status.RUNNING
        assert "heard" not in stage.output(task.id)
        with pytest.raises(NotFound):
            await task.kill(15, exec_id="e")

    async def test_all_processes_can_be_killed_at_once(self, stage: Stage) -> None:
        task = await stage.running("sleep", "1000")
        await stage.exec(task, "e", "sleep", "1000")
        await task.start("e")
        await task.kill(9, all=True)
        assert (await wait(task)).status == 137
        assert (await wait(task, "e")).status == 137

    async def test_execs_end_with_init(self, stage: Stage) -> None:
        task = await stage.running("sleep", "1000")
        await stage.exec(task, "e", "sleep", "1000")
        await task.start("e")
        await task.kill(9)
        assert (await wait(task)).status == 137
        assert (await wait(task, "e")).status == 137

    @needs("host-pids")
    async def test_pids_are_the_hosts(self, stage: Stage) -> None:
        task = await stage.running("sleep", "1000")
        await stage.exec(task, "e", "sleep", "1000")
        pid = await task.start("e")
        assert sorted(await task.pids()) == sorted([task.pid, pid])
        await eventually(lambda: Path(f"/proc/{pid}/comm").read_text() == "sleep\n")

    async def test_pids_count_every_process(self, stage: Stage) -> None:
        task = await stage.running("sleep", "1000")
        assert len(await task.pids()) == 1
        await stage.exec(task, "e", "sleep", "1000")
        await task.start("e")
        assert len(await task.pids()) == 2
