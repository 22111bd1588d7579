"""The CRI when its clients are cut off, and what it leaves for others to see."""

from __future__ import annotations

import asyncio
import stat
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import pytest
from cored_service_cri import lives
from cored_service_cri.cgroups import Cgroups
from cored_service_cri.checkpoint import archive
from cored_service_cri.lives import Lives
from cored_service_cri.values import NAMESPACE, Container, Pod, State

from cored._pb.cri.v1 import api_pb2 as pb
from cored.abc.runtime import Exit, Status
from cored.errors import CoredError, Internal, Unavailable


class Tasks:
    """A container that is being checkpointed until a test lets it."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.begun, self.go_on = asyncio.Event(), asyncio.Event()

    async def pause(self, id: str) -> None:
        self.done.append("pause")

    async def resume(self, id: str) -> None:
        self.done.append("resume")

    async def checkpoint(self, id: str, place: str, options: None) -> None:
        self.begun.set()
        await self.go_on.wait()
        (Path(place) / "pages").write_bytes(b"a password")


async def test_a_container_goes_on_though_nobody_waits_for_its_checkpoint(tmp_path: Path) -> None:
    tasks: Any = Tasks()
    one = Container("c", pb.ContainerConfig(), Pod("p", pb.PodSandboxConfig()))
    making = asyncio.create_task(archive(tasks, one, tmp_path / "made"))
    await tasks.begun.wait()
    making.cancel()
    with pytest.raises(asyncio.CancelledError):
        await making
    tasks.go_on.set()
    async with asyncio.timeout(60):
        while "resume" not in tasks.done:
            await asyncio.sleep(0.01)
    assert [path.name for path in tmp_path.iterdir()] == ["made"]


async def test_only_root_reads_a_checkpoint(tmp_path: Path) -> None:
    tasks: Any = Tasks()
    tasks.go_on.set()
    one = Container("c", pb.ContainerConfig(), Pod("p", pb.PodSandboxConfig()))
    await archive(tasks, one, tmp_path / "made")
    assert stat.S_IMODE((tmp_path / "made").stat().st_mode) == 0o600


class Node:
    """One container that runs, and what is told of it; ``fails`` are what calls raise first."""

    def __init__(self, place: Path, **fails: list[CoredError]) -> None:
        self.fails, self.cause = fails, dict[str, int]()
        pod = Pod("p", pb.PodSandboxConfig())
        one = Container("c", pb.ContainerConfig(), pod, State(started_at=1))
        self.containers = {"c": one}
        registry: Any = SimpleNamespace(containers=self.containers, change=self.change)
        output: Any = MagicMock(recover=self.nothing)
        cgroups, nothing, events = Cgroups(place), MagicMock(), MagicMock()
        self.lives = Lives(registry, self, nothing, output, cgroups, events)  # type: ignore[arg-type]

    async def nothing(self, *_: object) -> None:
        return

    async def change(self, one: Container) -> Container:
        self.containers[one.id] = one
        return one

    def known(self) -> dict[tuple[str, str], Any]:
        return {(NAMESPACE, "c"): SimpleNamespace(causes=lambda: self.cause)}

    def _fail(self, call: str) -> None:
        if self.fails.get(call):
            raise self.fails[call].pop()

    async def state(self, id: str) -> Any:
        self._fail("state")
        return SimpleNamespace(status=Status.RUNNING, pid=0)

    async def wait(self, id: str) -> Exit:
        self._fail("wait")
        return Exit(7, 137, 99)

    async def delete(self, id: str) -> None:
        self._fail("delete")

    async def ended(self) -> State:
        await self.lives.recover()
        async with asyncio.timeout(60):
            await asyncio.gather(*self.lives._watchers.values())
        return self.containers["c"].state


@pytest.mark.parametrize("call", ["state", "wait", "delete"])
async def test_the_end_of_a_container_is_known_whatever_fails(
    call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lives, "_PAUSE", 0)
    error = Internal("no") if call == "delete" else Unavailable("the shim does not answer")
    state = await Node(tmp_path, **{call: [error]}).ended()
    assert (state.exit_code, state.finished_at, state.reason) == (137, 99, "Error")


async def test_who_ran_out_of_memory_is_known_when_the_cgroup_has_gone(tmp_path: Path) -> None:
    node = Node(tmp_path)
    node.cause = {"oom_kills": 1}
    assert (await node.ended()).reason == "OOMKilled"


def test_nothing_is_kept_of_the_usage_of_pods_that_have_gone(tmp_path: Path) -> None:
    group = tmp_path / "sys/fs/cgroup/pod/c"
    group.mkdir(parents=True)
    (tmp_path / "sys/fs/cgroup/cgroup.controllers").touch()
    (group.parent / "memory.current").write_text("5")
    (tmp_path / "proc/7").mkdir(parents=True)
    (tmp_path / "proc/7/cgroup").write_text("0::/pod/c\n")
    cgroups = Cgroups(tmp_path)
    cgroups.learn("p", 7)
    usage = cgroups.usage("p", above=True)
    assert usage is not None and usage.memory == 5
    cgroups.nano_cores("pod p", replace(usage, cpu=1))
    cgroups.forget("p")
    assert not cgroups._places and not cgroups._rates
