"""Layers through a real worker: what is in them lands where it should, and nowhere else."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import stat
import subprocess
import tarfile
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path

import pytest

from cored.archive.jobs import LayerJob, LayerResult, Limits, Source
from cored.archive.pool import WorkerPool
from cored.errors import CoredError, InvalidArgument

pytestmark = pytest.mark.root
GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"
PLAIN = "application/vnd.oci.image.layer.v1.tar"
ZSTD = "application/vnd.oci.image.layer.v1.tar+zstd"


@pytest.fixture
async def pool() -> AsyncIterator[WorkerPool]:
    async with WorkerPool.opened(1) as opened:
        yield opened


def entry(name: str, data: bytes = b"", **fields: object) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    info.mode = 0o644
    for field, value in fields.items():
        setattr(info, field, value)
    return info, data


def archive(*entries: tuple[tarfile.TarInfo, bytes], form: int = tarfile.PAX_FORMAT) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as tar:
        for info, data in entries:
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def directory(name: str, mode: int = 0o755) -> tuple[tarfile.TarInfo, bytes]:
    return entry(name, type=tarfile.DIRTYPE, mode=mode)


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> tuple[tarfile.TarInfo, bytes]:
    return entry(name, type=kind, linkname=target)


class Place:
    """Two directories beside each other: one to extract to, and one that must stay untouched."""

    def __init__(self, root: Path, pool: WorkerPool) -> None:
        self.root = root / "root"
        self.outside = root / "outside"
        self.blob = root / "blob"
        for path in (self.root, self.outside):
            path.mkdir()
        (self.outside / "precious").write_text("untouched")
        self._pool = pool

    async def extract(self, data: bytes, kind: str = PLAIN, **more: object) -> LayerResult:
        self.blob.write_bytes(data)
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        job = {"digest": digest, "size": len(data), "target": str(self.root), **more}
        return await self._pool.run(LayerJob(Source(str(self.blob)), kind, **job))  # type: ignore[arg-type]

    def untouched(self) -> bool:
        return [p.name for p in self.outside.iterdir()] == ["precious"] and (
            self.outside / "precious"
        ).read_text() == "untouched"


@pytest.fixture
def place(tmp_path: Path, pool: WorkerPool) -> Place:
    return Place(tmp_path, pool)


async def test_owners_and_modes_are_the_archives_whatever_the_directory_hands_on(
    place: Place,
) -> None:
    group = entry("g", type=tarfile.DIRTYPE, mode=0o2775, gid=1001)
    modes = (0o644, 0o666, 0o777, 0o000, 0o4755, 0o2755, 0o1644)
    data = archive(
        group,
        *(entry(f"{where}{mode:o}", b"x", mode=mode) for where in ("g/", "") for mode in modes),
    )
    await place.extract(data, overlay=True)
    for where in ("g/", ""):
        for mode in modes:
            found = (place.root / f"{where}{mode:o}").stat()
            assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (0, 0, mode)


async def test_everything_that_a_layer_can_hold(place: Place) -> None:
    name = "ungültig-".encode() + b"\xff\xfe"
    odd = os.fsdecode(name)
    data = archive(
        directory("d", 0o2775),
        entry("d/file", b"text", uid=1000, gid=1001, mode=0o4755, mtime=1234567890),
        link("d/soft", "/absolute/target"),
        link("d/hard", "d/file", tarfile.LNKTYPE),
        entry("d/fifo", type=tarfile.FIFOTYPE),
        entry("d/null", type=tarfile.CHRTYPE, devmajor=1, devminor=3),
        entry("x" * 90 + "/" + "y" * 200, b"long"),
        entry(odd, b"odd"),
        entry("twice", b"first"),
        entry("twice", b"second"),
        entry("/absolute", b"inside"),
        entry("attr", b"", pax_headers={"SCHILY.xattr.user.colour": "blue"}),
    )
    result = await place.extract(data)
    root = place.root
    status = (root / "d/file").stat()
    assert (status.st_uid, status.st_gid, status.st_mtime) == (1000, 1001, 1234567890)
    assert stat.S_IMODE(status.st_mode) == 0o4755
    assert (root / "d/hard").stat().st_ino == status.st_ino
    assert stat.S_IMODE((root / "d").stat().st_mode) == 0o2775
    assert os.readlink(root / "d/soft") == "/absolute/target"
    assert stat.S_ISFIFO((root / "d/fifo").stat().st_mode)
    assert (root / "d/null").stat().st_rdev == os.makedev(1, 3)
    assert (root / ("x" * 90) / ("y" * 200)).read_text() == "long"
    assert (root / odd).read_text() == "odd"
    assert (root / "twice").read_text() == "second"
    assert (root / "absolute").read_text() == "inside"
    assert os.getxattr(root / "attr", "user.colour") == b"blue"
    assert result.diff_id == f"sha256:{hashlib.sha256(data).hexdigest()}"
    assert result.uncompressed_size == len(data)


@pytest.mark.parametrize(
    "entries",
    [
        [entry("../outside/evil", b"x")],
        [entry("a/../../outside/evil", b"x")],
        [link("out", "../outside"), entry("out/evil", b"x")],
        [link("out", "/"), link("out2", "out/../outside"), entry("out2/evil", b"x")],
        [directory("a"), link("a/b", "../.."), entry("a/b/outside/evil", b"x")],
        [link("stolen", "../outside/precious", tarfile.LNKTYPE), entry("stolen", b"changed")],
        [link("s", "../outside/precious"), entry("s", b"changed")],
        [link("s", "../outside/precious"), link("h", "s", tarfile.LNKTYPE), entry("h", b"changed")],
        [link("out", "../outside"), entry("out/.wh.precious", b"")],
        [link("out", "../outside"), entry("out/.wh..wh..opq", b"")],
        [entry(".wh...", b""), entry(".wh..", b"")],
    ],
    ids=lambda entries: " ".join(info.name for info, _ in entries),
)
@pytest.mark.parametrize("overlay", [False, True])
async def test_nothing_leaves_the_root(
    place: Place, entries: list[tuple[tarfile.TarInfo, bytes]], overlay: bool
) -> None:
    with suppress(InvalidArgument):  # refused, or done within the root: either is safe
        await place.extract(archive(*entries), overlay=overlay)
    assert place.untouched()


async def test_whiteouts_remove_or_become_devices(place: Place) -> None:
    layer = archive(directory("d"), entry("d/.wh.gone"), entry("d/.wh..wh..opq"), entry("d/new"))
    (place.root / "d").mkdir()
    (place.root / "d/gone").touch()
    (place.root / "d/old").touch()
    await place.extract(layer)
    assert [p.name for p in (place.root / "d").iterdir()] == ["new"]


async def test_an_overlays_marks(place: Place) -> None:
    layer = archive(directory("d"), entry("d/.wh.gone"), directory("o"), entry("o/.wh..wh..opq"))
    await place.extract(layer, overlay=True)
    gone = (place.root / "d/gone").lstat()
    assert stat.S_ISCHR(gone.st_mode)
    assert gone.st_rdev == 0
    assert os.getxattr(place.root / "o", "trusted.overlay.opaque") == b"y"


def broken(change: Callable[[bytes], bytes]) -> bytes:
    return change(gzip.compress(archive(entry("file", os.urandom(100_000))), mtime=0))


@pytest.mark.parametrize(
    "data",
    [
        broken(lambda data: data[: len(data) // 2]),
        broken(lambda data: data[:5000] + b"\0" * 100 + data[5100:]),
        broken(lambda data: data[:-8] + b"\0" * 8),
        gzip.compress(archive(entry("file", b"x" * 2000))[:1500]),
        gzip.compress(b"this is no tar archive" * 100),
        b"neither gzip nor tar" * 100,
    ],
    ids=["cut short", "changed", "wrong checksum", "tar cut short", "no tar", "nonsense"],
)
async def test_a_broken_archive_is_refused(place: Place, data: bytes) -> None:
    with pytest.raises(InvalidArgument):
        await place.extract(data, GZIP)


async def test_an_archive_may_end_right_behind_its_last_body(place: Place) -> None:
    """umoci's layers do: no padding, no end marker."""
    data = archive(entry("first", b"1" * 600), entry("last", b"2" * 700))
    end = 512 + 1024 + 512 + 700
    await place.extract(data[:end])
    assert (place.root / "last").read_bytes() == b"2" * 700
    with pytest.raises(InvalidArgument, match="truncated"):
        await place.extract(data[: end - 1])


