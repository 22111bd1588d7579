"""Layers made to hurt: each is refused with what is wrong, or done without harm. Real workers."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import shutil
import stat
import struct
import tarfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cored.archive.jobs import Limits
from cored.archive.pool import WorkerPool
from cored.errors import CoredError, FailedPrecondition, InvalidArgument
from tests.integration.test_extraction import (
    GZIP,
    ZSTD,
    Place,
    archive,
    directory,
    entry,
    link,
)

pytestmark = pytest.mark.root
_END = bytes(1024)


@pytest.fixture
async def pool() -> AsyncIterator[WorkerPool]:
    async with WorkerPool.opened(1) as opened:
        yield opened


@pytest.fixture
def place(tmp_path: Path, pool: WorkerPool) -> Place:
    return Place(tmp_path, pool)


def header(name: str = "file", kind: bytes = b"0", form: int = tarfile.GNU_FORMAT,
           **fields: object) -> bytearray:  # fmt: skip
    """One raw header block, to be changed and then :func:`signed`."""
    info = tarfile.TarInfo(name)
    info.type = kind
    for field, value in fields.items():
        setattr(info, field, value)
    return bytearray(info.tobuf(form)[-512:])


def signed(block: bytearray) -> bytes:
    """The block with the checksum that its bytes have now."""
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 512)


def pax(records: bytes, kind: bytes = b"x") -> bytes:
    """An extended header that holds ``records`` as they are, and the file after it."""
    return (
        signed(header("PaxHeaders/file", kind, size=len(records))) + padded(records)
        + signed(header()) + _END
    )  # fmt: skip


def record(key: str, value: str) -> bytes:
    body = f" {key}={value}\n".encode()
    length = len(body) + 1
    while len(str(length)) + len(body) != length:
        length += 1
    return str(length).encode() + body


def with_size(field: bytes) -> bytes:
    """A file whose size field is ``field``, with ten bytes of data."""
    block = header()
    block[124:136] = field
    return signed(block) + padded(b"0123456789") + _END


@pytest.mark.parametrize(
    "data",
    [
        with_size(b"%011o\0" % (1 << 20)),
        with_size(b"77777777777\0"),
        with_size(b"\x80" + bytes(3) + struct.pack(">Q", 1 << 62)),
        with_size(b"\x80" + b"\x7f" * 11),
        with_size(b"\xff" * 12),
        with_size(b"12 and more\0"),
        pax(record("size", "99999999")),
        pax(record("size", "18446744073709551616")),
        pax(record("size", "-1")),
        pax(record("size", "1e3")),
    ],
    ids=[
        "beyond the end", "8 GiB", "4 EiB", "2^95", "negative", "no number", "PAX: beyond the end",
        "PAX: 2^64", "PAX: negative", "PAX: no number",
    ],
)  # fmt: skip
async def test_a_size_that_lies_is_refused(place: Place, data: bytes) -> None:
    with pytest.raises(InvalidArgument, match="archive: "):
        await place.extract(data)


@pytest.mark.parametrize(
    "records",
    [
        b"nonsense",
        b"99999 path=x\n",
        b"5 path=x\n",
        b"0 path=x\n",
        b"-10 path=x\n",
        b"99999999999999999999999 path=x\n",
        b"10 path+x\n",
        b"9 path=xx",
        b"9 =xxxxx\n",
        record("path", "a\0b"),
        record("mtime", "yesterday"),
        record("mtime", "nan"),
        record("uid", "4294967296"),
        record("uid", "root"),
        record("GNU.sparse.major", "1") + record("GNU.sparse.realsize", "many"),
        b"",
    ],
    ids=lambda records: records.decode()[:24].strip() or "none",
)
async def test_malformed_pax_records_are_refused(place: Place, records: bytes) -> None:
    if not records:  # an empty header is none, and says nothing
        await place.extract(pax(records))
        return
    with pytest.raises(InvalidArgument, match="archive: "):
        await place.extract(pax(records))
    assert list(place.root.iterdir()) == []


async def test_extended_headers_are_bounded(place: Place) -> None:
    for kind in (b"x", b"g", b"L", b"K"):
        block = signed(header("long", kind, size=64 << 20))
        with pytest.raises(InvalidArgument, match="extended header"):
            await place.extract(block + bytes(64 << 20))


async def test_an_extended_header_without_its_entry_is_refused(place: Place) -> None:
    whole = pax(record("path", "x"))
    with pytest.raises(InvalidArgument, match="without entry"):
        await place.extract(whole[:1024] + _END)
    with pytest.raises(InvalidArgument, match="truncated"):
        await place.extract(whole[:1024])


async def test_an_archive_cut_between_entries_is_refused(place: Place) -> None:
    """Such a tar is a tar (Go and GNU tar take it): who promised more is known by digests."""
    whole = archive(entry("one", b"1"), entry("two", b"2"))
    cut = whole[:1024]
    promised = f"sha256:{hashlib.sha256(whole).hexdigest()}"
    with pytest.raises(FailedPrecondition):  # as a blob
        await place.extract(cut, digest=promised, size=len(whole))
    with pytest.raises(CoredError, match="digest"):
        await place.extract(cut, digest=promised, size=0)
    with pytest.raises(CoredError, match="diff id"):  # inside a blob that is whole
        await place.extract(gzip.compress(cut), GZIP, diff_id=promised)


@pytest.mark.parametrize("at", [100, 512, 600, 1024 + 100, 1024 + 512 + 1])
async def test_an_archive_cut_within_an_entry_is_refused(place: Place, at: int) -> None:
    whole = archive(entry("one", b"1" * 500), entry("two", b"2" * 500))
    with pytest.raises(InvalidArgument):
        await place.extract(whole[:at])


async def test_gnu_and_pax_long_names_are_the_same(place: Place) -> None:
    name, goal = "d/" * 60 + "n" * 200, "../" * 50 + "t" * 200
    for form in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        await place.extract(archive(entry(name, b"long"), link("link", goal), form=form))
        assert (place.root / name).read_bytes() == b"long"
        assert os.readlink(place.root / "link") == goal


@pytest.mark.parametrize(
    "name",
    ["n" * 256, "d/" * 600 + "f", "a/" * 40_000 + "f", "x" * 70_000],
    ids=["a part", "depth", "parts", "all"],
)
async def test_names_that_no_filesystem_takes_are_refused(place: Place, name: str) -> None:
    with pytest.raises(InvalidArgument, match="archive: "):
        await place.extract(archive(entry(name, b"x")))


async def test_links_in_a_circle_are_refused(place: Place) -> None:
    for entries in (
        [link("a", "b"), link("b", "a"), entry("a/evil", b"x")],
        [link("a", "a/a"), entry("a/evil", b"x")],
        [*(link(f"l{n}", f"l{n + 1}/x") for n in range(100)), entry("l0/evil", b"x")],
    ):
        with pytest.raises(InvalidArgument, match="archive: "):
            await place.extract(archive(*entries))
    assert place.untouched()


async def test_a_hardlink_may_not_lead_out_or_to_a_directory(place: Place) -> None:
    for goal in ("../outside/precious", "/../outside/precious", "d", "", "nothing"):
        with pytest.raises(InvalidArgument, match="archive: "):
            await place.extract(archive(directory("d"), link("h", goal, tarfile.LNKTYPE)))
    assert place.untouched()
    # through a link that leads out: the root's own file of that name, or none
    with pytest.raises(InvalidArgument):
        await place.extract(
            archive(link("out", "../outside"), link("h", "out/precious", tarfile.LNKTYPE))
        )
    assert (place.outside / "precious").stat().st_nlink == 1


async def test_the_last_of_several_entries_counts_whatever_they_are(place: Place) -> None:
    kinds = [
        entry("x", b"file"),
        directory("x"),
        link("x", "../outside/precious"),
        entry("x", type=tarfile.FIFOTYPE),
        entry("x", type=tarfile.CHRTYPE, devmajor=1, devminor=3),
        link("x", "other", tarfile.LNKTYPE),
    ]
    checks = [stat.S_ISREG, stat.S_ISDIR, stat.S_ISLNK, stat.S_ISFIFO, stat.S_ISCHR, stat.S_ISREG]
    for first in kinds:
        for last, check in zip(kinds, checks, strict=True):
            await place.extract(archive(entry("other", b"o"), first, last))
            assert check((place.root / "x").lstat().st_mode), (first, last)
    # what was in a directory goes with it
    await place.extract(archive(directory("x"), entry("x/in", b"1"), entry("x", b"2")))
    assert (place.root / "x").read_bytes() == b"2"
    assert place.untouched()


async def test_setuid_survives_the_owner_and_is_nobodys_else(place: Place) -> None:
    await place.extract(
        archive(
            entry("suid", b"x", mode=0o6755, uid=1000, gid=1000),
            link("hard", "suid", tarfile.LNKTYPE),
            entry("suid", b"y", mode=0o755, uid=0),
        )
    )
    # the hardlink keeps the first file, the second one is a file of its own
    assert stat.S_IMODE((place.root / "hard").stat().st_mode) == 0o6755
    there = (place.root / "suid").stat()
    assert (stat.S_IMODE(there.st_mode), there.st_uid) == (0o755, 0)


async def test_device_numbers_are_checked(place: Place) -> None:
    block = header("odd", tarfile.CHRTYPE)
    block[329:337] = b"7777777\0"
    with pytest.raises(InvalidArgument, match="device"):
        await place.extract(signed(block) + _END)
    whiteout = entry("gone", type=tarfile.CHRTYPE, devmajor=0, devminor=0)
    with pytest.raises(InvalidArgument, match="whiteout"):  # overlay would hide a file
        await place.extract(archive(whiteout), overlay=True)
    block = header("odd", b"Z")
    with pytest.raises(InvalidArgument, match="unknown type"):
        await place.extract(signed(block) + _END)


async def test_xattrs_of_the_overlay_itself_are_not_a_layers_to_set(place: Place) -> None:
    evil = {
        "SCHILY.xattr.trusted.overlay.opaque": "y",
        "SCHILY.xattr.trusted.overlay.redirect": "/etc",
        "SCHILY.xattr.user.overlay.opaque": "y",
        "SCHILY.xattr.user.fine": "1",
        "SCHILY.xattr.nonsense": "1",
        "LIBARCHIVE.xattr.user.other": "Mg",
    }
    made = [directory("d"), entry("f", b"x")]
    for info, _ in made:
        info.pax_headers = evil
    await place.extract(archive(*made), overlay=True)
    for name in ("d", "f"):
        found = {n: os.getxattr(place.root / name, n) for n in os.listxattr(place.root / name)}
        assert found == {"user.fine": b"1", "user.other": b"2"}
    broken = entry("b", pax_headers={"LIBARCHIVE.xattr.user.x": "*"})
    with pytest.raises(InvalidArgument, match="xattr"):
        await place.extract(archive(broken))


def sparse(text: bytes, real: int, stored: bytes = b"") -> bytes:
    """A file in GNU's sparse format 1.0 with the map ``text``."""
    body = padded(text) + stored
    records = (
        record("GNU.sparse.major", "1") + record("GNU.sparse.minor", "0")
        + record("GNU.sparse.name", "s") + record("GNU.sparse.realsize", str(real))
    )  # fmt: skip
    return (
        signed(header("PaxHeaders/s", b"x", size=len(records))) + padded(records)
        + signed(header("s", size=len(body))) + padded(body) + _END
    )  # fmt: skip


