"""What is the content store ``local``'s own: files, locks, crashes, a full disk."""

from __future__ import annotations

import hashlib
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from cored_content_local import LocalContentStore

from cored import linux
from cored.abc.content import read_blob, write_blob
from cored.errors import InvalidArgument, NotFound, ResourceExhausted, Unavailable
from cored.testing.content import digest_of


@pytest.fixture
def store(tmp_path: Path) -> LocalContentStore:
    return LocalContentStore(tmp_path)


def ingest_of(root: Path, ref: str) -> Path:
    return root / "ingest" / hashlib.sha256(ref.encode()).hexdigest()


async def test_blobs_lie_under_their_digests_and_cannot_be_written(
    store: LocalContentStore, tmp_path: Path
) -> None:
    digest = await write_blob(store, "ref", b"data")
    path = tmp_path / "blobs" / "sha256" / digest.removeprefix("sha256:")
    assert path.read_bytes() == b"data"
    assert path.stat().st_mode & 0o777 == 0o444
    assert list((tmp_path / "ingest").iterdir()) == []


async def test_blobs_and_ingests_outlive_the_store(tmp_path: Path) -> None:
    wanted = digest_of(b"halfhalf")
    store = LocalContentStore(tmp_path)
    digest = await write_blob(store, "blob", b"data", labels={"a": "1"})
    async with await store.writer("ref", expected=wanted) as writer:
        await writer.write(b"half")
    store = LocalContentStore(tmp_path)
    assert await read_blob(store, digest) == b"data"
    assert dict((await store.info(digest)).labels) == {"a": "1"}
    async with await store.writer("ref") as writer:
        assert (writer.status.offset, writer.status.expected) == (4, wanted)
        await writer.write(b"half")
        assert await writer.commit(8, wanted) == wanted


async def test_strange_files_among_blobs_are_left_out(
    store: LocalContentStore, tmp_path: Path
) -> None:
    digest = await write_blob(store, "ref", b"data")
    for name in ("README", "z" * 64, "." + "a" * 63):
        (tmp_path / "blobs/sha256" / name).write_text("?")
    assert [info.digest async for info in store.walk()] == [digest]


async def test_a_half_begun_ingest_is_removed_at_open(
    store: LocalContentStore, tmp_path: Path
) -> None:
    async with await store.writer("whole") as writer:
        await writer.write(b"data")
    for ref, files in (("none", {}), ("data", {"data": "x"}), ("meta", {"meta.json": "{}"})):
        place = ingest_of(tmp_path, ref)
        place.mkdir()
        for name, text in files.items():
            (place / name).write_text(text)
    torn = ingest_of(tmp_path, "torn")
    torn.mkdir()
    (torn / "data").write_text("x")
    (torn / "meta.json").write_text('{"ref": "to')
    with pytest.raises(NotFound):
        await store.status("torn")
    again = LocalContentStore(tmp_path)
    assert [path.name for path in (tmp_path / "ingest").iterdir()] == [
        ingest_of(tmp_path, "whole").name
    ]
    assert [status.ref async for status in again.ingests()] == ["whole"]


async def test_an_ingest_with_torn_facts_begins_anew(
    store: LocalContentStore, tmp_path: Path
) -> None:
    async with await store.writer("ref") as writer:
        await writer.write(b"data")
    (ingest_of(tmp_path, "ref") / "meta.json").write_text("")
    async with await store.writer("ref") as writer:
        assert writer.status.offset == 0
        await writer.write(b"new")
        assert await writer.commit(3) == digest_of(b"new")


async def test_an_empty_ref_is_refused(store: LocalContentStore) -> None:
    with pytest.raises(InvalidArgument, match="empty"):
        await store.writer("")


WRITER = """
import asyncio, sys
from pathlib import Path
from cored_content_local import LocalContentStore

async def main():
    writer = await LocalContentStore(Path(sys.argv[1])).writer("ref")
    await writer.write(b"x" * 200_000)
    print("written", flush=True)
    sys.stdin.read()

asyncio.run(main())
"""


async def test_another_process_keeps_its_ref_until_it_dies(
    store: LocalContentStore, tmp_path: Path
) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"written\n"
        with pytest.raises(Unavailable, match="another process"):
            await store.writer("ref")
        with pytest.raises(Unavailable, match="another process"):
            await store.abort("ref")
        other.send_signal(signal.SIGKILL)
        other.wait()
    async with await store.writer("ref") as writer:
        assert writer.status.offset == 200_000
        await writer.write(b"y")
        assert await writer.commit() == digest_of(b"x" * 200_000 + b"y")


async def test_a_forked_process_does_not_keep_the_ref(store: LocalContentStore) -> None:
    import os

    writer = await store.writer("ref")
    until, go = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(go)
        os.read(until, 1)
        os._exit(0)
    try:
        await writer.close()
        await (await store.writer("ref")).close()
    finally:
        os.close(go)
        os.close(until)
        os.waitpid(child, 0)


@pytest.mark.root
@pytest.mark.parametrize("size", [50_000, 5_000_000])
async def test_a_full_disk_is_said_so_and_keeps_what_was_written(tmp_path: Path, size: int) -> None:
    linux.mount("tmpfs", tmp_path, "tmpfs", 0, "size=400k")
    try:
        store = LocalContentStore(tmp_path / "store")
        async with await store.writer("ref") as writer:
            written = 0
            with pytest.raises(ResourceExhausted, match="space"):
                while True:
                    await writer.write(b"x" * size)
                    written += size
            assert writer.status.offset == written
            assert (await store.status("ref")).offset == written
            await writer.write(b"end")
            digest = await writer.commit()
        assert digest == digest_of(b"x" * written + b"end")
        assert len(await read_blob(store, digest)) == written + 3
    finally:
        linux.unmount(tmp_path, lazy=True)
