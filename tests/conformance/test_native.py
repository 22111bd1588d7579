"""What is the snapshotter ``native``'s own: copies that are the same in everything."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from cored_snapshotter_native import CopyDriver, cored_snapshotter

from cored import linux
from cored.abc.snapshots import Snapshotter
from cored.abc.values import Mount
from cored.copies import copy_tree
from cored.errors import ResourceExhausted
from cored.layered import LayeredSnapshotter
from cored.trees import disk_usage

pytestmark = pytest.mark.root


@pytest.fixture
async def snapshotter(tmp_path: Path) -> AsyncIterator[Snapshotter]:
    async with LayeredSnapshotter.opened(CopyDriver(), tmp_path) as opened:
        yield opened


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    path.mkdir()
    return path


def copied(source: Path) -> Path:
    target = source.with_name("target")
    target.mkdir()
    copy_tree(source, target)
    return target


def facts(top: Path) -> dict[str, tuple[object, ...]]:
    """All that a copy must keep, by path."""
    found: dict[str, tuple[object, ...]] = {}
    for path in [top, *top.rglob("*")]:
        status = path.lstat()
        extra: object = None
        if stat.S_ISREG(status.st_mode):
            extra = path.read_bytes()
        elif stat.S_ISLNK(status.st_mode):
            extra = os.readlink(path)
        elif stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode):
            extra = status.st_rdev
        found[str(path.relative_to(top))] = (
            status.st_mode,
            status.st_uid,
            status.st_gid,
            status.st_mtime_ns,
            1 if path.is_dir() else status.st_nlink,
            sorted(
                (name, os.getxattr(path, name, follow_symlinks=False))
                for name in os.listxattr(path, follow_symlinks=False)
            ),
            extra,
        )
    return found


def test_copies_keep_everything_about_every_kind_of_file(source: Path) -> None:
    (source / "d/e").mkdir(parents=True)
    (source / "d/e/file").write_bytes(os.urandom(100_000))
    (source / "empty").touch()
    (source / "setuid").write_text("x")
    (source / "link").symlink_to("d/e/nowhere")
    os.mkfifo(source / "fifo", 0o640)
    os.mknod(source / "char", 0o620 | stat.S_IFCHR, os.makedev(1, 3))
    os.mknod(source / "block", 0o660 | stat.S_IFBLK, os.makedev(7, 200))
    os.mknod(source / "whiteout", stat.S_IFCHR, 0)
    (source / "name with \N{SNOWMAN}\n").write_text("x")
    (source / os.fsdecode(b"not-utf8-\xff")).write_text("x")
    os.chown(source / "setuid", 12, 34)
    (source / "setuid").chmod(0o6711)
    os.lchown(source / "link", 56, 78)
    os.chown(source / "d", 1000, 1000)
    (source / "d").chmod(0o1777)
    (source / "d/e").chmod(0o000)
    os.setxattr(source / "empty", "user.note", b"\0binary\xff")
    os.setxattr(source / "d", "trusted.note", b"1")
    # cap_net_bind_service, as setcap(8) writes it
    os.setxattr(
        source / "setuid",
        "security.capability",
        bytes.fromhex("0100000200040000000000000000000000000000"),
    )
    for index, path in enumerate(sorted(source.rglob("*")), 1):
        os.utime(path, ns=(index, index * 1_000_000_007), follow_symlinks=False)
    source.chmod(0o750)
    os.utime(source, ns=(1, 1_234_567_890_123_456_789))
    before = facts(source)
    assert len(before) == 13
    assert facts(copied(source)) == before
    assert facts(source) == before


def test_hard_links_stay_one_file(source: Path) -> None:
    (source / "a/b").mkdir(parents=True)
    (source / "first").write_text("one")
    for name in ("second", "a/third", "a/b/fourth"):
        os.link(source / "first", source / name)
    (source / "symlink").symlink_to("first")
    os.link(source / "symlink", source / "a/symlink", follow_symlinks=False)
    target = copied(source)
    names = ("first", "second", "a/third", "a/b/fourth")
    assert len({(target / name).stat().st_ino for name in names}) == 1
    assert (target / "first").stat().st_nlink == 4
    assert (target / "first").stat().st_ino != (source / "first").stat().st_ino
    assert (target / "a/symlink").lstat().st_ino == (target / "symlink").lstat().st_ino


def test_holes_stay_holes(source: Path) -> None:
    with (source / "sparse").open("wb") as file:
        file.truncate(64 << 20)
        for at in (0, 20 << 20, (64 << 20) - 5):
            file.seek(at)
            file.write(b"data!")
    with (source / "hole").open("wb") as file:
        file.truncate(1 << 40)
    target = copied(source)
    assert (target / "hole").stat().st_size == 1 << 40
    assert disk_usage(target).size < 1 << 20
    assert (target / "sparse").read_bytes() == (source / "sparse").read_bytes()


def test_sockets_are_left_out(source: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(source / "socket"))
    (source / "file").touch()
    assert [path.name for path in copied(source).iterdir()] == ["file"]


async def test_a_disk_that_fills_up_leaves_nothing(tmp_path: Path) -> None:
    linux.mount("tmpfs", tmp_path, "tmpfs", 0, "size=3m")
    try:
        async with LayeredSnapshotter.opened(CopyDriver(), tmp_path / "root") as snapshotter:
            mounts = await snapshotter.prepare("k")
            Path(mounts[0].source, "file").write_bytes(bytes(2 << 20))
            await snapshotter.commit("base", "k")
            with pytest.raises(ResourceExhausted, match="space"):
                await snapshotter.prepare("child", "base")
            assert [found.name async for found in snapshotter.walk()] == ["base"]
            await snapshotter.cleanup()
            assert [path.name for path in (tmp_path / "root/snapshots").iterdir()] == ["1"]
    finally:
        linux.unmount(tmp_path, lazy=True)


async def test_mounts_are_binds_and_a_view_is_no_copy(
    snapshotter: Snapshotter, tmp_path: Path
) -> None:
    at = tmp_path / "snapshots"
    assert await snapshotter.prepare("k") == [Mount("bind", f"{at}/1/fs", options=("rw", "rbind"))]
    await snapshotter.commit("base", "k")
    assert await snapshotter.view("v", "base") == [
        Mount("bind", f"{at}/1/fs", options=("ro", "rbind"))
    ]
    assert await snapshotter.prepare("k", "base") == [
        Mount("bind", f"{at}/3/fs", options=("rw", "rbind"))
    ]


def test_the_plugin_is_called_native_and_cannot_rebase() -> None:
    provider = cored_snapshotter()
    assert (provider.id, tuple(provider.capabilities)) == ("native", ())
