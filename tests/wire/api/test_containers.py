"""containerd.services.containers.v1.Containers"""

from __future__ import annotations

import time
from typing import Any

import pytest

from tests.grpc_client import Client, kept, only_cored, opened

SPEC = kept("types.containerd.io/opencontainers/runtime-spec/1/Spec", b'{"ociVersion":"1.0.2"}')
OPTIONS = kept("containerd.runc.v1.Options", b"\x08\x01")


def record(id: str, **fields: Any) -> dict[str, Any]:
    return {"id": id, "runtime": {"name": "io.containerd.runc.v2"}, "spec": SPEC, **fields}


def create(api: Client, id: str, **fields: Any) -> Any:
    return api.containers.Create(container=record(id, **fields)).container


def update(api: Client, *paths: str, **fields: Any) -> Any:
    return api.containers.Update(
        container=record("c", **fields), update_mask={"paths": list(paths)}
    ).container


def ids(api: Client, *filters: str) -> list[str]:
    return [c.id for c in api.containers.List(filters=filters).containers]


def test_a_container_keeps_every_field(api: Client) -> None:
    before = time.time_ns()
    made = create(
        api,
        "c",
        labels={"a.b/c": "1"},
        image="docker.io/library/x:1",
        runtime={"name": "io.containerd.runc.v2", "options": OPTIONS},
        snapshotter="overlayfs",
        snapshot_key="key",
        extensions={"e.x": kept("some.Type", b"\x00\xff")},
    )
    assert before <= made.created_at.ToNanoseconds() <= time.time_ns()
    assert made.updated_at == made.created_at
    found = api.containers.Get(id="c").container
    assert found == made
    assert found.labels == {"a.b/c": "1"}
    assert (found.image, found.snapshotter, found.snapshot_key) == (
        "docker.io/library/x:1",
        "overlayfs",
        "key",
    )
    assert found.runtime.options == OPTIONS
    assert found.spec == SPEC
    assert found.extensions["e.x"] == kept("some.Type", b"\x00\xff")


@only_cored
def test_the_sandbox_is_kept(api: Client) -> None:
    create(api, "c", sandbox="pod")
    assert api.containers.Get(id="c").container.sandbox == "pod"


def test_lists_are_ordered_and_streamed_too(api: Client) -> None:
    for id in ("b", "a", "c"):
        create(api, id)
    assert ids(api) == ["a", "b", "c"]
    assert [m.container.id for m in api.containers.ListStream()] == ["a", "b", "c"]
    assert [m.container.id for m in api.containers.ListStream(filters=["id==b"])] == ["b"]


def test_another_namespace_sees_nothing(api: Client, other: Client) -> None:
    create(api, "c")
    assert ids(other) == []
    assert list(other.containers.ListStream()) == []
    with other.refused("NOT_FOUND", "'c'"):
        other.containers.Get(id="c")
    with other.refused("NOT_FOUND", "'c'"):
        other.containers.Update(container=record("c"))
    with other.refused("NOT_FOUND", "'c'"):
        other.containers.Delete(id="c")
    create(other, "c", labels={"mine": "1"})
    assert not api.containers.Get(id="c").container.labels


def test_a_namespace_is_needed(nobody: Client) -> None:
    for call in (
        lambda: nobody.containers.Get(id="c"),
        lambda: nobody.containers.List(),
        lambda: list(nobody.containers.ListStream()),
        lambda: nobody.containers.Create(container=record("c")),
        lambda: nobody.containers.Update(container=record("c")),
        lambda: nobody.containers.Delete(id="c"),
    ):
        with nobody.refused("FAILED_PRECONDITION", "namespace"):
            call()


def test_a_bad_namespace_is_refused(api: Client) -> None:
    for bad in ("a/b", "-", "x" * 77):
        with api.refused("INVALID_ARGUMENT", "namespace"):
            ids(api.within(bad))
    with api.refused("FAILED_PRECONDITION", "namespace"):
        ids(api.within(""))


def test_what_is_not_there(api: Client) -> None:
    for call in (
        lambda: api.containers.Get(id="c"),
        lambda: api.containers.Get(),
        lambda: api.containers.Update(container=record("c")),
        lambda: api.containers.Delete(id="c"),
    ):
        with api.refused("NOT_FOUND"):
            call()


