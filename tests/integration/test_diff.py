"""A layer that is made from two trees and applied again gives the same tree: random changes over
random trees, through both snapshotters, in every compression."""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import shutil
import stat
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from cored_content_local import LocalContentStore
from cored_differ_walking.differ import WalkingDiffer
from cored_snapshotter_native import CopyDriver
from cored_snapshotter_overlay import OverlayDriver
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cored import linux
from cored.abc.snapshots import Snapshotter
from cored.archive.pool import WorkerPool
from cored.layered import LayeredSnapshotter

pytestmark = pytest.mark.root
OCI = "application/vnd.oci.image.layer.v1.tar"
MEDIA_TYPES = [
    OCI,
    f"{OCI}+gzip",
    f"{OCI}+zstd",
    "application/vnd.docker.image.rootfs.diff.tar.gzip",
]
_NUMBERS = itertools.count(1)
MOMENT = 1_600_000_000


@dataclass
class Place:
    """A differ over a content store, and both snapshotters."""

    differ: WalkingDiffer
    snapshotters: dict[str, Snapshotter]


@pytest.fixture
async def place(short_tmp: Path) -> AsyncIterator[Place]:
    async with AsyncExitStack() as stack:
        pool = await stack.enter_async_context(WorkerPool.opened(1))
        snapshotters: dict[str, Snapshotter] = {}
        for name, driver in (("overlay", OverlayDriver()), ("native", CopyDriver())):
            root = short_tmp / name
            root.mkdir()
            snapshotters[name] = await stack.enter_async_context(
                LayeredSnapshotter.opened(driver, root)  # type: ignore[arg-type]
            )
        (short_tmp / "state").mkdir()
        content = LocalContentStore(short_tmp / "content")
        yield Place(WalkingDiffer(content, pool, short_tmp / "state"), snapshotters)


def described(root: Path) -> dict[str, tuple[object, ...]]:
    """Everything about a tree that a layer has to keep."""
    found: dict[str, tuple[object, ...]] = {}
    inodes: dict[int, str] = {}
    for directory, directories, files in os.walk(root):
        directories.sort()
        links = [name for name in directories if Path(directory, name).is_symlink()]
        for name in ("", *sorted((*files, *links))):
            path = os.path.join(directory, name) if name else directory
            status = os.lstat(path)
            relative = os.path.relpath(path, root)
            xattrs = {
                key: os.getxattr(path, key, follow_symlinks=False)
                for key in os.listxattr(path, follow_symlinks=False)
                if not key.startswith("trusted.overlay.")
            }
            kind = stat.S_IFMT(status.st_mode)
            data: object = None
            if kind == stat.S_IFREG:
                data = Path(path).read_bytes()
            elif kind == stat.S_IFLNK:
                data = os.readlink(path)
            elif kind in (stat.S_IFCHR, stat.S_IFBLK):
                data = status.st_rdev
            # the first name of a file with several, by which the others are recognised
            first = inodes.setdefault(status.st_ino, relative) if kind != stat.S_IFDIR else relative
            found[relative] = (
                status.st_mode, status.st_uid, status.st_gid, int(status.st_mtime),
                data, tuple(sorted(xattrs.items())), first,
            )  # fmt: skip
    return found


def linked(facts: tuple[object, ...], root: Path) -> bool:
    """Whether what is described is a file with several names."""
    path = root / str(facts[-1])
    return not path.is_dir() and path.lstat().st_nlink > 1


NAMES = ["a", "b", "c", "d", "ü", "with space", "long" * 40]


def change(root: Path, seed: int, steps: int) -> None:
    """Do random things below ``root``; the same for the same seed and tree."""
    dice = random.Random(seed)

    def somewhere() -> Path:
        here = root
        while dice.random() < 0.6:
            inside = sorted(p for p in here.iterdir() if p.is_dir() and not p.is_symlink())
            if not inside:
                break
            here = dice.choice(inside)
        return here

    def existing() -> Path | None:
        found = sorted(somewhere().iterdir())
        return dice.choice(found) if found else None

    def cleared(path: Path) -> Path:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.is_symlink() or path.exists():
            path.unlink()
        return path

    def file() -> None:
        path = cleared(somewhere() / dice.choice(NAMES))
        path.write_bytes(dice.randbytes(dice.choice([0, 1, 511, 512, 513, 70_000])))
        path.chmod(dice.choice([0o644, 0o755, 0o600, 0o4755, 0o2711]))

    def directory() -> None:
        path = somewhere() / dice.choice(NAMES)
        if not path.is_dir() or path.is_symlink():
            cleared(path).mkdir()
        path.chmod(dice.choice([0o755, 0o700, 0o1777]))

    def again() -> None:
        """A directory that was there, made anew: opaque."""
        path = existing()
        if path is not None and path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
            path.mkdir()
            (path / "new").write_text("new")

    def removed() -> None:
        path = existing()
        if path is not None:
            cleared(path)

    def moved() -> None:
        path = existing()
        target = somewhere() / dice.choice(NAMES)
        if path is not None and path.is_file() and not path.is_symlink() and target != path:
            cleared(target)
            if path.exists():
                path.rename(target)

    def linked() -> None:
        path = existing()
        target = somewhere() / dice.choice(NAMES)
        if path is not None and path.is_file() and not path.is_symlink() and not target.exists():
            cleared(target).hardlink_to(path)

    def symlink() -> None:
        cleared(somewhere() / dice.choice(NAMES)).symlink_to(dice.choice(["a", "../b", "/none"]))

    def special() -> None:
        path = cleared(somewhere() / dice.choice(NAMES))
        kind = dice.choice([stat.S_IFIFO, stat.S_IFCHR, stat.S_IFBLK])
        os.mknod(path, kind | 0o640, os.makedev(dice.choice([1, 300]), 7))

    def owned() -> None:
        path = existing()
        if path is not None:
            os.chown(path, dice.choice([0, 1000, 70_000]), 5, follow_symlinks=False)

    def extended() -> None:
        path = existing()
        if path is not None and path.is_file() and not path.is_symlink():
            os.setxattr(path, "user.note", dice.randbytes(9))
            os.setxattr(path, "security.capability", bytes.fromhex("0100000200200000" + "0" * 24))

    def sparse() -> None:
        with cleared(somewhere() / dice.choice(NAMES)).open("wb") as out:
            for offset in (0, 1 << 20, 3 << 20):
                out.seek(offset)
                out.write(b"data")
            out.truncate(5 << 20)

    acts: list[Callable[[], None]] = [
        file, file, file, directory, directory, again, removed, removed, moved, linked, linked,
        symlink, special, owned, extended, sparse,
    ]  # fmt: skip
    for number in range(steps):
        dice.choice(acts)()
        touched = existing()
        if touched is not None:
            moment = (MOMENT + number) * 10**9
            os.utime(touched, ns=(moment, moment), follow_symlinks=False)
    for directory_, _, files in os.walk(root, topdown=False):
        for name in (*files, ""):
            os.utime(f"{directory_}/{name}", (MOMENT, MOMENT), follow_symlinks=False)


