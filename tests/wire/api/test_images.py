"""containerd.services.images.v1.Images"""

from __future__ import annotations

import time
from typing import Any

import pytest

from tests.grpc_client import Client, only_cored, opened

DIGEST = "sha256:" + "a" * 64
OTHER = "sha256:" + "b" * 64
MANIFEST = "application/vnd.oci.image.manifest.v1+json"


def target(digest: str = DIGEST, **fields: Any) -> dict[str, Any]:
    return {"media_type": MANIFEST, "digest": digest, "size": 7, **fields}


def create(api: Client, name: str, **fields: Any) -> Any:
    wanted = {"name": name, "target": target(), **fields}
    return api.images.Create(image=wanted).image


def update(api: Client, *paths: str, **fields: Any) -> Any:
    wanted = {"name": "i", "target": target(), **fields}
    return api.images.Update(image=wanted, update_mask={"paths": list(paths)}).image


def get(api: Client, name: str = "i") -> Any:
    return api.images.Get(name=name).image


def names(api: Client, *filters: str) -> list[str]:
    return [i.name for i in api.images.List(filters=filters).images]


def test_an_image_keeps_every_field(api: Client) -> None:
    before = time.time_ns()
    made = create(api, "docker.io/library/x:1", labels={"a.b/c": "1"})
    assert before <= made.created_at.ToNanoseconds() <= time.time_ns()
    assert made.updated_at == made.created_at
    found = get(api, "docker.io/library/x:1")
    assert found == made
    assert found.labels == {"a.b/c": "1"}
    assert (found.target.digest, found.target.media_type, found.target.size) == (
        DIGEST,
        MANIFEST,
        7,
    )


@only_cored  # 1.6 does not keep them
def test_annotations_of_the_target_are_kept(api: Client) -> None:
    create(api, "i", target=target(annotations={"org.x/y": "1", "empty": ""}))
    assert get(api).target.annotations == {"org.x/y": "1"}


@only_cored  # since 1.7
def test_the_source_date_epoch_is_its_date(api: Client) -> None:
    epoch = {"seconds": 1_000_000_000, "nanos": 5}
    made = api.images.Create(image={"name": "i", "target": target()}, source_date_epoch=epoch).image
    assert made.created_at.ToNanoseconds() == 1_000_000_000_000_000_005
    assert made.updated_at == made.created_at
    later = {"seconds": 2_000_000_000}
    changed = api.images.Update(
        image={"name": "i", "target": target()}, source_date_epoch=later
    ).image
    assert changed.created_at == made.created_at
    assert changed.updated_at.seconds == 2_000_000_000
    assert get(api) == changed


def test_lists_are_ordered(api: Client) -> None:
    for name in ("b", "a", "c"):
        create(api, name)
    assert names(api) == ["a", "b", "c"]


def test_names_are_free(api: Client) -> None:
    odd = "what ever/ä:∞@x"
    create(api, odd)
    assert names(api) == [odd]
    api.images.Delete(name=odd)


def test_another_namespace_sees_nothing(api: Client, other: Client) -> None:
    create(api, "i")
    assert names(other) == []
    for call in (
        lambda: get(other),
        lambda: update(other),
        lambda: other.images.Delete(name="i"),
    ):
        with other.refused("NOT_FOUND", "'i'"):
            call()
    create(other, "i", labels={"mine": "1"})
    assert not get(api).labels


def test_a_namespace_is_needed(nobody: Client) -> None:
    for call in (
        lambda: get(nobody),
        lambda: names(nobody),
        lambda: create(nobody, "i"),
        lambda: update(nobody),
        lambda: nobody.images.Delete(name="i"),
    ):
        with nobody.refused("FAILED_PRECONDITION", "namespace"):
            call()


def test_what_is_not_there(api: Client) -> None:
    for call in (
        lambda: get(api),
        lambda: update(api),
        lambda: api.images.Delete(name="i"),
        lambda: api.images.Delete(name="i", sync=True),
    ):
        with api.refused("NOT_FOUND", "'i'"):
            call()


def test_creating_it_twice_is_refused(api: Client) -> None:
    create(api, "i", labels={"first": "1"})
    with api.refused("ALREADY_EXISTS", "'i'"):
        create(api, "i", labels={"second": "1"})
    assert get(api).labels == {"first": "1"}


@pytest.mark.parametrize(
    "fields",
    [
        {"name": ""},
        {"target": {}},
        {"target": target("")},
        {"target": target("nonsense")},
        {"target": target("sha256:abc")},
        {"target": target("sha256:" + "A" * 64)},
        {"target": target("md5:" + "a" * 32)},
        {"target": target(media_type="")},
        {"target": target(size=0)},
        {"target": target(size=-1)},
        {"labels": {"k": "v" * 4096}},
    ],
    ids=lambda fields: str(fields)[:40],
)
def test_bad_records_are_refused(api: Client, fields: dict[str, Any]) -> None:
    with api.refused("INVALID_ARGUMENT"):
        api.images.Create(image={"name": "i", "target": target(), **fields})
    assert names(api) == []
    create(api, "i")
    with api.refused("INVALID_ARGUMENT"):
        update(api, **fields)


def test_longer_digests_are_taken(api: Client) -> None:
    digest = "sha512:" + "a" * 128
    create(api, "i", target=target(digest))
    assert get(api).target.digest == digest