async def test_a_wrong_digest_or_diff_id_is_refused(place: Place) -> None:
    data = gzip.compress(archive(entry("file", b"x")))
    with pytest.raises(CoredError, match="digest"):
        await place.extract(data, GZIP, digest=f"sha256:{'0' * 64}")
    with pytest.raises(CoredError, match="diff"):
        await place.extract(data, GZIP, diff_id=f"sha256:{'0' * 64}")


async def test_a_bomb_is_defused(place: Place) -> None:
    data = gzip.compress(archive(entry("zeros", bytes(64 << 20))))
    with pytest.raises(InvalidArgument):
        await place.extract(data, GZIP, limits=Limits(ratio=100, grace=1 << 20))


async def test_zstd_and_several_gzip_members(place: Place) -> None:
    from backports import zstd

    await place.extract(zstd.compress(archive(entry("z", b"zstd"))), ZSTD)
    data = archive(entry("g", b"gzip"))
    await place.extract(gzip.compress(data[:700]) + gzip.compress(data[700:]), GZIP)
    assert ((place.root / "z").read_text(), (place.root / "g").read_text()) == ("zstd", "gzip")


async def test_a_sparse_file_stays_sparse(place: Place, tmp_path: Path) -> None:
    source = tmp_path / "sparse"
    with source.open("wb") as file:
        file.seek(50 << 20)
        file.write(b"end")
    made = tmp_path / "sparse.tar"
    for form in ("gnu", "pax"):
        command = ["tar", "-C", str(tmp_path), f"--format={form}", "--sparse", "-cf", str(made)]
        subprocess.run([*command, "sparse"], check=True)
        await place.extract(made.read_bytes())
        there = place.root / "sparse"
        assert there.stat().st_size == (50 << 20) + 3
        assert there.stat().st_blocks * 512 < 1 << 20
        assert there.read_bytes()[-3:] == b"end"


