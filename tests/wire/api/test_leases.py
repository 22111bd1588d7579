"""containerd.services.leases.v1.Leases"""

from __future__ import annotations

import time
from typing import Any

import pytest

from tests.grpc_client import Client, only_cored

DIGEST = "sha256:" + "c" * 64
RESOURCES = (
    (DIGEST, "content"),
    ("some ref", "ingests"),
    ("key", "snapshots/native"),
    ("key", "snapshots/overlayfs"),
)


def ids(api: Client, *filters: str) -> list[str]:
    return [lease.id for lease in api.leases.List(filters=filters).leases]


def resources(api: Client, id: str = "l") -> set[tuple[str, str]]:
    return {(r.id, r.type) for r in api.leases.ListResources(id=id).resources}


def add(api: Client, id: str, type: str, lease: str = "l") -> None:
    api.leases.AddResource(id=lease, resource={"id": id, "type": type})


def discard(api: Client, id: str, type: str, lease: str = "l") -> None:
    api.leases.DeleteResource(id=lease, resource={"id": id, "type": type})


def test_a_lease_is_made_shown_and_removed(api: Client) -> None:
    before = time.time_ns()
    made = api.leases.Create(id="l", labels={"a.b": "1", "empty": ""}).lease
    assert before <= made.created_at.ToNanoseconds() <= time.time_ns()
    assert (made.id, made.labels) == ("l", {"a.b": "1"})
    (found,) = api.leases.List().leases
    assert found == made
    api.leases.Delete(id="l")
    assert ids(api) == []


def test_a_lease_without_an_id_gets_one(api: Client) -> None:
    first, second = (api.leases.Create().lease.id for _ in range(2))
    assert first
    assert second
    assert first != second
    assert set(ids(api)) == {first, second}


def test_another_namespace_sees_nothing(api: Client, other: Client) -> None:
    api.leases.Create(id="l")
    assert ids(other) == []
    with other.refused("NOT_FOUND", "'l'"):
        other.leases.Delete(id="l")
    with other.refused("NOT_FOUND", "'l'"):
        resources(other)
    with other.refused("NOT_FOUND", "'l'"):
        add(other, DIGEST, "content")
    with other.refused("NOT_FOUND", "'l'"):
        discard(other, DIGEST, "content")
    other.leases.Create(id="l")
    api.leases.Delete(id="l")
    assert ids(other) == ["l"]


def test_a_namespace_is_needed(nobody: Client) -> None:
    for call in (
        lambda: nobody.leases.Create(id="l"),
        lambda: nobody.leases.Delete(id="l"),
        lambda: ids(nobody),
        lambda: add(nobody, DIGEST, "content"),
        lambda: discard(nobody, DIGEST, "content"),
        lambda: resources(nobody),
    ):
        with nobody.refused("FAILED_PRECONDITION", "namespace"):
            call()


def test_what_is_not_there(api: Client) -> None:
    for call in (
        lambda: api.leases.Delete(id="l"),
        lambda: api.leases.Delete(id="l", sync=True),
        lambda: add(api, DIGEST, "content"),
        lambda: discard(api, DIGEST, "content"),
        lambda: resources(api),
    ):
        with api.refused("NOT_FOUND", "'l'"):
            call()


def test_creating_it_twice_is_refused(api: Client) -> None:
    api.leases.Create(id="l")
    with api.refused("ALREADY_EXISTS", "'l'"):
        api.leases.Create(id="l")


@only_cored  # containerd takes any
def test_labels_are_limited(api: Client) -> None:
    with api.refused("INVALID_ARGUMENT", "4096"):
        api.leases.Create(id="l", labels={"k": "v" * 4096})


def test_filters(api: Client) -> None:
    api.leases.Create(id="a", labels={"tier": "web", "x.y/z": "1"})
    api.leases.Create(id="b")
    assert ids(api, "id==a") == ["a"]
    assert ids(api, "id==a", "id==b") == ["a", "b"]
    assert ids(api, "labels.tier==web") == ["a"]
    assert ids(api, 'labels."x.y/z"==1') == ["a"]
    assert ids(api, "labels.tier!=web") == ["b"]
    assert ids(api, "id==c") == []
    with api.refused("INVALID_ARGUMENT", "filter"):
        ids(api, "id=")


def test_resources_are_added_listed_and_removed(api: Client) -> None:
    api.leases.Create(id="l")
    assert resources(api) == set()
    for id, type in RESOURCES:
        add(api, id, type)
        add(api, id, type)
    assert resources(api) == set(RESOURCES)
    for id, type in RESOURCES:
        discard(api, id, type)
        discard(api, id, type)
    assert resources(api) == set()


@only_cored
def test_images_are_resources(api: Client) -> None:
    api.leases.Create(id="l")
    add(api, "docker.io/library/x:1", "images")
    assert resources(api) == {("docker.io/library/x:1", "images")}


