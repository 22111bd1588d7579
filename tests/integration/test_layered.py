"""Snapshots on directories: over restarts, over a killed process, and with drivers that fail."""

from __future__ import annotations

import asyncio
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cored.abc.snapshots import Kind
from cored.abc.values import Mount
from cored.errors import Internal, NotFound, ResourceExhausted
from cored.layered import Layer, LayerDriver, LayeredSnapshotter


class PlainDriver(LayerDriver):
    """The least that a driver can be."""

    def prepare(self, layer: Layer) -> None:
        (layer.directory / "fs").mkdir()

    def mounts(self, layer: Layer) -> list[Mount]:
        return [Mount("bind", str(layer.directory / "fs"), options=("rbind",))]


def directories(root: Path) -> set[str]:
    return {path.name for path in (root / "snapshots").iterdir()}


async def test_snapshots_outlive_a_restart(tmp_path: Path) -> None:
    async with LayeredSnapshotter.opened(PlainDriver(), tmp_path) as snapshotter:
        await snapshotter.prepare("k")
        await snapshotter.commit("base", "k", {"a": "1"})
        mounts = await snapshotter.prepare("child", "base")
        before = [found async for found in snapshotter.walk()]
    async with LayeredSnapshotter.opened(PlainDriver(), tmp_path) as snapshotter:
        assert [found async for found in snapshotter.walk()] == before
        assert await snapshotter.mounts("child") == mounts
        assert directories(tmp_path) == {"1", "2"}


async def test_directories_are_never_used_twice(tmp_path: Path) -> None:
    for _ in range(3):
        async with LayeredSnapshotter.opened(PlainDriver(), tmp_path) as snapshotter:
            await snapshotter.prepare("k")
            await snapshotter.remove("k")
            await snapshotter.cleanup()
    async with LayeredSnapshotter.opened(PlainDriver(), tmp_path) as snapshotter:
        assert (await snapshotter.prepare("k"))[0].source.endswith("/4/fs")


async def test_what_is_missing_and_what_is_left_over_is_told(tmp_path: Path) -> None:
    async with LayeredSnapshotter.opened(PlainDriver(), tmp_path) as snapshotter:
        await snapshotter.prepare("whole")
        await snapshotter.prepare("gone")
        shutil.rmtree(tmp_path / "snapshots/2")
        (tmp_path / "snapshots/stray").mkdir()
        assert list(await snapshotter.check("whole")) == []
        assert list(await snapshotter.check("gone")) == [f"{tmp_path}/snapshots/2 is missing"]
        assert list(await snapshotter.leftovers()) == [f"{tmp_path}/snapshots/stray"]
        with pytest.raises(NotFound):
            await snapshotter.check("nobody")
        await snapshotter.cleanup()
        assert directories(tmp_path) == {"1"}


async def test_what_no_row_owns_is_removed_at_open(tmp_path: Path) -> None:
    async with LayeredSnapshotter.opened(PlainDriver(), tmp_path) as snapshotter:
        await snapshotter.prepare("k")
    for name in ("2", "77", "new-1", "-1", "01x"):
        (tmp_path / "snapshots" / name / "fs/deep").mkdir(parents=True)
    async with LayeredSnapshotter.opened(PlainDriver(), tmp_path) as snapshotter:
        await snapshotter.cleanup()
        assert directories(tmp_path) == {"1"}
        await snapshotter.prepare("k2")  # over the ids of the garbage
        assert directories(tmp_path) == {"1", "78"}


class FailingDriver(PlainDriver):
    """Fails as told, after half of its work."""

    def __init__(self) -> None:
        self.failure: Exception | None = None

    def prepare(self, layer: Layer) -> None:
        super().prepare(layer)
        if self.failure:
            raise self.failure

    def commit(self, layer: Layer) -> None:
        if self.failure:
            raise self.failure

    def remove(self, directory: Path) -> None:
        if self.failure:
            raise self.failure
        super().remove(directory)


