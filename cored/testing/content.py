"""What every content store must do (:mod:`cored.abc.content`)."""

from __future__ import annotations

import hashlib

import pytest

from cored.abc.content import ContentStore, read_blob, write_blob
from cored.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound, Unavailable

__all__ = ["ContentStoreContract"]


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


class ContentStoreContract:
    """Subclass it with a fixture ``store`` that yields an empty one."""

    async def test_what_is_written_can_be_read(self, store: ContentStore) -> None:
        data = bytes(range(256)) * 4096
        async with await store.writer("ref", size=len(data), expected=digest_of(data)) as writer:
            for start in range(0, len(data), 100_000):
                await writer.write(data[start : start + 100_000])
            assert writer.status.offset == len(data)
            assert await writer.commit(len(data), digest_of(data)) == digest_of(data)
        assert await read_blob(store, digest_of(data)) == data
        assert (await store.info(digest_of(data))).size == len(data)

    async def test_a_part_can_be_read(self, store: ContentStore) -> None:
        digest = await write_blob(store, "ref", b"0123456789")
        async with await store.reader(digest) as reader:
            assert reader.size == 10
            assert await reader.read_at(3, 4) == b"3456"
            assert await reader.read_at(8, 100) == b"89"
            assert await reader.read_at(10, 1) == b""

    async def test_an_ingest_goes_on_where_it_stopped(self, store: ContentStore) -> None:
        async with await store.writer("ref", size=10) as writer:
            await writer.write(b"01234")
        assert (await store.status("ref")).offset == 5
        async with await store.writer("ref") as writer:
            assert writer.status.offset == 5
            await writer.write(b"56789")
            assert await writer.commit(10) == digest_of(b"0123456789")
        with pytest.raises(NotFound):
            await store.status("ref")

    async def test_an_ingest_can_be_cut_back(self, store: ContentStore) -> None:
        async with await store.writer("ref") as writer:
            await writer.write(b"wrong")
            await writer.truncate(0)
            await writer.write(b"right")
            assert await writer.digest() == digest_of(b"right")
            assert await writer.commit() == digest_of(b"right")

    async def test_a_ref_has_one_writer(self, store: ContentStore) -> None:
        async with await store.writer("ref") as writer:
            with pytest.raises(Unavailable):
                await store.writer("ref")
            await writer.write(b"x")
        async with await store.writer("ref") as writer:
            assert writer.status.offset == 1

    async def test_a_wrong_size_or_digest_keeps_the_ingest(self, store: ContentStore) -> None:
        async with await store.writer("ref") as writer:
            await writer.write(b"data")
            with pytest.raises(FailedPrecondition):
                await writer.commit(5)
            with pytest.raises(FailedPrecondition):
                await writer.commit(4, digest_of(b"other"))
        assert (await store.status("ref")).offset == 4
        with pytest.raises(NotFound):
            await store.info(digest_of(b"data"))

    async def test_what_is_there_is_not_written_again(self, store: ContentStore) -> None:
        digest = await write_blob(store, "one", b"data")
        with pytest.raises(AlreadyExists):
            await store.writer("two", expected=digest)
        async with await store.writer("three") as writer:
            await writer.write(b"data")
            with pytest.raises(AlreadyExists):
                await writer.commit(4, digest)
        with pytest.raises(NotFound):
            await store.status("three")
        assert await write_blob(store, "four", b"data") == digest

    async def test_labels(self, store: ContentStore) -> None:
        digest = await write_blob(store, "ref", b"data", labels={"a": "1"})
        assert (await store.info(digest)).labels == {"a": "1"}
        assert (await store.update(digest, {"b.c/d": "2"})).labels == {"a": "1", "b.c/d": "2"}
        assert (await store.update(digest, {"a": None})).labels == {"b.c/d": "2"}
        assert (await store.update(digest, {"e": "3"}, replace=True)).labels == {"e": "3"}

    async def test_walk_and_ingests_filter(self, store: ContentStore) -> None:
        one = await write_blob(store, "r1", b"one", labels={"kind": "x"})
        two = await write_blob(store, "r2", b"two")
        async with await store.writer("open") as writer:
            await writer.write(b"1")
        assert {info.digest async for info in store.walk()} == {one, two}
        assert [info.digest async for info in store.walk(["labels.kind==x"])] == [one]
        assert [info.digest async for info in store.walk([f"digest=={two}"])] == [two]
        assert [status.ref async for status in store.ingests()] == ["open"]

    async def test_removal(self, store: ContentStore) -> None:
        digest = await write_blob(store, "ref", b"data")
        await store.delete(digest)
        for attempt in (store.info(digest), store.reader(digest), store.delete(digest)):
            with pytest.raises(NotFound):
                await attempt
        async with await store.writer("gone") as writer:
            await writer.write(b"1")
        await store.abort("gone")
        with pytest.raises(NotFound):
            await store.abort("gone")

    async def test_nonsense_is_refused(self, store: ContentStore) -> None:
        for digest in ("", "sha256:", "sha256:../../etc/passwd", "md5:" + "0" * 32, "x" * 64):
            with pytest.raises((InvalidArgument, NotFound)):
                await store.info(digest)

    async def test_refs_may_hold_anything(self, store: ContentStore) -> None:
        for ref in ("../../up", "with space/and:colon", "ü" * 300):
            async with await store.writer(ref) as writer:
                await writer.write(ref.encode())
            assert (await store.status(ref)).offset == len(ref.encode())