def test_creating_it_twice_is_refused(api: Client) -> None:
    create(api, "c", image="first")
    with api.refused("ALREADY_EXISTS", "'c'"):
        create(api, "c", image="second")
    assert api.containers.Get(id="c").container.image == "first"


@pytest.mark.parametrize(
    "fields",
    [
        {"id": ""},
        {"id": "a/b"},
        {"id": "-a"},
        {"id": "x" * 77},
        {"runtime": None},
        {"spec": None},
        {"snapshot_key": "k"},
        {"labels": {"k": "v" * 4096}},
        {"extensions": {"": kept("a.B")}},
    ],
    ids=lambda fields: next(iter(fields)),
)
def test_bad_records_are_refused(api: Client, fields: dict[str, Any]) -> None:
    wanted = {k: v for k, v in (record("c") | fields).items() if v is not None}
    with api.refused("INVALID_ARGUMENT"):
        api.containers.Create(container=wanted)
    assert ids(api) == []


def test_filters(api: Client) -> None:
    create(api, "a", image="one", labels={"tier": "web", "x.y/z": "1"})
    create(api, "b", image="two", labels={"tier": "db"})
    create(api, "c", runtime={"name": "io.other.v1"})
    assert ids(api, "id==a") == ["a"]
    assert ids(api, "id!=a") == ["b", "c"]
    assert ids(api, "image==one", "image==two") == ["a", "b"]
    assert ids(api, "image") == ["a", "b"]
    assert ids(api, "image!=one") == ["b", "c"]
    assert ids(api, "labels.tier==web") == ["a"]
    assert ids(api, 'labels."x.y/z"==1') == ["a"]
    assert ids(api, "labels.tier!=web") == ["b", "c"]
    assert ids(api, "labels.tier") == ["a", "b"]
    assert ids(api, "runtime.name==io.other.v1") == ["c"]
    assert ids(api, "image==one,labels.tier==db") == []
    assert ids(api, "id~=/^[ab]$/") == ["a", "b"]
    assert ids(api, 'id~="^(a|c)$"') == ["a", "c"]
    assert ids(api, "labels.tier~=/.*/") == ["a", "b", "c"], "absent is empty to a pattern"
    assert ids(api, "labels.tier~=|^(web)?$|") == ["a", "c"]
    assert ids(api, r"image~=/^\\w+$/") == ["a", "b"], "quotes take escapes"
    assert ids(api, "") == ["a", "b", "c"]
    assert ids(api, "nonsense==1") == []
    assert ids(api, " id ==\ta, image==one") == ["a"], "space before a token does not count"


@pytest.mark.parametrize(
    "bad",
    [
        *(
            "==",
            "id=",
            "id=a",
            "id==",
            "id==a,",
            ",",
            "id===a",
            "a b",
            'id=="a',
            "\0",
            " ",
            "id==a ",
        ),
        *('id=="\\q"', "id~=/\\d/", 'id=="a"b', "id!==a", ".id", "id..a", "id ,image"),
    ],
)
def test_bad_filters_are_refused(api: Client, bad: str) -> None:
    with api.refused("INVALID_ARGUMENT", "filter"):
        ids(api, bad)
    with api.refused("INVALID_ARGUMENT", "filter"):
        list(api.containers.ListStream(filters=["id==a", bad]))


@only_cored  # containerd matches nothing, and tells its log
def test_bad_patterns_are_refused(api: Client) -> None:
    with api.refused("INVALID_ARGUMENT", "regular expression"):
        ids(api, "id~=[")


def test_an_update_without_a_mask_replaces_what_can_change(api: Client) -> None:
    made = create(api, "c", labels={"a": "1"}, image="one")
    spec = kept(SPEC.type_url, b'{"ociVersion":"1.1.0"}')
    extensions = {"x": kept("a.B", b"1")}
    update(api, labels={"b": "2"}, image="two", spec=spec, extensions=extensions)
    found = api.containers.Get(id="c").container
    assert (found.labels, found.image, found.spec) == ({"b": "2"}, "two", spec)
    assert found.extensions == extensions
    assert found.created_at == made.created_at
    assert found.updated_at.ToNanoseconds() > made.updated_at.ToNanoseconds()