@pytest.mark.parametrize(
    ("failure", "error"),
    [(OSError(28, "full"), ResourceExhausted), (OSError(5, "broken"), Internal)],
)
async def test_a_driver_that_fails_leaves_nothing(
    tmp_path: Path, failure: OSError, error: type[Exception]
) -> None:
    driver = FailingDriver()
    async with LayeredSnapshotter.opened(driver, tmp_path) as snapshotter:
        await snapshotter.prepare("whole")
        driver.failure = failure
        for call in (snapshotter.prepare("half"), snapshotter.view("half")):
            with pytest.raises(error, match="'half'"):
                await call
        with pytest.raises(error, match="'whole'"):
            await snapshotter.commit("name", "whole")
        assert (await snapshotter.stat("whole")).kind is Kind.ACTIVE
        driver.failure = None
        await snapshotter.cleanup()
        assert directories(tmp_path) == {"1"}
        with pytest.raises(NotFound):
            await snapshotter.stat("half")


async def test_a_removal_that_fails_is_tried_again(tmp_path: Path) -> None:
    driver = FailingDriver()
    async with LayeredSnapshotter.opened(driver, tmp_path) as snapshotter:
        await snapshotter.prepare("k")
        driver.failure = RuntimeError("a driver's mistake")
        await snapshotter.remove("k")
        await asyncio.wait_for(snapshotter.cleanup(), 10)
        assert directories(tmp_path) == {"1"}
        driver.failure = None
        await asyncio.wait_for(snapshotter.cleanup(), 10)
        assert directories(tmp_path) == set()


CHURN = """
import asyncio, itertools, sys
from pathlib import Path
from cored.abc.values import Mount
from cored.layered import LayerDriver, LayeredSnapshotter

class Driver(LayerDriver):
    def prepare(self, layer):
        (layer.directory / "fs").mkdir()
        for number in range(20):
            (layer.directory / "fs" / str(number)).write_text("x")
    def mounts(self, layer):
        return [Mount("bind", str(layer.directory / "fs"))]

async def churn(snapshotter, worker):
    for turn in itertools.count():
        key = f"{worker}-{turn}"
        await snapshotter.prepare(key)
        print(key, flush=True)
        if turn % 3 == 0:
            await snapshotter.commit("c" + key, key)
        elif turn % 3 == 1:
            await snapshotter.remove(key)

async def main():
    async with LayeredSnapshotter.opened(Driver(), Path(sys.argv[1])) as snapshotter:
        await asyncio.gather(*(churn(snapshotter, f"{sys.argv[2]}-{n}") for n in range(4)))

asyncio.run(main())
"""


async def test_a_killed_process_leaves_rows_and_directories_that_agree(tmp_path: Path) -> None:
    told: set[str] = set()
    for run in range(4):
        with subprocess.Popen(
            [sys.executable, "-c", CHURN, str(tmp_path), str(run)], stdout=subprocess.PIPE
        ) as process:
            assert process.stdout is not None
            for _ in range(random.randint(10, 60)):
                told.add(process.stdout.readline().decode().strip())
            process.send_signal(signal.SIGKILL)
            told |= {line.decode().strip() for line in process.stdout if line.endswith(b"\n")}
    async with LayeredSnapshotter.opened(PlainDriver(), tmp_path) as snapshotter:
        await snapshotter.cleanup()
        found = {snapshot.name async for snapshot in snapshotter.walk()}
        rows = snapshotter._tree.ids()
        assert directories(tmp_path) == {str(number) for number in rows}
        for number in rows:
            assert len(list((tmp_path / f"snapshots/{number}/fs").iterdir())) == 20
        # an answered prepare is durable; only every third key was ever removed
        lasting = {key for key in told if int(key.rsplit("-", 1)[1]) % 3 != 1}
        assert lasting
        assert lasting <= {name.removeprefix("c") for name in found}
