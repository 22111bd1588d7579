"""containerd.services.snapshots.v1.Snapshots"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from tests.grpc_client import Client, only_cored, opened

VIEW, ACTIVE, COMMITTED = 1, 2, 3


class Snapshots:
    """The service, with the snapshotter filled in."""

    def __init__(self, api: Client, snapshotter: str) -> None:
        self.api = api
        self.snapshotter = snapshotter

    def __getattr__(self, name: str) -> Any:
        rpc = getattr(self.api.snapshots, name)
        return lambda **fields: rpc(**{"snapshotter": self.snapshotter, **fields})

    def stat(self, key: str) -> Any:
        return self.Stat(key=key).info

    def names(self, *filters: str) -> set[str]:
        return {i.name for page in self.List(filters=filters) for i in page.info}

    def layer(self, name: str, parent: str = "", **labels: str) -> None:
        self.Prepare(key=f"{name}-active", parent=parent)
        self.Commit(name=name, key=f"{name}-active", labels=labels)


@pytest.fixture(params=["overlayfs", "native"])
def snapshots(api: Client, request: pytest.FixtureRequest) -> Snapshots:
    return Snapshots(api, request.param)


@pytest.fixture
def overlay(api: Client) -> Snapshots:
    return Snapshots(api, "overlayfs")


def test_a_snapshot_is_prepared_committed_and_removed(snapshots: Snapshots) -> None:
    before = time.time_ns()
    (mount,) = snapshots.Prepare(key="k", labels={"a.b/c": "1", "empty": ""}).mounts
    assert mount.type == "bind"
    assert "rw" in mount.options
    assert Path(mount.source).is_dir()
    made = snapshots.stat("k")
    assert (made.name, made.parent, made.kind, made.labels) == ("k", "", ACTIVE, {"a.b/c": "1"})
    assert before <= made.created_at.ToNanoseconds() <= time.time_ns()
    assert made.updated_at == made.created_at
    assert snapshots.Mounts(key="k").mounts == [mount]
    Path(mount.source, "file").write_bytes(b"x" * 5000)
    snapshots.Commit(name="c", key="k", labels={"d": "2"})
    committed = snapshots.stat("c")
    assert (committed.name, committed.kind, committed.labels) == ("c", COMMITTED, {"d": "2"})
    assert snapshots.names() == {"c"}
    usage = snapshots.Usage(key="c")
    assert usage.size >= 5000
    assert usage.inodes >= 2
    snapshots.Remove(key="c")
    assert snapshots.names() == set()


def test_children_have_parents(snapshots: Snapshots) -> None:
    snapshots.layer("one")
    snapshots.layer("two", "one")
    snapshots.Prepare(key="top", parent="two")
    assert snapshots.stat("top").parent == "two"
    assert snapshots.stat("two").parent == "one"
    for name in ("one", "two"):
        with snapshots.api.refused("FAILED_PRECONDITION", name):
            snapshots.Remove(key=name)
    for name in ("top", "two", "one"):
        snapshots.Remove(key=name)


def test_views_cannot_be_written_nor_committed(snapshots: Snapshots) -> None:
    snapshots.layer("one")
    mounts = snapshots.View(key="v", parent="one").mounts
    assert snapshots.stat("v").kind == VIEW
    assert "ro" in mounts[0].options or not any("upperdir" in o for o in mounts[0].options)
    if not (snapshots.api.oracle and snapshots.snapshotter == "native"):  # it has no directory
        with snapshots.api.refused("FAILED_PRECONDITION", "'v'"):
            snapshots.Commit(name="c", key="v")
    snapshots.Remove(key="v")


def test_an_overlay_names_its_layers(overlay: Snapshots) -> None:
    for name, parent in (("one", ""), ("two", "one")):
        overlay.layer(name, parent)
    (mount,) = overlay.Prepare(key="top", parent="two").mounts
    assert (mount.type, mount.source) == ("overlay", "overlay")
    names = [option.partition("=")[0] for option in mount.options]
    assert {"lowerdir", "upperdir", "workdir"} <= set(names)


@only_cored  # since 2.2
def test_a_commit_can_name_its_parent(overlay: Snapshots) -> None:
    overlay.layer("one")
    overlay.Prepare(key="free")
    overlay.Commit(name="two", key="free", parent="one")
    assert overlay.stat("two").parent == "one"
    overlay.Prepare(key="free")
    with overlay.api.refused("NOT_FOUND", "'absent'"):
        overlay.Commit(name="three", key="free", parent="absent")


def test_another_namespace_sees_nothing(api: Client, other: Client, overlay: Snapshots) -> None:
    overlay.layer("one")
    theirs = Snapshots(other, "overlayfs")
    assert theirs.names() == set()
    for call in (
        lambda: theirs.stat("one"),
        lambda: theirs.Mounts(key="one"),
        lambda: theirs.Usage(key="one"),
        lambda: theirs.Update(info={"name": "one"}),
        lambda: theirs.Remove(key="one"),
        lambda: theirs.Prepare(key="k", parent="one"),
        lambda: theirs.View(key="k", parent="one"),
        lambda: theirs.Commit(name="c", key="one"),
    ):
        with other.refused("NOT_FOUND"):
            call()
    theirs.layer("one")
    theirs.Remove(key="one")
    if not other.oracle:  # 1.6 has none for overlayfs
        theirs.Cleanup()
    assert overlay.names() == {"one"}
    assert overlay.stat("one").name == "one"


def test_another_snapshotter_sees_nothing(api: Client, overlay: Snapshots) -> None:
    overlay.layer("one")
    native = Snapshots(api, "native")
    assert native.names() == set()
    native.layer("one")
    native.Remove(key="one")
    assert overlay.names() == {"one"}


def calls(snapshots: Snapshots) -> list[Any]:
    return [
        lambda: snapshots.Prepare(key="k"),
        lambda: snapshots.View(key="k"),
        lambda: snapshots.Mounts(key="k"),
        lambda: snapshots.Commit(name="c", key="k"),
        lambda: snapshots.Remove(key="k"),
        lambda: snapshots.stat("k"),
        lambda: snapshots.Update(info={"name": "k"}),
        lambda: snapshots.names(),
        lambda: snapshots.Usage(key="k"),
        lambda: snapshots.Cleanup(),
    ]


def test_a_namespace_is_needed(nobody: Client) -> None:
    # containerd cleans up for everybody, and 1.6 does not know how
    for call in calls(Snapshots(nobody, "overlayfs"))[: -1 if nobody.oracle else None]:
        with nobody.refused("FAILED_PRECONDITION", "namespace"):
            call()


def test_unknown_snapshotters_are_refused(api: Client) -> None:
    for call in calls(Snapshots(api, "nonsense"))[: -1 if api.oracle else None]:
        with api.refused("INVALID_ARGUMENT", "'nonsense'"):
            call()


@only_cored  # containerd wants its name
def test_the_default_snapshotter_needs_no_name(api: Client) -> None:
    Snapshots(api, "").layer("one")
    assert Snapshots(api, "overlayfs").names() == {"one"}


def test_what_is_not_there(overlay: Snapshots) -> None:
    for call in (
        lambda: overlay.stat("k"),
        lambda: overlay.Mounts(key="k"),
        lambda: overlay.Usage(key="k"),
        lambda: overlay.Update(info={"name": "k"}),
        lambda: overlay.Remove(key="k"),
        lambda: overlay.Prepare(key="k", parent="absent"),
        lambda: overlay.View(key="k", parent="absent"),
        lambda: overlay.Commit(name="c", key="k"),
    ):
        with overlay.api.refused("NOT_FOUND"):
            call()
    assert overlay.names() == set()


def test_keys_are_taken_once(overlay: Snapshots) -> None:
    overlay.layer("one")
    overlay.Prepare(key="k")
    overlay.View(key="v", parent="one")
    for key in ("one", "k", "v"):
        for call in (
            lambda key=key: overlay.Prepare(key=key),
            lambda key=key: overlay.View(key=key, parent="one"),
        ):
            with overlay.api.refused("ALREADY_EXISTS", key):
                call()
    with overlay.api.refused("ALREADY_EXISTS", "'one'"):
        overlay.Commit(name="one", key="k")
    assert overlay.names() == {"one", "k", "v"}


def test_only_what_is_committed_can_be_a_parent(overlay: Snapshots) -> None:
    overlay.Prepare(key="k")
    for call in (
        lambda: overlay.Prepare(key="child", parent="k"),
        lambda: overlay.View(key="child", parent="k"),
    ):
        with overlay.api.refused("INVALID_ARGUMENT", "'k'"):
            call()
    overlay.layer("one")
    with overlay.api.refused("FAILED_PRECONDITION", "'one'"):
        overlay.Commit(name="two", key="one")


def test_what_is_committed_has_no_mounts(snapshots: Snapshots) -> None:
    snapshots.layer("one")
    with snapshots.api.refused("FAILED_PRECONDITION", "one"):
        snapshots.Mounts(key="one")


@only_cored  # containerd's database says that in words of its own
def test_empty_names_are_refused(overlay: Snapshots) -> None:
    overlay.Prepare(key="k")
    for call in (
        lambda: overlay.Prepare(key=""),
        lambda: overlay.View(key=""),
        lambda: overlay.Commit(name="", key="k"),
    ):
        with overlay.api.refused("INVALID_ARGUMENT"):
            call()


def test_names_are_free(overlay: Snapshots) -> None:
    for name in ("sha256:" + "a" * 64, "../../up", "ä b\n", "x" * 1000):
        overlay.layer(name)
        assert overlay.stat(name).name == name
        overlay.Remove(key=name)
    assert overlay.names() == set()


def test_labels_are_limited(overlay: Snapshots) -> None:
    big = {"k": "v" * 4096}
    overlay.Prepare(key="k")
    for call in (
        lambda: overlay.Prepare(key="x", labels=big),
        lambda: overlay.View(key="x", labels=big),
        lambda: overlay.Commit(name="x", key="k", labels=big),
        lambda: overlay.Update(info={"name": "k", "labels": big}),
    ):
        with overlay.api.refused("INVALID_ARGUMENT", "4096"):
            call()
    assert overlay.names() == {"k"}


def test_filters(overlay: Snapshots) -> None:
    overlay.layer("one", tier="web", **{"x.y/z": "1"})
    overlay.layer("two", "one")
    overlay.Prepare(key="a", parent="two", labels={"tier": "db"})
    overlay.View(key="v", parent="two")
    assert overlay.names("name==one") == {"one"}
    assert overlay.names("name==one", "name==a") == {"one", "a"}
    assert overlay.names("kind==committed") == {"one", "two"}
    assert overlay.names("kind==active") == {"a"}
    assert overlay.names("kind==view") == {"v"}
    assert overlay.names("parent==two") == {"a", "v"}
    assert overlay.names('parent==""') == {"one"}
    assert overlay.names("labels.tier") == {"one", "a"}
    assert overlay.names('labels."x.y/z"==1') == {"one"}
    assert overlay.names("kind!=committed,parent==two,labels.tier==db") == {"a"}
    with overlay.api.refused("INVALID_ARGUMENT", "filter"):
        overlay.names("kind=")


def test_long_lists_come_in_pages(overlay: Snapshots) -> None:
    for number in range(120):
        overlay.View(key=f"v{number}")
    pages = [len(page.info) for page in overlay.List()]
    assert sum(pages) == 120
    assert max(pages) <= 100


def test_labels_are_updated(overlay: Snapshots) -> None:
    overlay.Prepare(key="k", labels={"a.b": "1", "c": "2", "d": "3"})
    made = overlay.stat("k")

    def update(*paths: str, **labels: str) -> Any:
        answer = overlay.Update(
            info={"name": "k", "labels": labels}, update_mask={"paths": list(paths)}
        )
        assert overlay.stat("k").updated_at == answer.info.updated_at
        return overlay.stat("k").labels

    assert update("labels.a.b", "labels.d", **{"a.b": "9", "c": "9"}) == {"a.b": "9", "c": "2"}
    assert update("labels", c="4", e="") == {"c": "4"}
    assert update(f="5") == {"f": "5"}
    assert update() == {}
    assert overlay.stat("k").created_at == made.created_at
    assert overlay.stat("k").updated_at.ToNanoseconds() > made.updated_at.ToNanoseconds()


@pytest.mark.parametrize("path", ["name", "kind", "parent", "created_at", "nonsense"])
def test_masks_of_what_cannot_change_are_refused(overlay: Snapshots, path: str) -> None:
    overlay.Prepare(key="k")
    for other in ("labels", "labels.a"):
        with overlay.api.refused("INVALID_ARGUMENT", path):
            overlay.Update(
                info={"name": "k", "labels": {"a": "1"}}, update_mask={"paths": [other, path]}
            )
    assert not overlay.stat("k").labels


def test_an_update_needs_a_name(overlay: Snapshots) -> None:
    with overlay.api.refused("INVALID_ARGUMENT"):
        overlay.Update(info={"labels": {"a": "1"}})


def test_the_committed_target_of_a_prepare_may_be_there(overlay: Snapshots) -> None:
    """What remote snapshotters' clients ask with: the label names what they are about to make."""
    overlay.layer("chain-id")
    with overlay.api.refused("ALREADY_EXISTS", "'chain-id'"):
        overlay.Prepare(key="k", labels={"containerd.io/snapshot.ref": "chain-id"})
    assert overlay.names() == {"chain-id"}
    overlay.Prepare(key="k", labels={"containerd.io/snapshot.ref": "another"})
    assert overlay.names() == {"chain-id", "k"}