def test_filters(api: Client) -> None:
    create(api, "a/b:1", labels={"tier": "web", "x.y/z": "1"})
    create(api, "c:2", target=target(OTHER, media_type="application/other"))
    assert names(api, "name==a/b:1") == ["a/b:1"]
    assert names(api, 'name=="a/b:1"', "name==c:2") == ["a/b:1", "c:2"]
    assert names(api, f"target.digest=={OTHER}") == ["c:2"]
    assert names(api, f"target.digest~=/^{DIGEST[:12]}/") == ["a/b:1"]
    assert names(api, "target.mediatype==application/other") == ["c:2"]
    assert names(api, "labels.tier==web") == ["a/b:1"]
    assert names(api, 'labels."x.y/z"') == ["a/b:1"]
    assert names(api, "labels.tier!=web") == ["c:2"]
    assert names(api, "target") == []
    assert names(api, "labels") == []
    with api.refused("INVALID_ARGUMENT", "filter"):
        names(api, "name==a", "=")


@only_cored
def test_annotations_can_be_filtered(api: Client) -> None:
    create(api, "i", target=target(annotations={"a.b": "1"}))
    create(api, "j")
    assert names(api, 'annotations."a.b"==1') == ["i"]
    assert names(api, "annotations.a.b") == ["i"]


def test_an_update_without_a_mask_replaces_all(api: Client) -> None:
    made = create(api, "i", labels={"a": "1"})
    update(api, labels={"b": "2"}, target=target(OTHER))
    found = get(api)
    assert (found.labels, found.target.digest) == ({"b": "2"}, OTHER)
    assert found.created_at == made.created_at
    assert found.updated_at.ToNanoseconds() > made.updated_at.ToNanoseconds()


def test_a_mask_names_what_changes(api: Client) -> None:
    create(api, "i", labels={"a.b": "1", "c": "2", "d": "3"})
    given = {"labels": {"a.b": "9", "c": "9", "e": ""}, "target": target(OTHER)}
    update(api, "labels.a.b", "labels.d", "labels.e", **given)
    assert (get(api).labels, get(api).target.digest) == ({"a.b": "9", "c": "2"}, DIGEST)
    update(api, "target", **given)
    assert (get(api).labels, get(api).target.digest) == ({"a.b": "9", "c": "2"}, OTHER)
    update(api, "labels", **given)
    assert get(api).labels == {"a.b": "9", "c": "9"}


@only_cored
def test_masks_name_annotations_beside_the_target(api: Client) -> None:
    create(api, "i", target=target(annotations={"a.b": "1", "c": "2"}))
    given = target(OTHER, annotations={"a.b": "9", "c": "9"})
    update(api, "annotations.a.b", target=given)
    assert get(api).target.annotations == {"a.b": "9", "c": "2"}
    assert get(api).target.digest == DIGEST
    update(api, "annotations", target=given)
    assert get(api).target.annotations == {"a.b": "9", "c": "9"}
    assert get(api).target.digest == DIGEST


@pytest.mark.parametrize("path", ["name", "created_at", "nonsense", "target.digest"])
def test_masks_of_what_cannot_change_are_refused(api: Client, path: str) -> None:
    create(api, "i")
    with api.refused("INVALID_ARGUMENT", path):
        update(api, "labels", path, labels={"a": "1"}, target=target(OTHER))
    assert not get(api).labels
    assert get(api).target.digest == DIGEST


@only_cored  # 2.x: the image must still be what the caller has seen
def test_a_delete_can_name_the_target_it_means(api: Client) -> None:
    create(api, "i")
    with api.refused("NOT_FOUND", OTHER[:10]):
        api.images.Delete(name="i", target=target(OTHER))
    assert names(api) == ["i"]
    api.images.Delete(name="i", target=target(DIGEST))
    assert names(api) == []
    create(api, "i")
    api.images.Delete(name="i", target={})
    assert names(api) == []


def test_a_synchronous_delete_collects_before_it_answers(api: Client) -> None:
    data = b"a manifest of nobody else"
    api.leases.Create(id="until")
    digest = api.within(api.namespace, "until").put(data)
    create(api, "i", target=target(digest, size=len(data)))
    api.leases.Delete(id="until", sync=True)
    assert api.content.Info(digest=digest).info.size == len(data)
    api.images.Delete(name="i", sync=True)
    with api.refused("NOT_FOUND"):
        api.content.Info(digest=digest)


def test_events(api: Client) -> None:
    with api.watching() as seen:
        create(api, "i", labels={"a": "1"})
        with api.refused("ALREADY_EXISTS"):
            create(api, "i")
        update(api, labels={"b": "2"})
        api.images.Delete(name="i")
        with api.refused("NOT_FOUND"):
            api.images.Delete(name="i")
    assert seen.topics == ["/images/create", "/images/update", "/images/delete"]
    assert [e.event.type_url for e in seen.envelopes] == [
        "containerd.services.images.v1.ImageCreate",
        "containerd.services.images.v1.ImageUpdate",
        "containerd.services.images.v1.ImageDelete",
    ]
    created, updated, deleted = map(opened, seen.envelopes)
    assert (created.name, created.labels) == ("i", {"a": "1"})
    assert (updated.name, updated.labels) == ("i", {"b": "2"})
    assert deleted.name == "i"