@pytest.mark.parametrize(
    ("code", "id", "type"),
    [
        ("UNIMPLEMENTED", "x", "nonsense"),
        ("UNIMPLEMENTED", "x", ""),
        ("INVALID_ARGUMENT", "x", "snapshots"),
        ("INVALID_ARGUMENT", "x", "snapshots/a/b"),
        ("INVALID_ARGUMENT", DIGEST, "content/x"),
        ("INVALID_ARGUMENT", "some ref", "ingests/x"),
        ("INVALID_ARGUMENT", "x", "content"),
        ("INVALID_ARGUMENT", "sha256:abc", "content"),
    ],
)
def test_bad_resources_are_refused(api: Client, code: str, id: str, type: str) -> None:
    api.leases.Create(id="l")
    with api.refused(code, "'l'"):
        add(api, id, type)
    with api.refused(code, "'l'"):
        discard(api, id, type)
    assert resources(api) == set()


def leased(api: Client, lease: str = "l") -> Client:
    return api.within(api.namespace, lease)


def test_what_a_call_makes_belongs_to_the_lease_in_its_headers(api: Client) -> None:
    api.leases.Create(id="l")
    digest = leased(api).put(b"data of a lease")
    leased(api).snapshots.Prepare(snapshotter="overlayfs", key="k")
    leased(api).snapshots.View(snapshotter="native", key="v")
    expected = {
        (digest, "content"),
        ("k", "snapshots/overlayfs"),
        ("v", "snapshots/native"),
    }
    assert resources(api) == expected
    leased(api).snapshots.Commit(snapshotter="overlayfs", name="c", key="k")
    assert resources(api) == expected - {("k", "snapshots/overlayfs")} | {
        ("c", "snapshots/overlayfs")
    }


def test_an_ingest_belongs_to_the_lease_until_it_is_content(api: Client) -> None:
    api.leases.Create(id="l")
    request = api.content.Write.request
    list(leased(api).content.Write([request(action="WRITE", ref="r", data=b"half")]))
    assert resources(api) == {("r", "ingests")}
    answer, *_ = leased(api).content.Write([request(action="COMMIT", ref="r", offset=4)])
    assert resources(api) == {(answer.digest, "content")}


@pytest.mark.parametrize("make", ["snapshot", "content"])
def test_a_lease_that_is_gone_is_an_error(api: Client, make: str) -> None:
    with api.refused("NOT_FOUND", "'gone'"):
        if make == "content":
            leased(api, "gone").put(b"x")
        else:
            leased(api, "gone").snapshots.Prepare(snapshotter="overlayfs", key="k")


def collected(api: Client, digest: str) -> bool:
    """Whether a collection takes the content away; it runs before the call returns."""
    api.leases.Create(id="trigger")
    api.leases.Delete(id="trigger", sync=True)
    return not [i for page in api.content.List() for i in page.info if i.digest == digest]


def test_a_lease_keeps_what_it_lists_until_it_goes(api: Client) -> None:
    api.leases.Create(id="l")
    digest = leased(api).put(b"data of a lease")
    assert not collected(api, digest)
    discard(api, digest, "content")
    assert collected(api, digest)


def test_a_synchronous_delete_collects_before_it_answers(api: Client) -> None:
    api.leases.Create(id="l")
    digest = leased(api).put(b"data of a lease")
    api.leases.Delete(id="l", sync=True)
    with api.refused("NOT_FOUND", digest):
        api.content.Info(digest=digest)


def test_an_expired_lease_keeps_nothing(api: Client) -> None:
    past = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - 60))
    api.leases.Create(id="l", labels={"containerd.io/gc.expire": past})
    digest = leased(api).put(b"data of a lease")
    assert collected(api, digest)
    assert ids(api) == []


def test_content_that_is_there_belongs_to_its_second_writer_too(api: Client) -> None:
    api.leases.Create(id="l")
    api.leases.Create(id="m")
    digest = leased(api).put(b"data of a lease")
    request = api.content.Write.request(action="STAT", ref="again", expected=digest)
    with api.refused("ALREADY_EXISTS", digest):
        list(leased(api, "m").content.Write([request]))
    assert resources(api, "m") == {(digest, "content")}


@only_cored  # 1.6 rolls it back
def test_snapshots_that_are_there_belong_to_their_second_maker_too(api: Client) -> None:
    api.leases.Create(id="m")
    prepare(api, "k")
    with api.refused("ALREADY_EXISTS", "'k'"):
        prepare(leased(api, "m"), "k")
    api.snapshots.Commit(snapshotter="overlayfs", name="name", key="k")
    with api.refused("ALREADY_EXISTS", "'name'"):
        prepare(leased(api, "m"), "n", **{"containerd.io/snapshot.ref": "name"})
    # what is gone is still named, as containerd has it
    assert resources(api, "m") == {("k", "snapshots/overlayfs"), ("name", "snapshots/overlayfs")}


def prepare(api: Client, key: str, **labels: str) -> Any:
    return api.snapshots.Prepare(snapshotter="overlayfs", key=key, labels=labels)