@pytest.mark.parametrize(
    "data",
    [
        sparse(b"1\n0\n5\n", 3, b"12345"),
        sparse(b"2\n10\n2\n0\n2\n", 20, b"1234"),
        sparse(b"2\n0\n5\n3\n2\n", 20, b"1234567"),
        sparse(b"1\n0\n500\n", 500, b"12345"),
        sparse(b"1\n0\n2\n", 20, b"1234567"),
        sparse(b"99999999\n0\n", 20),
        sparse(b"1\n-5\n5\n", 20, b"12345"),
        sparse(b"", 20),
    ],
    ids=["larger than the file", "out of order", "overlapping", "more than there is",
         "less than there is", "endless", "negative", "no map"],
)  # fmt: skip
async def test_a_sparse_map_that_lies_is_refused(place: Place, data: bytes) -> None:
    with pytest.raises(InvalidArgument, match="archive: "):
        await place.extract(data)


async def test_a_sparse_file_may_be_large_and_takes_what_it_holds(place: Place) -> None:
    await place.extract(sparse(b"1\n1099511627776\n5\n", (1 << 40) + 5, b"12345"))
    there = (place.root / "s").stat()
    assert there.st_size == (1 << 40) + 5
    assert there.st_blocks * 512 < 1 << 20


async def test_bombs_are_defused_in_every_wrapping(place: Place) -> None:
    from backports import zstd

    tight = Limits(ratio=100, grace=1 << 20)
    zeros = archive(entry("zeros", bytes(64 << 20)))
    for data, kind in (
        (zstd.compress(zeros), ZSTD),
        (gzip.compress(zeros[: 32 << 20]) + gzip.compress(zeros[32 << 20 :]), GZIP),
        # after the end of the archive, where nobody looks
        (gzip.compress(archive(entry("f", b"x")) + bytes(64 << 20)), GZIP),
    ):
        with pytest.raises(InvalidArgument, match="bomb"):
            await place.extract(data, kind, limits=tight)
    with pytest.raises(InvalidArgument, match="more than 10 entries"):
        many = archive(*(entry(f"f{n}", b"") for n in range(11)))
        await place.extract(many, limits=Limits(entries=10))
    with pytest.raises(InvalidArgument, match="more than 1000 bytes"):
        await place.extract(archive(entry("f", bytes(2000))), limits=Limits(size=1000))