async def grown(snapshotter: Snapshotter, name: str, parent: str, seed: int, steps: int) -> None:
    key = f"make-{name}"
    with linux.mounted(await snapshotter.prepare(key, parent)) as root:
        await asyncio.to_thread(change, root, seed, steps)
    await snapshotter.commit(name, key)


@settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    seed=st.integers(0, 2**32),
    steps=st.tuples(st.integers(0, 25), st.integers(1, 25)),
    kind=st.sampled_from(["overlay", "native"]),
    media_type=st.sampled_from(MEDIA_TYPES),
)
async def test_a_layer_made_and_applied_is_the_same_tree(
    place: Place, seed: int, steps: tuple[int, int], kind: str, media_type: str
) -> None:
    snapshotter = place.snapshotters[kind]
    run = next(_NUMBERS)
    base, top, again = f"base-{run}", f"top-{run}", f"again-{run}"
    await grown(snapshotter, base, "", seed, steps[0])
    await grown(snapshotter, top, base, seed + 1, steps[1])
    lower = await snapshotter.view(f"lower-{run}", base)
    upper = await snapshotter.view(f"upper-{run}", top)
    layer = await place.differ.compare(lower, upper, media_type=media_type)
    assert layer.media_type == media_type

    applied = await place.differ.apply(layer, await snapshotter.prepare(again, base))
    info = await place.differ._content.info(layer.digest)
    assert info.labels["containerd.io/uncompressed"] == applied.digest
    with linux.mounted(upper) as one, linux.mounted(await snapshotter.mounts(again)) as other:
        wanted, found = described(one), described(other)
        with linux.mounted(lower) as below:
            # an overlay parts names of one file when either changes: no layer says whether it has
            parted = {name for name, facts in described(below).items() if linked(facts, below)}
    for tree in (wanted, found):
        for name in parted & tree.keys():
            tree[name] = tree[name][:-1]
    assert found == wanted

    # and nothing where there is no difference
    same = await place.differ.compare(upper, upper, media_type=OCI)
    assert same.size == 1024
    for key in (f"lower-{run}", f"upper-{run}", again, top, base):
        await snapshotter.remove(key)


async def test_a_large_file_is_kept_whole(place: Place) -> None:
    snapshotter = place.snapshotters["overlay"]
    with linux.mounted(await snapshotter.prepare("k")) as root:
        with (root / "large").open("wb") as file:
            for number in range(64):
                file.write(bytes([number]) * (1 << 20))
    await snapshotter.commit("large", "k")
    upper = await snapshotter.view("v", "large")
    layer = await place.differ.compare([], upper, media_type=f"{OCI}+zstd")
    applied = await snapshotter.prepare("again")
    await place.differ.apply(layer, applied)
    with linux.mounted(applied) as root:
        assert (root / "large").stat().st_size == 64 << 20
        with (root / "large").open("rb") as file:
            for number in range(64):
                assert file.read(1 << 20) == bytes([number]) * (1 << 20)


async def test_times_can_be_bounded_for_the_same_bytes_every_time(place: Place) -> None:
    snapshotter = place.snapshotters["overlay"]
    digests = set()
    for number in range(2):
        with linux.mounted(await snapshotter.prepare(f"k{number}")) as root:
            (root / "file").write_text("same")
        mounts = await snapshotter.mounts(f"k{number}")
        layer = await place.differ.compare([], mounts, media_type=OCI, source_date_epoch=MOMENT)
        digests.add(layer.digest)
        await asyncio.sleep(0.01)
    assert len(digests) == 1