@only_cored  # 1.6 does not know it for these
def test_clean_up_answers(snapshots: Snapshots) -> None:
    snapshots.layer("one")
    snapshots.Cleanup()
    assert snapshots.names() == {"one"}


def test_events(api: Client, overlay: Snapshots) -> None:
    with api.watching() as seen:
        overlay.Prepare(key="k", parent="")
        with api.refused("ALREADY_EXISTS"):
            overlay.Prepare(key="k")
        overlay.Update(info={"name": "k", "labels": {"a": "1"}})
        overlay.Commit(name="c", key="k")
        overlay.View(key="v", parent="c")
        overlay.Remove(key="v")
        overlay.Prepare(key="top", parent="c")
        with api.refused("NOT_FOUND"):
            overlay.Remove(key="absent")
    assert [e.event.type_url.rpartition(".")[2] for e in seen.envelopes] == [
        "SnapshotPrepare",
        "SnapshotCommit",
        "SnapshotRemove",
        "SnapshotPrepare",
    ]
    assert seen.topics == [
        "/snapshot/prepare",
        "/snapshot/commit",
        "/snapshot/remove",
        "/snapshot/prepare",
    ]
    prepared, committed, removed, second = map(opened, seen.envelopes)
    assert (prepared.key, prepared.parent) == ("k", "")
    assert (committed.key, committed.name) == ("k", "c")
    assert removed.key == "v"
    assert (second.key, second.parent) == ("top", "c")
    if not api.oracle:  # since 1.7
        assert {e.snapshotter for e in (prepared, committed, removed)} == {"overlayfs"}
