"""containerd.services.namespaces.v1.Namespaces"""

from __future__ import annotations

from typing import Any

import pytest

from tests.grpc_client import Client, only_cored, opened


@pytest.fixture
def name(api: Client) -> str:
    """A namespace that nobody has made."""
    return f"{api.namespace}-new"


def create(api: Client, name: str, **labels: str) -> Any:
    return api.namespaces.Create(namespace={"name": name, "labels": labels}).namespace


def names(api: Client, filter: str = "") -> set[str]:
    return {n.name for n in api.namespaces.List(filter=filter).namespaces}


def labels(api: Client, name: str) -> dict[str, str]:
    return dict(api.namespaces.Get(name=name).namespace.labels)


def test_a_namespace_is_made_shown_and_removed(api: Client, name: str) -> None:
    made = create(api, name, a="1")
    assert (made.name, made.labels) == (name, {"a": "1"})
    assert labels(api, name) == {"a": "1"}
    assert name in names(api)
    api.namespaces.Delete(name=name)
    assert name not in names(api)


@only_cored  # 1.6 publishes in the namespace of the headers
def test_no_namespace_is_needed_in_the_headers(nobody: Client, name: str) -> None:
    create(nobody, name)
    assert name in names(nobody)
    nobody.namespaces.Update(namespace={"name": name, "labels": {"a": "1"}})
    assert labels(nobody, name) == {"a": "1"}
    nobody.namespaces.Delete(name=name)


def test_a_namespace_that_nobody_made_has_no_labels(api: Client, name: str) -> None:
    found = api.namespaces.Get(name=name).namespace
    assert (found.name, found.labels) == (name, {})
    assert name not in names(api)


def test_a_namespace_comes_to_life_by_use(api: Client) -> None:
    assert api.namespace not in names(api)
    api.leases.Create(id="x")
    assert api.namespace in names(api)


def test_making_one_twice_is_refused(api: Client, name: str) -> None:
    create(api, name)
    with api.refused("ALREADY_EXISTS", name):
        create(api, name)


@pytest.mark.parametrize("bad", ["", "-a", "a-", "a..b", "a/b", "ä", "a b", "a\n", "x" * 77])
def test_bad_names_are_refused(api: Client, bad: str) -> None:
    with api.refused("INVALID_ARGUMENT", "namespace"):
        create(api, bad)


def test_the_longest_name_is_taken(api: Client, name: str) -> None:
    longest = name + "x" * (76 - len(name))
    create(api, longest)
    assert longest in names(api)


def test_a_label_has_at_most_4096_bytes(api: Client, name: str) -> None:
    create(api, name, k="v" * 4095)
    with api.refused("INVALID_ARGUMENT", "4096"):
        create(api, f"{name}2", k="v" * 4096)
    with api.refused("INVALID_ARGUMENT", "4096"):
        create(api, f"{name}2", k="ä" * 2048)
    with api.refused("INVALID_ARGUMENT", "4096"):
        api.namespaces.Update(namespace={"name": name, "labels": {"k": "v" * 4096}})
    assert f"{name}2" not in names(api)


@only_cored  # containerd does not look at the filter
def test_a_list_can_be_filtered(api: Client, name: str) -> None:
    create(api, name, **{"a.b": "1"})
    create(api, f"{name}2")
    assert names(api, f"name=={name}") == {name}
    assert names(api, f'name~="^{name}",labels."a.b"==1') == {name}
    with api.refused("INVALID_ARGUMENT", "filter"):
        names(api, "name=[")


def test_an_update_replaces_all_labels(api: Client, name: str) -> None:
    create(api, name, a="1", b="2")
    api.namespaces.Update(namespace={"name": name, "labels": {"b": "3", "c": "4"}})
    assert labels(api, name) == {"b": "3", "c": "4"}


def test_a_mask_names_single_labels_dots_and_all(api: Client, name: str) -> None:
    create(api, name, **{"a.b/c": "1", "b": "2", "d": "3"})
    api.namespaces.Update(
        namespace={"name": name, "labels": {"a.b/c": "9", "b": "9"}},
        update_mask={"paths": ["labels.a.b/c", "labels.d"]},
    )
    assert labels(api, name) == {"a.b/c": "9", "b": "2"}


@pytest.mark.parametrize("path", ["name", "nonsense", "label", "label.s"])
def test_masks_of_other_fields_are_refused(api: Client, name: str, path: str) -> None:
    create(api, name)
    with api.refused("INVALID_ARGUMENT", path):
        api.namespaces.Update(namespace={"name": name}, update_mask={"paths": [path]})


def test_what_is_not_there_cannot_be_removed(api: Client, name: str) -> None:
    with api.refused("NOT_FOUND", name):
        api.namespaces.Delete(name=name)


def test_a_namespace_with_something_in_it_stays(api: Client, name: str) -> None:
    inside = api.within(name)
    inside.snapshots.Prepare(snapshotter="overlayfs", key="k")
    with api.refused("FAILED_PRECONDITION", "snapshot"):
        api.namespaces.Delete(name=name)
    inside.snapshots.Remove(snapshotter="overlayfs", key="k")
    api.namespaces.Delete(name=name)
    assert name not in names(api)


def test_leases_go_with_their_namespace(api: Client, name: str) -> None:
    api.within(name).leases.Create(id="mine")
    api.namespaces.Delete(name=name)
    assert not api.within(name).leases.List().leases


def test_events_come_in_order_in_the_namespace_itself(api: Client, name: str) -> None:
    headers = api.within(name) if api.oracle else api  # 1.6 takes the one of the headers
    with api.watching(f"namespace=={name}") as seen:
        create(headers, name, a="1")
        headers.namespaces.Update(namespace={"name": name, "labels": {"b": "2"}})
        headers.namespaces.Delete(name=name)
    assert seen.topics == ["/namespaces/create", "/namespaces/update", "/namespaces/delete"]
    created, updated, deleted = seen.envelopes
    assert created.event.type_url == "containerd.events.NamespaceCreate"
    assert (opened(created).name, opened(created).labels) == (name, {"a": "1"})
    assert updated.event.type_url == "containerd.events.NamespaceUpdate"
    assert (opened(updated).name, opened(updated).labels) == (name, {"b": "2"})
    assert deleted.event.type_url == "containerd.events.NamespaceDelete"
    assert opened(deleted).name == name
    assert 0 < created.timestamp.ToNanoseconds() <= deleted.timestamp.ToNanoseconds()


def test_nothing_is_published_when_it_failed(api: Client, name: str) -> None:
    create(api, name)
    with api.watching(f"namespace=={name}", f"namespace=={api.namespace}") as seen:
        with api.refused("ALREADY_EXISTS"):
            create(api, name)
        with api.refused("INVALID_ARGUMENT"):
            api.namespaces.Update(namespace={"name": name}, update_mask={"paths": ["x"]})
    assert seen.topics == []
