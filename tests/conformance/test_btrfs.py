"""The snapshotter ``btrfs`` on a filesystem in a file: the contract, and what is its own."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from cored_snapshotter_btrfs import SubvolumeDriver, cored_snapshotter, probe, subvolumes

from cored import linux
from cored.abc.snapshots import Snapshotter
from cored.abc.values import Mount
from cored.errors import Unimplemented
from cored.hookspecs import PluginKind
from cored.layered import LayeredSnapshotter
from cored.testing.snapshots import SnapshotterContract, committed
from tests.filesystems import btrfs

pytestmark = pytest.mark.root


@dataclass(frozen=True, slots=True)
class Context:
    """What a plugin gets of the daemon, as far as a snapshotter looks at it."""

    root: Path
    id: str = "btrfs"
    kind: PluginKind = PluginKind.SNAPSHOTTER
    settings: dict[str, Any] = field(default_factory=dict)


@pytest.fixture(scope="module")
def filesystem(tmp_path_factory: pytest.TempPathFactory, private_mounts: None) -> Iterator[Path]:
    with btrfs(tmp_path_factory.mktemp("btrfs")) as top:
        yield top


@pytest.fixture
def root(filesystem: Path) -> Path:
    place = filesystem / str(len(list(filesystem.iterdir())))
    place.mkdir()
    return place


@pytest.fixture
async def snapshotter(root: Path) -> AsyncIterator[Snapshotter]:
    async with cored_snapshotter().open(Context(root)) as opened:  # type: ignore[arg-type]
        yield opened


class TestBtrfs(SnapshotterContract):
    pass


async def test_mounts_are_binds_of_subvolumes(snapshotter: Snapshotter, root: Path) -> None:
    at = root / "snapshots"
    assert await snapshotter.prepare("k") == [Mount("bind", f"{at}/1/fs", options=("rw", "rbind"))]
    await snapshotter.commit("base", "k")
    assert await snapshotter.view("v", "base") == [
        Mount("bind", f"{at}/1/fs", options=("ro", "rbind"))
    ]
    assert await snapshotter.prepare("k", "base") == [
        Mount("bind", f"{at}/3/fs", options=("rw", "rbind"))
    ]
    assert subvolumes.is_subvolume(at / "3/fs")


async def test_a_committed_layer_is_read_only_for_everybody(
    snapshotter: Snapshotter, root: Path
) -> None:
    await committed(snapshotter, "base", "", {"file": "1"})
    with pytest.raises(OSError, match="Read-only"):
        (root / "snapshots/1/fs/file").write_text("2")


async def test_a_commit_that_was_cut_short_leaves_a_layer_to_write_to(
    snapshotter: Snapshotter, root: Path
) -> None:
    await snapshotter.prepare("k")
    subvolumes.set_read_only(root / "snapshots/1/fs", True)
    with linux.mounted(await snapshotter.mounts("k")) as place:
        (place / "file").write_text("1")


async def test_usage_is_what_a_layer_adds_to_its_parent(snapshotter: Snapshotter) -> None:
    with linux.mounted(await snapshotter.prepare("k")) as place:
        (place / "big").write_bytes(os.urandom(4 << 20))
        for number in range(100):
            (place / f"small-{number}").write_text("text")
    await snapshotter.commit("base", "k")
    with linux.mounted(await snapshotter.prepare("k", "base")) as place:
        assert (await snapshotter.usage("k")).size == 0
        (place / "new").write_bytes(os.urandom(1 << 20))
        with (place / "big").open("r+b") as file:
            file.write(os.urandom(64 << 10))
        (place / "small-1").unlink()
    used = await snapshotter.usage("k")
    assert used.size == (1 << 20) + (64 << 10)
    assert used.inodes == 3  # new, big, and the directory
    await snapshotter.commit("top", "k")
    base = await snapshotter.usage("base")
    assert (4 << 20) + 100 * 4 <= base.size < (4 << 20) + 100 * 4096
    assert base.inodes == 102
    # a child takes nothing away from what a layer has
    await snapshotter.prepare("child", "top")
    assert await snapshotter.usage("top") == used


async def test_nested_subvolumes_go_with_the_layer(snapshotter: Snapshotter, root: Path) -> None:
    (mount,) = await snapshotter.prepare("k")
    tree = Path(mount.source)
    for path in ("one", "one/two", "one/two/three", "four"):
        subvolumes.create(tree / path)
        (tree / path / "file").write_text("x")
    subvolumes.set_read_only(tree / "four", True)
    await snapshotter.remove("k")
    await snapshotter.cleanup()
    assert list((root / "snapshots").iterdir()) == []


async def test_what_a_crash_left_is_removed_at_the_next_start(root: Path) -> None:
    async with LayeredSnapshotter.opened(SubvolumeDriver(), root) as snapshotter:
        await committed(snapshotter, "base", "", {"file": "1"})
    half, whole = root / "snapshots/7", root / "snapshots/8"
    half.mkdir()  # before its subvolume
    whole.mkdir()  # before its row
    subvolumes.snapshot(root / "snapshots/1/fs", whole / "fs")
    subvolumes.set_read_only(whole / "fs", True)
    async with LayeredSnapshotter.opened(SubvolumeDriver(), root) as snapshotter:
        await snapshotter.cleanup()
        assert [path.name for path in (root / "snapshots").iterdir()] == ["1"]
        with linux.mounted(await snapshotter.view("v", "base")) as place:
            assert (place / "file").read_text() == "1"


def test_another_filesystem_is_refused_with_the_reason(tmp_path: Path) -> None:
    linux.mount("tmpfs", tmp_path, "tmpfs")
    try:
        with pytest.raises(Unimplemented, match=f"{tmp_path} is not on btrfs"):
            probe(tmp_path)
        assert list(tmp_path.iterdir()) == []
    finally:
        linux.unmount(tmp_path)


def test_the_plugin_is_called_btrfs_and_cannot_rebase() -> None:
    provider = cored_snapshotter()
    assert (provider.id, tuple(provider.capabilities)) == ("btrfs", ())
