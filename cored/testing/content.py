"""What every content store must do (:mod:`cored.abc.content`)."""

from __future__ import annotations

import asyncio
import hashlib

import pytest

from cored.abc.content import ContentStore, read_blob, write_blob
from cored.errors import (
    AlreadyExists,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    OutOfRange,
    Unavailable,
    Unimplemented,
)

__all__ = ["ContentStoreContract", "digest_of"]

_ABSENT = "sha256:" + "ab" * 32


def digest_of(data: bytes, algorithm: str = "sha256") -> str:
    """The digest of ``data`` as content stores write it."""
    return f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}"


@pytest.mark.asyncio
class ContentStoreContract:
    """Subclass it with a fixture ``store`` that yields an empty one."""

    # blobs

    async def test_what_was_written_in_pieces_reads_back(self, store: ContentStore) -> None:
        pieces = [b"one", b"", b"2" * 100_000, b"three"]
        async with await store.writer("ref") as writer:
            for piece in pieces:
                await writer.write(piece)
            assert writer.status.offset == sum(map(len, pieces))
            assert await writer.digest() == digest_of(b"".join(pieces))
            digest = await writer.commit()
        assert digest == digest_of(b"".join(pieces))
        assert await read_blob(store, digest) == b"".join(pieces)

    async def test_an_empty_blob_is_a_blob(self, store: ContentStore) -> None:
        assert await write_blob(store, "ref", b"") == digest_of(b"")
        assert (await store.info(digest_of(b""))).size == 0
        assert await read_blob(store, digest_of(b"")) == b""

    async def test_info_tells_size_labels_and_times(self, store: ContentStore) -> None:
        digest = await write_blob(store, "ref", b"data", labels={"a": "1"})
        info = await store.info(digest)
        assert (info.digest, info.size, dict(info.labels)) == (digest, 4, {"a": "1"})
        assert 0 < info.created_at <= info.updated_at

    async def test_reads_any_range(self, store: ContentStore) -> None:
        data = bytes(range(256)) * 1024
        digest = await write_blob(store, "ref", data)
        async with await store.reader(digest) as blob:
            assert blob.size == len(data)
            assert await blob.read_at(0, 10) == data[:10]
            assert await blob.read_at(1000, 100_000) == data[1000:101_000]
            assert await blob.read_at(len(data) - 5, 100) == data[-5:]
            assert await blob.read_at(len(data), 1) == b""
            assert await blob.read_at(len(data) + 99, 1) == b""
            assert await blob.read_at(5, 0) == b""
            if blob.path is not None:
                assert blob.path.read_bytes() == data
            with pytest.raises(InvalidArgument):
                await blob.read_at(-1, 1)
            await blob.close()  # twice is fine

    async def test_a_blob_is_known_by_sha512_when_that_is_asked_for(
        self, store: ContentStore
    ) -> None:
        wanted = digest_of(b"data", "sha512")
        async with await store.writer("known", expected=wanted) as writer:
            await writer.write(b"data")
            assert await writer.commit(4, wanted) == wanted
        later = digest_of(b"other", "sha512")
        async with await store.writer("asked at the end") as writer:
            await writer.write(b"other")
            assert await writer.commit(5, later) == later
        assert await read_blob(store, wanted) == b"data"
        assert await read_blob(store, later) == b"other"

    async def test_absent_blobs_are_not_found(self, store: ContentStore) -> None:
        for call in (store.info(_ABSENT), store.delete(_ABSENT), store.reader(_ABSENT)):
            with pytest.raises(NotFound):
                await call
        with pytest.raises(NotFound):
            await store.update(_ABSENT, {"a": "1"})
        with pytest.raises(NotFound):
            await store.update(_ABSENT, {}, replace=True)

    @pytest.mark.parametrize(
        "digest",
        ["", "sha256", "sha256:", "sha256:ab", "md5:" + "a" * 32, "sha256:" + "A" * 64,
         "sha256:" + "g" * 64, "sha256:" + "a" * 128, "sha512:" + "a" * 64, "../" * 20,
         "sha256:../../" + "a" * 58, "sha256:" + "a" * 64 + "\n"],
    )  # fmt: skip
    async def test_what_is_no_digest_is_refused(self, store: ContentStore, digest: str) -> None:
        refused = (InvalidArgument, NotFound)  # a store of rows need not look at its form
        for call in (store.info(digest), store.delete(digest), store.reader(digest)):
            with pytest.raises(refused):
                await call
        if digest:
            with pytest.raises(InvalidArgument):
                await store.writer("ref", expected=digest)
            async with await store.writer("ref") as writer:
                await writer.write(b"data")
                with pytest.raises(InvalidArgument):
                    await writer.commit(4, digest)

    async def test_deleted_blobs_are_gone_and_may_come_back(self, store: ContentStore) -> None:
        digest = await write_blob(store, "ref", b"data", labels={"old": "1"})
        await store.delete(digest)
        with pytest.raises(NotFound):
            await store.info(digest)
        assert [info.digest async for info in store.walk()] == []
        assert await write_blob(store, "ref", b"data") == digest
        assert dict((await store.info(digest)).labels) == {}

    # ends of ingests

    async def test_a_wrong_digest_keeps_the_ingest(self, store: ContentStore) -> None:
        wanted = digest_of(b"right")
        async with await store.writer("ref", expected=wanted) as writer:
            await writer.write(b"wrong")
            with pytest.raises(FailedPrecondition):
                await writer.commit(0, wanted)
        with pytest.raises(NotFound):
            await store.info(wanted)
        with pytest.raises(NotFound):
            await store.info(digest_of(b"wrong"))
        assert (await store.status("ref")).offset == 5
        async with await store.writer("ref", expected=wanted) as writer:
            await writer.truncate(0)
            await writer.write(b"right")
            assert await writer.commit(5, wanted) == wanted

    async def test_a_wrong_size_keeps_the_ingest(self, store: ContentStore) -> None:
        async with await store.writer("ref") as writer:
            await writer.write(b"data")
            for size in (3, 5):
                with pytest.raises(FailedPrecondition):
                    await writer.commit(size, digest_of(b"data"))
            await writer.write(b"!")
            assert await writer.commit(5) == digest_of(b"data!")

    async def test_a_finished_ingest_is_gone(self, store: ContentStore) -> None:
        await write_blob(store, "ref", b"data")
        with pytest.raises(NotFound):
            await store.status("ref")
        assert [status async for status in store.ingests()] == []
        async with await store.writer("ref") as writer:
            assert writer.status.offset == 0

    async def test_content_that_exists_needs_no_writer(self, store: ContentStore) -> None:
        digest = await write_blob(store, "ref", b"data")
        with pytest.raises(AlreadyExists):
            await store.writer("other", expected=digest)
        with pytest.raises(NotFound):
            await store.status("other")

    async def test_content_that_came_twice_keeps_its_labels(self, store: ContentStore) -> None:
        first = await store.writer("first")
        await first.write(b"data")
        await write_blob(store, "second", b"data", labels={"a": "1"})
        with pytest.raises(AlreadyExists):
            await first.commit(4, labels={"b": "2"})
        await first.close()
        assert dict((await store.info(digest_of(b"data"))).labels) == {"a": "1"}
        with pytest.raises(NotFound):
            await store.status("first")

    async def test_of_many_at_once_one_wins(self, store: ContentStore) -> None:
        async def bring(number: int) -> bool:
            async with await store.writer(f"ref-{number}") as writer:
                await writer.write(b"the same" * 20_000)
                try:
                    await writer.commit()
                except AlreadyExists:
                    return False
                return True

        assert sum(await asyncio.gather(*map(bring, range(8)))) == 1
        assert await read_blob(store, digest_of(b"the same" * 20_000)) == b"the same" * 20_000

    async def test_abort_throws_the_bytes_away(self, store: ContentStore) -> None:
        async with await store.writer("ref") as writer:
            await writer.write(b"data")
            with pytest.raises(Unavailable):
                await store.abort("ref")
        await store.abort("ref")
        for call in (store.status("ref"), store.abort("ref")):
            with pytest.raises(NotFound):
                await call
        async with await store.writer("ref") as writer:
            assert writer.status.offset == 0

    # going on

    async def test_a_later_writer_goes_on(self, store: ContentStore) -> None:
        async with await store.writer("ref", size=8) as writer:
            await writer.write(b"half")
        status = await store.status("ref")
        assert (status.ref, status.offset, status.total) == ("ref", 4, 8)
        assert 0 < status.started_at <= status.updated_at
        async with await store.writer("ref") as writer:
            assert (writer.status.offset, writer.status.total) == (4, 8)
            assert writer.status.started_at == status.started_at
            assert await writer.digest() == digest_of(b"half")
            await writer.write(b"half")
            assert await writer.commit(8) == digest_of(b"halfhalf")

    async def test_a_ref_has_one_writer(self, store: ContentStore) -> None:
        first = await store.writer("ref")
        with pytest.raises(Unavailable):
            await store.writer("ref")
        async with await store.writer("another"):
            pass
        await first.close()
        await first.close()
        async with await store.writer("ref"):
            pass

    async def test_a_ref_is_free_after_a_failed_opening(self, store: ContentStore) -> None:
        for _ in range(2):
            with pytest.raises(InvalidArgument):
                await store.writer("ref", expected="nonsense")
        async with await store.writer("ref") as writer:
            assert writer.status.offset == 0

    async def test_a_closed_writer_writes_nothing(self, store: ContentStore) -> None:
        writer = await store.writer("ref")
        await writer.close()
        for call in (writer.write(b"late"), writer.truncate(0), writer.commit()):
            with pytest.raises(FailedPrecondition):
                await call
        assert (await store.status("ref")).offset == 0

    async def test_truncate_forgets_the_end(self, store: ContentStore) -> None:
        async with await store.writer("ref") as writer:
            await writer.write(b"0123456789")
            try:
                await writer.truncate(4)
            except Unimplemented:
                pytest.skip("this store can only begin again")
            assert writer.status.offset == 4
            assert await writer.digest() == digest_of(b"0123")
            for size in (5, -1):
                with pytest.raises(OutOfRange):
                    await writer.truncate(size)
            await writer.write(b"x")
            assert await writer.commit() == digest_of(b"0123x")

    async def test_refs_may_hold_anything(self, store: ContentStore) -> None:
        for ref in ("../../up", "with space/and:colon", "\u00fc" * 300, "line\nbreak"):
            async with await store.writer(ref) as writer:
                await writer.write(ref.encode())
            assert (await store.status(ref)).offset == len(ref.encode())

    async def test_ingests_are_listed_and_filtered(self, store: ContentStore) -> None:
        for ref in ("layer-1", "layer-2", 'odd/"ref" \N{SNOWMAN}'):
            async with await store.writer(ref) as writer:
                await writer.write(ref.encode())
        found = {status.ref: status.offset async for status in store.ingests()}
        assert found == {"layer-1": 7, "layer-2": 7, 'odd/"ref" \N{SNOWMAN}': 13}
        assert [s.ref async for s in store.ingests(["ref==layer-2"])] == ["layer-2"]

    # cancellation and the event loop

    async def test_a_big_write_leaves_the_loop_free(self, store: ContentStore) -> None:
        async with await store.writer("ref") as writer:
            writing = asyncio.ensure_future(writer.write(bytes(32 << 20)))
            turns = 0
            while not writing.done():
                await asyncio.sleep(0)
                turns += 1
            await writing
            assert turns > 2  # a write on the loop itself takes one or two

    async def test_a_cancelled_write_leaves_a_whole_ingest(self, store: ContentStore) -> None:
        writer = await store.writer("ref")
        writing = asyncio.ensure_future(writer.write(bytes(5 << 20)))
        await asyncio.sleep(0)
        writing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await writing
        await writer.close()
        async with await store.writer("ref") as again:
            assert again.status.offset <= 5 << 20
            assert await again.digest() == digest_of(bytes(again.status.offset))

    async def test_a_cancelled_opening_frees_the_ref(self, store: ContentStore) -> None:
        for turns in range(4):
            opening = asyncio.ensure_future(store.writer("ref"))
            for _ in range(turns):
                await asyncio.sleep(0)
            opening.cancel()
            with pytest.raises(asyncio.CancelledError):
                await opening
            async with asyncio.timeout(60):
                while True:
                    try:
                        await (await store.writer("ref")).close()
                        break
                    except Unavailable:
                        await asyncio.sleep(0.001)

    # a helper process that writes the file itself

    async def test_a_helper_may_append_and_report(self, store: ContentStore) -> None:
        async with await store.writer("ref") as writer:
            if writer.path is None:
                pytest.skip("this store has no local files")
            await writer.write(b"one ")
            with writer.path.open("ab") as file:
                file.write(b"two ")
            with pytest.raises(FailedPrecondition):
                await writer.advance(99, digest_of(b"one two "))
            with pytest.raises(InvalidArgument):
                await writer.advance(8, "nonsense")
            await writer.advance(8, digest_of(b"one two "))
            assert writer.status.offset == 8
            assert await writer.digest() == digest_of(b"one two ")
            await writer.write(b"three")
            assert await writer.digest() == digest_of(b"one two three")
            digest = await writer.commit(13)
        assert await read_blob(store, digest) == b"one two three"

    async def test_what_a_helper_did_not_report_is_not_published(self, store: ContentStore) -> None:
        for again in (False, True):
            async with await store.writer("ref") as writer:
                if writer.path is None:
                    pytest.skip("this store has no local files")
                await writer.write(b"good")
                with writer.path.open("ab") as file:
                    file.write(b" and what a crash left")
                if again:
                    await writer.truncate(0)
                    await writer.write(b"data")
                digest = await writer.commit(4)
            assert digest == digest_of(b"data" if again else b"good")
            assert await read_blob(store, digest) == (b"data" if again else b"good")

    # labels and lists

    async def test_labels_are_set_merged_and_replaced(self, store: ContentStore) -> None:
        digest = await write_blob(store, "ref", b"data", labels={"a": "1", "b": "2"})
        info = await store.update(digest, {"b": None, "c": "3"})
        assert dict(info.labels) == {"a": "1", "c": "3"}
        info = await store.update(digest, {"d": "4"}, replace=True)
        assert dict(info.labels) == {"d": "4"}
        assert dict((await store.info(digest)).labels) == {"d": "4"}
        assert dict((await store.update(digest, {}, replace=True)).labels) == {}
        assert (await store.info(digest)).updated_at >= info.created_at

    async def test_changes_of_labels_at_once_are_all_kept(self, store: ContentStore) -> None:
        digest = await write_blob(store, "ref", b"data")
        await asyncio.gather(*(store.update(digest, {f"l{n}": str(n)}) for n in range(10)))
        assert dict((await store.info(digest)).labels) == {f"l{n}": str(n) for n in range(10)}

    async def test_walk_lists_what_filters_ask_for(self, store: ContentStore) -> None:
        one = await write_blob(store, "1", b"one", labels={"a.b/c": "x"})
        two = await write_blob(store, "2", b"two22", labels={"a.b/c": "y", "d": "1"})

        async def walk(*filters: str) -> set[str]:
            return {info.digest async for info in store.walk(filters)}

        assert await walk() == {one, two}
        assert await walk(f"digest=={one}") == {one}
        assert await walk('labels."a.b/c"==y') == {two}
        assert await walk("labels.d") == {two}
        assert await walk("size==3") == {one}
        assert await walk("size==3,labels.d") == set()
        assert await walk("size==3", "labels.d") == {one, two}
        with pytest.raises(InvalidArgument):
            await walk("size==3,,")

    async def test_a_reader_outlives_its_blobs_deletion(self, store: ContentStore) -> None:
        digest = await write_blob(store, "ref", b"data")
        async with await store.reader(digest) as blob:
            await store.delete(digest)
            assert await blob.read_at(0, 10) == b"data"