async def test_a_tree_is_what_gnu_tar_makes_of_it(place: Place, tmp_path: Path) -> None:
    made, other = tmp_path / "etc.tar", tmp_path / "other"
    other.mkdir()
    subprocess.run(["tar", "-C", "/", "-cf", str(made), "etc", "usr/share/doc/bash"], check=True)
    await place.extract(made.read_bytes())
    subprocess.run(["tar", "-C", str(other), "--numeric-owner", "-xpf", str(made)], check=True)
    differing = subprocess.run(
        ["diff", "-r", "--no-dereference", str(place.root), str(other)],
        capture_output=True,
        check=False,
    )
    assert differing.returncode == 0, differing.stdout[:500]
    for path in other.rglob("*"):
        ours, theirs = (place.root / path.relative_to(other)).lstat(), path.lstat()
        assert (ours.st_mode, ours.st_uid, ours.st_gid) == (
            theirs.st_mode,
            theirs.st_uid,
            theirs.st_gid,
        )
        if not stat.S_ISDIR(ours.st_mode):
            assert ours.st_mtime_ns // 10**9 == theirs.st_mtime_ns // 10**9


async def test_a_worker_that_dies_is_said_and_replaced(place: Place, pool: WorkerPool) -> None:
    data = archive(entry("file", b"x"))
    await place.extract(data)
    (worker,) = pool._all
    worker.process.kill()
    await worker.process.wait()
    await place.extract(archive(entry("again", b"y")))
    assert (place.root / "again").read_text() == "y"