def test_a_mask_names_what_changes(api: Client) -> None:
    create(
        api,
        "c",
        labels={"a.b": "1", "c": "2", "d": "3"},
        image="one",
        snapshotter="overlayfs",
        extensions={"x.y": kept("a.B", b"1"), "z": kept("a.B", b"2")},
    )
    given = {
        "labels": {"a.b": "9", "c": "9"},
        "image": "two",
        "snapshot_key": "key",
        "extensions": {"x.y": kept("a.B", b"9"), "z": kept("a.B", b"9")},
    }
    update(api, "labels.a.b", "labels.d", "extensions.x.y", **given)
    found = api.containers.Get(id="c").container
    assert found.labels == {"a.b": "9", "c": "2"}
    assert {k: v.value for k, v in found.extensions.items()} == {"x.y": b"9", "z": b"2"}
    assert (found.image, found.snapshot_key) == ("one", "")
    update(api, "image", "snapshotkey", "labels", **given)
    found = api.containers.Get(id="c").container
    assert (found.image, found.snapshot_key) == ("two", "key")
    assert found.labels == {"a.b": "9", "c": "9"}


@pytest.mark.parametrize(
    "path", ["id", "runtime", "runtime.name", "snapshotter", "created_at", "nonsense", "image.x"]
)
def test_masks_of_what_cannot_change_are_refused(api: Client, path: str) -> None:
    create(api, "c", image="one")
    with api.refused("INVALID_ARGUMENT", path):
        update(api, "image", path, image="two")
    assert api.containers.Get(id="c").container.image == "one"


@pytest.mark.parametrize(
    "fields",
    [
        {"runtime": {"name": "io.other.v1"}},
        {"runtime": {}},
        {"snapshotter": "native"},
        {"snapshotter": ""},
        {"labels": {"k": "v" * 4096}},
    ],
    ids=str,
)
def test_updates_of_what_cannot_change_are_refused(api: Client, fields: dict[str, Any]) -> None:
    create(api, "c", snapshotter="overlayfs")
    with api.refused("INVALID_ARGUMENT"):
        update(api, **{"snapshotter": "overlayfs", "image": "new", **fields})
    assert api.containers.Get(id="c").container.image == ""


def test_an_update_needs_an_id(api: Client) -> None:
    with api.refused("INVALID_ARGUMENT"):
        api.containers.Update(container=record(""))


def test_a_label_without_a_value_is_none(api: Client) -> None:
    create(api, "c", labels={"a": "", "b": "1"})
    assert api.containers.Get(id="c").container.labels == {"b": "1"}
    update(api, "labels.b", labels={"b": ""})
    assert not api.containers.Get(id="c").container.labels


def test_events(api: Client) -> None:
    with api.watching() as seen:
        create(api, "c", image="one", runtime={"name": "io.containerd.runc.v2", "options": OPTIONS})
        with api.refused("ALREADY_EXISTS"):
            create(api, "c")
        update(api, image="two", labels={"a": "1"})
        with api.refused("INVALID_ARGUMENT"):
            update(api, "nonsense")
        api.containers.Delete(id="c")
        with api.refused("NOT_FOUND"):
            api.containers.Delete(id="c")
    assert seen.topics == ["/containers/create", "/containers/update", "/containers/delete"]
    assert [e.event.type_url for e in seen.envelopes] == [
        "containerd.events.ContainerCreate",
        "containerd.events.ContainerUpdate",
        "containerd.events.ContainerDelete",
    ]
    assert {e.namespace for e in seen.envelopes} == {api.namespace}
    created, updated, deleted = map(opened, seen.envelopes)
    assert (created.id, created.image, created.runtime.name) == (
        "c",
        "one",
        "io.containerd.runc.v2",
    )
    assert created.runtime.options == OPTIONS
    assert (updated.id, updated.image, updated.labels) == ("c", "two", {"a": "1"})
    assert deleted.id == "c"


def test_many_containers_are_listed(api: Client) -> None:
    for number in range(150):
        create(api, f"c{number:03}")
    assert len(ids(api)) == 150
    assert len(list(api.containers.ListStream())) == 150
