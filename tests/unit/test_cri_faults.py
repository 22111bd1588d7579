"""The CRI when its clients are cut off, and what it leaves for others to see."""

from __future__ import annotations

import asyncio
import stat
from pathlib import Path
from typing import Any

import pytest
from cored_service_cri.checkpoint import archive
from cored_service_cri.values import Container, Pod

from cored._pb.cri.v1 import api_pb2 as pb


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