async def test_whiteouts_hide_only_what_lies_below(place: Place) -> None:
    data = archive(
        directory("d"),
        entry("d/kept", b"1"),
        entry("d/.wh.kept"),
        entry("d/.wh..wh..opq"),
        entry("d/.wh.never"),
        entry(".wh..wh.plnk/1.2", b"x"),
        entry(".wh..wh.aufs", b"x"),
    )
    (place.root / "d").mkdir()
    (place.root / "d/old").touch()
    await place.extract(data)
    assert [path.name for path in place.root.iterdir()] == ["d"]
    assert [path.name for path in (place.root / "d").iterdir()] == ["kept"]


@pytest.mark.parametrize("name", [".wh.", "d/.wh.", ".wh...", "d/.wh.."])
async def test_whiteouts_of_nothing_are_refused(place: Place, name: str) -> None:
    with pytest.raises(InvalidArgument, match="whiteout of nothing"):
        await place.extract(archive(directory("d"), entry(name)))


async def test_names_that_are_not_utf8_are_bytes_everywhere(place: Place) -> None:
    name = os.fsdecode(b"\xff\xfe-\xc3")
    goal = os.fsdecode(b"\x80goal")
    for form in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w", format=form, errors="surrogateescape") as tar:
            for info, data in (directory(name), entry(f"{name}/f", b"x"), link(f"{name}/l", goal)):
                tar.addfile(info, io.BytesIO(data))
        await place.extract(out.getvalue())
        assert sorted(os.listdir(os.fsencode(place.root / name))) == [b"f", b"l"]
        assert os.readlink(os.fsencode(place.root / name / "l")) == b"\x80goal"
    with pytest.raises(InvalidArgument) as caught:
        await place.extract(archive(entry(f"../{name}\x1b[31m", b"x")))
    assert caught.value.message.isprintable()


@pytest.mark.slow
async def test_a_hundred_thousand_small_files(place: Place) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for number in range(100_000):
            info = tarfile.TarInfo(f"d{number % 317}/e{number % 11}/f{number}")
            info.size = 6
            tar.addfile(info, io.BytesIO(b"%06d" % number))
    await place.extract(gzip.compress(out.getvalue(), 1), GZIP)
    found = 0
    for top, _, names in os.walk(place.root):
        found += len(names)
        for name in names[:3]:
            assert (Path(top) / name).read_bytes() == b"%06d" % int(name[1:])
    assert found == 100_000
    shutil.rmtree(place.root)  # pytest would keep it for a while
