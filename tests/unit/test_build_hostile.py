"""Builds of what strangers wrote: names, archives and output that are to do harm."""

from __future__ import annotations

import asyncio
import io
import json
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cored_service_build.base_images import Bases
from cored_service_build.contexts import extracted
from cored_service_build.copying import Copying
from cored_service_build.directories import Entry, Kept, Receiving
from cored_service_build.outputs import reading

from cored import scope
from cored.errors import InvalidArgument

FILE = 0o100644


@pytest.mark.parametrize("name", ["../out", "a/b", "..", ".", "", "a\0b"])
def test_what_is_added_has_a_name_of_its_own_directory(name: str, tmp_path: Path) -> None:
    """The last part of http://host/..%2F..%2Fetc%2Fcron.d%2Fx, or of COPY <<../out /x/."""
    root = tmp_path / "root"
    root.mkdir()
    copying = Copying(root, (os.getuid(), os.getgid()))
    with pytest.raises(InvalidArgument, match="name"):
        copying.write(b"data", "/x/", name)
    assert list(tmp_path.iterdir()) == [root]


def _archive(*members: tarfile.TarInfo) -> io.BytesIO:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for member in members:
            archive.addfile(member)
    packed.seek(0)
    return packed


def _member(name: str, kind: bytes, link: str, mode: int = 0o666) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname, member.mode = kind, link, mode
    return member


def test_an_archive_gets_no_hard_link_to_a_file_of_the_host(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("s")
    secret.chmod(0o600)
    place = tmp_path / "context"
    place.mkdir()
    ways = (str(secret), "../../secret", "away/../secret")
    for number, way in enumerate(ways):
        members = [
            _member("away", tarfile.SYMTYPE, "..", 0o777),
            _member("x", tarfile.LNKTYPE, way),
        ]
        with pytest.raises(InvalidArgument):
            extracted(_archive(*members), place / str(number), "c")
    assert secret.stat().st_mode & 0o777 == 0o600 and secret.stat().st_nlink == 1
    inner = [tarfile.TarInfo("file"), _member("same", tarfile.LNKTYPE, "file")]
    extracted(_archive(*inner), place / "good", "c")
    assert (place / "good/same").stat().st_nlink == 2


async def test_who_writes_without_end_does_not_stop_the_daemon(tmp_path: Path) -> None:
    """There is more whenever somebody looks: other tasks have their turn after each piece."""
    pieces, fd = 0, -1

    def tell(data: bytes) -> None:
        nonlocal pieces
        pieces += 1
        if pieces < 1000:
            os.write(fd, b"more")

    async with reading(tmp_path / "fifo", tell) as path:
        fd = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
        os.write(fd, b"first")
        while not pieces:
            await asyncio.sleep(0)
        assert pieces < 10
    os.close(fd)
    assert pieces == 1000


async def test_who_writes_waits_for_a_reader_that_is_behind(tmp_path: Path) -> None:
    told = bytearray()
    async with reading(tmp_path / "fifo", told.extend, behind=lambda: len(told) > 0) as path:
        fd = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
        try:
            written = os.write(fd, b"x" * 10)
            while not told:
                await asyncio.sleep(0.01)
            with pytest.raises(BlockingIOError):
                for _ in range(100):
                    written += os.write(fd, b"x" * 4096)
            await asyncio.sleep(0.2)
            assert len(told) == 10
        finally:
            os.close(fd)
    assert len(told) == written


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Kept]:
    (tmp_path / "spool").mkdir()
    with scope.entered(scope.Scope("default")):
        yield Kept(tmp_path / "contexts", 1000)


def _received(kept: Kept, place: Path, names: str) -> int:
    """How many of the files, a byte each, had to be sent."""
    receiving = Receiving(place, "k", [Entry(name, FILE, 1) for name in names])
    wanted = receiving.begin(kept)
    receiving.write(b"x" * len(wanted))
    receiving.end()
    receiving.keep(kept)
    return len(wanted)


@pytest.mark.parametrize("left", [b"", b"{", b"[]"])
def test_a_context_whose_index_a_power_cut_damaged_is_sent_anew(
    left: bytes, kept: Kept, tmp_path: Path
) -> None:
    assert _received(kept, tmp_path / "spool/0", "ab") == 2
    index = tmp_path / "contexts/default/k/index"
    index.write_bytes(left)
    assert _received(kept, tmp_path / "spool/1", "ab") == 2
    index.write_bytes(left)
    kept.put("other", _tree(tmp_path / "spool/2"), [])
    assert not index.exists(), "nobody can use it any more"


def _tree(place: Path) -> Path:
    place.mkdir()
    return place


def test_files_that_a_power_cut_emptied_are_sent_anew(kept: Kept, tmp_path: Path) -> None:
    assert _received(kept, tmp_path / "spool/0", "abc") == 3
    home = tmp_path / "contexts/default/k"
    head, entries = (home / "index").read_text().splitlines()
    head = json.dumps({**json.loads(head), "boot": "an earlier one"})
    (home / "index").write_text(f"{head}\n{entries}")
    (home / "tree/a").write_bytes(b"")
    (home / "tree/b").unlink()
    assert _received(kept, tmp_path / "spool/1", "abc") == 2
    assert {p.read_bytes() for p in (home / "tree").iterdir()} == {b"x"}
    assert _received(kept, tmp_path / "spool/2", "abc") == 0


async def test_the_pull_of_a_base_ends_with_its_build() -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    class Puller:
        async def pull(self, *_: object, **__: object) -> None:
            begun.set()
            try:
                await asyncio.Event().wait()
            finally:
                ended.set()

    nothing: Any = None
    puller: Any = Puller()
    bases = Bases("native", nothing, nothing, puller, nothing, nothing, nothing)
    request: Any = SimpleNamespace(pull=True, access=None)
    stage = asyncio.create_task(bases.image("base", "linux/amd64", request))
    await begun.wait()
    stage.cancel()
    await bases.close()
    assert ended.is_set()
