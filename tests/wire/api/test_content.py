"""containerd.services.content.v1.Content"""

from __future__ import annotations

import hashlib
import queue
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.grpc_client import Client, only_cored, opened

DATA = b"some content\n"


def sha256(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


DIGEST = sha256(DATA)
ABSENT = sha256(b"what nobody has written")


def info(api: Client, digest: str = DIGEST) -> Any:
    return api.content.Info(digest=digest).info


def digests(api: Client, *filters: str) -> set[str]:
    return {i.digest for page in api.content.List(filters=filters) for i in page.info}


def read(api: Client, digest: str = DIGEST, **fields: int) -> bytes:
    return b"".join(part.data for part in api.content.Read(digest=digest, **fields))


def refs(api: Client, *filters: str) -> set[str]:
    return {s.ref for s in api.content.ListStatuses(filters=filters).statuses}


class Writing:
    """One open Write stream: a message in, a message out."""

    def __init__(self, api: Client) -> None:
        self._messages: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._request = api.content.Write.request
        self.call = api.content.Write(iter(self._messages.get, None))

    def say(self, action: str, **fields: Any) -> Any:
        self._messages.put(self._request(action=action, **fields))
        return next(self.call)

    def end(self) -> list[Any]:
        self._messages.put(None)
        return list(self.call)


@contextmanager
def writing(api: Client) -> Iterator[Writing]:
    stream = Writing(api)
    try:
        yield stream
    finally:
        stream.call.cancel()
        stream._messages.put(None)


def half(api: Client, ref: str = "r", data: bytes = DATA[:4], **fields: Any) -> None:
    """Begin an ingest, and leave."""
    with writing(api) as stream:
        stream.say("WRITE", ref=ref, data=data, **fields)
        stream.end()


def test_content_is_written_shown_read_and_removed(api: Client) -> None:
    before = time.time_ns()
    assert api.put(DATA, labels={"a.b/c": "1", "empty": ""}) == DIGEST
    found = info(api)
    assert (found.digest, found.size, found.labels) == (DIGEST, len(DATA), {"a.b/c": "1"})
    assert before <= found.created_at.ToNanoseconds() <= time.time_ns()
    assert found.updated_at == found.created_at
    assert digests(api) == {DIGEST}
    assert read(api) == DATA
    api.content.Delete(digest=DIGEST)
    assert digests(api) == set()
    with api.refused("NOT_FOUND", DIGEST):
        info(api)


def test_a_stream_asks_writes_and_commits(api: Client) -> None:
    with writing(api) as stream:
        first = stream.say("STAT", ref="r", total=len(DATA))
        assert (first.action, first.offset, first.total) == (0, 0, len(DATA))
        assert first.started_at.seconds > 0
        assert first.digest == sha256(b"")
        second = stream.say("WRITE", data=DATA[:4])
        assert (second.action, second.offset, second.digest) == (1, 4, sha256(DATA[:4]))
        third = stream.say("WRITE", data=DATA[4:], offset=4)
        assert (third.offset, third.digest) == (len(DATA), DIGEST)
        last = stream.say("COMMIT", offset=len(DATA), expected=DIGEST, total=len(DATA))
        assert (last.action, last.offset, last.digest) == (2, len(DATA), DIGEST)
        stream.end()
    assert read(api) == DATA
    assert refs(api) == set()


def test_writing_starts_again_at_zero_or_goes_on_where_it_stands(api: Client) -> None:
    with writing(api) as stream:
        stream.say("WRITE", ref="r", data=b"wrong start")
        assert stream.say("WRITE", data=DATA[:4]).offset == 4, "no offset: from the start"
        with api.refused("OUT_OF_RANGE", "4"):
            stream.say("WRITE", data=DATA[4:], offset=5)
    with writing(api) as stream:
        assert stream.say("STAT", ref="r").offset == 4, "what was written is there"
        stream.say("COMMIT", data=DATA[4:], offset=4)
    assert read(api) == DATA


def test_reads_take_an_offset_and_a_size(api: Client) -> None:
    api.put(DATA)
    assert read(api, offset=5) == DATA[5:]
    assert read(api, offset=5, size=3) == DATA[5:8]
    assert read(api, size=3) == DATA[:3]
    assert read(api, offset=5, size=1000) == DATA[5:]
    assert read(api, size=2**63 - 1) == DATA
    assert read(api, offset=len(DATA)) == b""
    assert read(api, offset=-5, size=-1) == DATA
    with api.refused("OUT_OF_RANGE", str(len(DATA))):
        read(api, offset=len(DATA) + 1)
    with api.refused("OUT_OF_RANGE"):
        read(api, offset=2**63 - 1)


def test_empty_content_can_be_written_and_read(api: Client) -> None:
    digest = api.put(b"")
    assert digest == sha256(b"")
    assert info(api, digest).size == 0
    assert read(api, digest) == b""


def test_big_content_comes_in_parts(api: Client) -> None:
    data = bytes(range(256)) * 12_000
    with writing(api) as stream:
        stream.say("STAT", ref="r")
        for offset in range(0, len(data), 1 << 20):
            stream.say("WRITE", data=data[offset : offset + (1 << 20)], offset=offset)
        stream.say("COMMIT", offset=len(data), total=len(data), expected=sha256(data))
    parts = [part.data for part in api.content.Read(digest=sha256(data))]
    assert len(parts) > 1
    assert b"".join(parts) == data


def test_another_namespace_sees_nothing(api: Client, other: Client) -> None:
    api.put(DATA, labels={"a": "1"})
    half(api, "begun")
    assert digests(other) == set()
    assert refs(other) == set()
    for call in (
        lambda: info(other),
        lambda: read(other),
        lambda: other.content.Update(info={"digest": DIGEST}),
        lambda: other.content.Delete(digest=DIGEST),
        lambda: other.content.Status(ref="begun"),
        lambda: other.content.Abort(ref="begun"),
    ):
        with other.refused("NOT_FOUND"):
            call()
    other.put(DATA)
    assert not info(other).labels
    other.content.Delete(digest=DIGEST)
    assert read(api) == DATA


def test_a_namespace_is_needed(nobody: Client) -> None:
    request = nobody.content.Write.request(ref="r")
    for call in (
        lambda: info(nobody),
        lambda: nobody.content.Update(info={"digest": DIGEST}),
        lambda: digests(nobody),
        lambda: nobody.content.Delete(digest=DIGEST),
        lambda: read(nobody),
        lambda: nobody.content.Status(ref="r"),
        lambda: refs(nobody),
        lambda: nobody.content.Abort(ref="r"),
        lambda: list(nobody.content.Write([request])),
    ):
        with nobody.refused("FAILED_PRECONDITION", "namespace"):
            call()


def test_what_is_not_there(api: Client) -> None:
    for call in (
        lambda: info(api, ABSENT),
        lambda: api.content.Update(info={"digest": ABSENT}),
        lambda: api.content.Delete(digest=ABSENT),
        lambda: read(api, ABSENT),
        lambda: api.content.Status(ref="r"),
        lambda: api.content.Status(),
        lambda: api.content.Abort(ref="r"),
    ):
        with api.refused("NOT_FOUND"):
            call()


@pytest.mark.parametrize(
    "bad", ["", "nonsense", "sha256:", "sha256:abc", "md5:" + "a" * 32, "sha256:" + "A" * 64]
)
def test_bad_digests_are_refused(api: Client, bad: str) -> None:
    for call in (
        lambda: info(api, bad),
        lambda: api.content.Update(info={"digest": bad}),
        lambda: api.content.Delete(digest=bad),
        lambda: read(api, bad),
    ):
        with api.refused("INVALID_ARGUMENT"):
            call()


@only_cored  # containerd compares it, at the end
def test_a_bad_digest_is_nothing_to_expect(api: Client) -> None:
    request = api.content.Write.request
    with api.refused("INVALID_ARGUMENT", "nonsense"):
        list(api.content.Write([request(ref="r", expected="nonsense")]))
    with api.refused("INVALID_ARGUMENT", "nonsense"):
        api.put(DATA, expected="nonsense")


def test_filters(api: Client) -> None:
    second = api.put(b"more", labels={"tier": "web", "x.y/z": "1"})
    api.put(DATA)
    assert digests(api, f"digest=={DIGEST}") == {DIGEST}
    assert digests(api, f"digest=={DIGEST}", f"digest=={second}") == {DIGEST, second}
    if not api.oracle:  # since 1.7
        assert digests(api, "size==4") == {second}
    assert digests(api, "labels.tier==web") == {second}
    assert digests(api, 'labels."x.y/z"') == {second}
    assert digests(api, "labels.tier!=web") == {DIGEST}
    assert digests(api, f"digest~=|^{DIGEST[:15]}|") == {DIGEST}
    for bad in (lambda: digests(api, "size="), lambda: refs(api, "ref=")):
        with api.refused("INVALID_ARGUMENT", "filter"):
            bad()


def test_long_lists_come_in_pages(api: Client) -> None:
    request = api.content.Write.request
    for number in range(120):
        list(api.content.Write([request(action="COMMIT", ref="r", data=b"%d" % number)]))
    pages = [len(page.info) for page in api.content.List()]
    assert sum(pages) == 120
    assert max(pages) <= 100


def test_labels_are_updated(api: Client) -> None:
    api.put(DATA, labels={"a.b": "1", "c": "2", "d": "3"})
    made = info(api)

    def update(*paths: str, **labels: str) -> Any:
        api.content.Update(
            info={"digest": DIGEST, "labels": labels}, update_mask={"paths": list(paths)}
        )
        return info(api).labels

    assert update("labels.a.b", "labels.d", **{"a.b": "9", "c": "9"}) == {"a.b": "9", "c": "2"}
    assert update("labels", c="4", e="") == {"c": "4"}
    assert update(f="5") == {"f": "5"}
    assert update() == {}
    assert info(api).created_at == made.created_at
    assert info(api).updated_at.ToNanoseconds() > made.updated_at.ToNanoseconds()


@pytest.mark.parametrize("path", ["digest", "size", "created_at", "nonsense"])
def test_masks_of_what_cannot_change_are_refused(api: Client, path: str) -> None:
    api.put(DATA)
    with api.refused("INVALID_ARGUMENT", path):
        api.content.Update(
            info={"digest": DIGEST, "labels": {"a": "1"}},
            update_mask={"paths": ["labels.a", path]},
        )
    with api.refused("INVALID_ARGUMENT", path):
        api.content.Update(
            info={"digest": DIGEST, "labels": {"a": "1"}}, update_mask={"paths": ["labels", path]}
        )
    assert not info(api).labels


def test_labels_are_limited(api: Client) -> None:
    with api.refused("INVALID_ARGUMENT", "4096"):
        api.put(DATA, labels={"k": "v" * 4096})
    assert digests(api) == set()
    api.put(DATA)
    with api.refused("INVALID_ARGUMENT", "4096"):
        api.content.Update(info={"digest": DIGEST, "labels": {"k": "v" * 4096}})


def test_a_write_needs_a_ref(api: Client) -> None:
    request = api.content.Write.request
    with api.refused("INVALID_ARGUMENT", "ref"):
        list(api.content.Write([request(action="WRITE", data=DATA)]))


def test_a_write_that_says_nothing_does_nothing(api: Client) -> None:
    if api.oracle:  # it answers with the end of its input, as an error
        return
    assert list(api.content.Write([])) == []


def test_content_that_is_there_is_not_written_again(api: Client) -> None:
    api.put(DATA)
    request = api.content.Write.request
    with api.refused("ALREADY_EXISTS", DIGEST):
        list(api.content.Write([request(ref="again", expected=DIGEST)]))
    with writing(api) as stream:
        stream.say("STAT", ref="again")
        with api.refused("ALREADY_EXISTS", DIGEST):
            stream.say("WRITE", data=DATA, expected=DIGEST)
    with api.refused("ALREADY_EXISTS", DIGEST):
        api.put(DATA, ref="again")
    assert refs(api) == set()


def test_commits_are_checked(api: Client) -> None:
    with api.refused("FAILED_PRECONDITION", "13"):
        api.put(DATA, total=5)
    with api.refused("FAILED_PRECONDITION", DIGEST):
        api.put(DATA, ref="second", expected=ABSENT)
    assert digests(api) == set()


def test_ingests_are_shown_and_aborted(api: Client) -> None:
    before = time.time_ns()
    half(api, "a/b:c", total=len(DATA))
    half(api, "d")
    status = api.content.Status(ref="a/b:c").status
    assert (status.ref, status.offset, status.total) == ("a/b:c", 4, len(DATA))
    # a file's time is of the last tick
    assert before - 10**8 <= status.started_at.ToNanoseconds() <= time.time_ns()
    assert status.updated_at.ToNanoseconds() >= status.started_at.ToNanoseconds() - 10**8
    assert refs(api) == {"a/b:c", "d"}
    assert refs(api, "ref==d") == {"d"}
    assert refs(api, 'ref=="a/b:c"', "ref==x") == {"a/b:c"}
    api.content.Abort(ref="d")
    assert refs(api) == {"a/b:c"}
    with api.refused("NOT_FOUND", "d'"):
        api.content.Abort(ref="d")


def test_an_ingest_has_one_writer(api: Client) -> None:
    request = api.content.Write.request
    with writing(api) as stream:
        stream.say("WRITE", ref="r", data=DATA)
        with api.refused("UNAVAILABLE", "r'"):
            list(api.content.Write([request(ref="r")]))
        stream.say("WRITE", data=DATA, offset=len(DATA))
        stream.end()
    with writing(api) as stream:
        assert stream.say("STAT", ref="r").offset == 2 * len(DATA)


def test_a_client_that_leaves_leaves_its_ingest(api: Client) -> None:
    with writing(api) as stream:
        stream.say("WRITE", ref="r", data=DATA)
        stream.call.cancel()
    end = time.monotonic() + 60
    while True:  # it takes the daemon a moment to see that
        try:
            with writing(api) as stream:
                assert stream.say("STAT", ref="r").offset == len(DATA)
            break
        except Exception:
            assert time.monotonic() < end
            time.sleep(0.02)


def test_events(api: Client) -> None:
    with api.watching() as seen:
        api.put(DATA)
        with api.refused("ALREADY_EXISTS"):
            api.put(DATA)
        with api.refused("FAILED_PRECONDITION"):
            api.put(b"x", total=5)
        api.content.Update(info={"digest": DIGEST, "labels": {"a": "1"}})
        half(api)
        api.content.Abort(ref="r")
        api.content.Delete(digest=DIGEST)
        with api.refused("NOT_FOUND"):
            api.content.Delete(digest=DIGEST)
    if api.oracle:  # 2.x publishes creation, too
        assert seen.topics == ["/content/delete"]
    else:
        assert seen.topics == ["/content/create", "/content/delete"]
        created = opened(seen.envelopes[0])
        assert seen.envelopes[0].event.type_url == "containerd.events.ContentCreate"
        assert (created.digest, created.size) == (DIGEST, len(DATA))
    assert seen.envelopes[-1].event.type_url == "containerd.events.ContentDelete"
    assert opened(seen.envelopes[-1]).digest == DIGEST
