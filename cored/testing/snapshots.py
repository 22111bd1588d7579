"""What every snapshotter must do (:mod:`cored.abc.snapshots`). Needs root: it mounts."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cored import linux
from cored.abc.snapshots import Kind, Snapshotter
from cored.abc.values import Mount
from cored.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound, Unimplemented

__all__ = ["SnapshotterContract"]


@contextmanager
def shown(mounts: list[Mount]) -> Iterator[Path]:
    """The mounts as a directory."""
    with linux.mounted(mounts) as place:
        yield place


async def committed(
    snapshotter: Snapshotter, name: str, parent: str, files: dict[str, str | None]
) -> None:
    """A committed snapshot that writes files over its parent; None removes one."""
    with shown(await snapshotter.prepare(f"make-{name}", parent)) as root:
        for path, text in files.items():
            if text is None:
                (root / path).unlink()
            else:
                (root / path).parent.mkdir(parents=True, exist_ok=True)
                (root / path).write_text(text)
    await snapshotter.commit(name, f"make-{name}")


class SnapshotterContract:
    """Subclass it with a fixture ``snapshotter`` that yields an empty one."""

    async def test_an_active_snapshot_can_be_written(self, snapshotter: Snapshotter) -> None:
        with shown(await snapshotter.prepare("a")) as root:
            (root / "file").write_text("text")
        with shown(await snapshotter.mounts("a")) as root:
            assert (root / "file").read_text() == "text"
        assert (await snapshotter.stat("a")).kind is Kind.ACTIVE

    async def test_a_tree_begins_empty_and_open_to_all(self, snapshotter: Snapshotter) -> None:
        with shown(await snapshotter.prepare("a")) as root:
            assert list(root.iterdir()) == []
            assert root.stat().st_mode & 0o777 == 0o755

    async def test_a_view_cannot_be_written(self, snapshotter: Snapshotter) -> None:
        await committed(snapshotter, "base", "", {"file": "text"})
        with shown(await snapshotter.view("v", "base")) as root:
            assert (root / "file").read_text() == "text"
            with pytest.raises(OSError, match="Read-only"):
                (root / "other").write_text("x")

    async def test_layers_stack_and_hide(self, snapshotter: Snapshotter) -> None:
        await committed(snapshotter, "one", "", {"a": "1", "b": "1", "d/e": "1"})
        await committed(snapshotter, "two", "one", {"a": "2", "b": None})
        await committed(snapshotter, "three", "two", {"c": "3"})
        with shown(await snapshotter.view("v", "three")) as root:
            found = {p.name: p.read_text() for p in root.iterdir() if p.is_file()}
            assert found == {"a": "2", "c": "3"}
            assert (root / "d/e").read_text() == "1"

    async def test_a_directory_that_was_made_anew_is_empty(self, snapshotter: Snapshotter) -> None:
        await committed(snapshotter, "one", "", {"d/old": "1"})
        with shown(await snapshotter.prepare("k", "one")) as root:
            (root / "d/old").unlink()
            (root / "d").rmdir()
            (root / "d").mkdir()
            (root / "d/new").write_text("2")
        await snapshotter.commit("two", "k")
        with shown(await snapshotter.view("v", "two")) as root:
            assert os.listdir(root / "d") == ["new"]  # noqa: PTH208

    async def test_siblings_do_not_see_each_other(self, snapshotter: Snapshotter) -> None:
        await committed(snapshotter, "base", "", {"file": "base"})
        with shown(await snapshotter.prepare("x", "base")) as root:
            (root / "file").write_text("x")
        with shown(await snapshotter.prepare("y", "base")) as root:
            assert (root / "file").read_text() == "base"

    async def test_owner_and_mode_of_the_root_are_inherited(self, snapshotter: Snapshotter) -> None:
        with shown(await snapshotter.prepare("k")) as root:
            os.chown(root, 1234, 5678)
            root.chmod(0o751)
        await snapshotter.commit("base", "k")
        with shown(await snapshotter.prepare("child", "base")) as root:
            status = root.stat()
            assert (status.st_uid, status.st_gid) == (1234, 5678)
            assert status.st_mode & 0o7777 == 0o751

    async def test_many_layers_mount(self, snapshotter: Snapshotter) -> None:
        parent = ""
        for number in range(128):
            await snapshotter.prepare(f"k{number}", parent)
            await snapshotter.commit(f"layer{number}", f"k{number}")
            parent = f"layer{number}"
        with shown(await snapshotter.prepare("top", parent)) as root:
            (root / "file").write_text("here")

    async def test_commit_renames_and_drops_labels(self, snapshotter: Snapshotter) -> None:
        await snapshotter.prepare("key", labels={"old": "1"})
        await snapshotter.commit("name", "key", {"new": "2"})
        found = await snapshotter.stat("name")
        assert (found.kind, dict(found.labels)) == (Kind.COMMITTED, {"new": "2"})
        with pytest.raises(NotFound):
            await snapshotter.stat("key")

    async def test_labels_change_one_at_a_time_or_all(self, snapshotter: Snapshotter) -> None:
        await snapshotter.prepare("a", labels={"x": "1", "y": "2"})
        assert (await snapshotter.update("a", {"x": "3"})).labels == {"x": "3", "y": "2"}
        assert (await snapshotter.update("a", {"y": None})).labels == {"x": "3"}
        assert (await snapshotter.update("a", {"z": "4"}, replace=True)).labels == {"z": "4"}

    async def test_walk_filters(self, snapshotter: Snapshotter) -> None:
        await committed(snapshotter, "base", "", {})
        await snapshotter.prepare("active", "base", labels={"a.b": "c"})
        await snapshotter.view("view", "base")

        async def names(*filters: str) -> set[str]:
            return {found.name async for found in snapshotter.walk(filters)}

        assert await names() == {"base", "active", "view"}
        assert await names("kind==active") == {"active"}
        assert await names("parent==base") == {"active", "view"}
        assert await names('labels."a.b"==c') == {"active"}
        assert await names("kind==view", "name==base") == {"view", "base"}

    async def test_usage_counts_what_a_layer_adds(self, snapshotter: Snapshotter) -> None:
        with shown(await snapshotter.prepare("a")) as root:
            (root / "file").write_bytes(b"x" * 100_000)
        used = await snapshotter.usage("a")
        assert used.size >= 100_000
        assert used.inodes >= 2

    async def test_what_is_not_there_is_not_found(self, snapshotter: Snapshotter) -> None:
        for attempt in (
            lambda: snapshotter.stat("x"),
            lambda: snapshotter.mounts("x"),
            lambda: snapshotter.usage("x"),
            lambda: snapshotter.update("x", {}),
            lambda: snapshotter.remove("x"),
            lambda: snapshotter.commit("y", "x"),
            lambda: snapshotter.prepare("y", "x"),
            lambda: snapshotter.view("y", "x"),
        ):
            with pytest.raises(NotFound):
                await attempt()

    async def test_names_are_taken_once(self, snapshotter: Snapshotter) -> None:
        await committed(snapshotter, "base", "", {})
        await snapshotter.prepare("a")
        for attempt in (
            lambda: snapshotter.prepare("a"),
            lambda: snapshotter.view("a", "base"),
            lambda: snapshotter.prepare("base"),
            lambda: snapshotter.commit("base", "a"),
        ):
            with pytest.raises(AlreadyExists):
                await attempt()

    async def test_an_empty_key_is_refused(self, snapshotter: Snapshotter) -> None:
        with pytest.raises(InvalidArgument):
            await snapshotter.prepare("")

    async def test_states_are_respected(self, snapshotter: Snapshotter) -> None:
        await committed(snapshotter, "base", "", {})
        await snapshotter.prepare("child", "base")
        await snapshotter.view("v", "base")
        for attempt in (
            lambda: snapshotter.remove("base"),
            lambda: snapshotter.commit("x", "v"),
            lambda: snapshotter.commit("x", "base"),
            lambda: snapshotter.mounts("base"),
        ):
            with pytest.raises(FailedPrecondition):
                await attempt()
        with pytest.raises(InvalidArgument):
            await snapshotter.prepare("x", "child")

    async def test_removal_in_order_leaves_nothing(self, snapshotter: Snapshotter) -> None:
        await committed(snapshotter, "base", "", {"f": "1"})
        await snapshotter.prepare("child", "base")
        await snapshotter.remove("child")
        await snapshotter.remove("base")
        await snapshotter.cleanup()
        assert [found async for found in snapshotter.walk()] == []
        await snapshotter.prepare("base")

    async def test_rebase_puts_a_layer_on_a_parent(self, snapshotter: Snapshotter) -> None:
        await committed(snapshotter, "base", "", {"below": "1"})
        with shown(await snapshotter.prepare("k")) as root:
            (root / "above").write_text("2")
        if "rebase" not in snapshotter.capabilities:
            with pytest.raises(Unimplemented):
                await snapshotter.commit("top", "k", parent="base")
            return
        await snapshotter.commit("top", "k", parent="base")
        assert (await snapshotter.stat("top")).parent == "base"
        with shown(await snapshotter.view("v", "top")) as root:
            assert {p.name for p in root.iterdir()} == {"above", "below"}

    async def test_what_a_layer_hid_can_come_back(self, snapshotter: Snapshotter) -> None:
        await committed(snapshotter, "one", "", {"f": "1", "d/x": "1", "d/y": "1"})
        await committed(snapshotter, "two", "one", {"f": None, "d/x": None})
        await committed(snapshotter, "three", "two", {"f": "3"})
        with shown(await snapshotter.view("v2", "two")) as root:
            assert not (root / "f").exists()
            assert os.listdir(root / "d") == ["y"]  # noqa: PTH208
        with shown(await snapshotter.view("v3", "three")) as root:
            assert (root / "f").read_text() == "3"
            assert os.listdir(root / "d") == ["y"]  # noqa: PTH208

    async def test_a_file_may_take_a_directorys_place_and_back(
        self, snapshotter: Snapshotter
    ) -> None:
        await committed(snapshotter, "one", "", {"a/inside": "1", "b": "1"})
        with shown(await snapshotter.prepare("k", "one")) as root:
            (root / "a/inside").unlink()
            (root / "a").rmdir()
            (root / "a").write_text("2")
            (root / "b").unlink()
            (root / "b").mkdir()
        await snapshotter.commit("two", "k")
        with shown(await snapshotter.view("v", "two")) as root:
            assert (root / "a").read_text() == "2"
            assert list((root / "b").iterdir()) == []

    async def test_a_child_changes_nothing_below(self, snapshotter: Snapshotter) -> None:
        await committed(snapshotter, "base", "", {"file": "old", "d/e": "old"})
        with shown(await snapshotter.prepare("k", "base")) as root:
            with (root / "file").open("a") as file:
                file.write(" and new")
            (root / "d/e").chmod(0o600)
            (root / "d/e").rename(root / "moved")
        with shown(await snapshotter.view("v", "base")) as root:
            assert (root / "file").read_text() == "old"
            assert (root / "d/e").stat().st_mode & 0o777 == 0o644
            assert not (root / "moved").exists()

    async def test_a_view_of_nothing_is_empty(self, snapshotter: Snapshotter) -> None:
        with shown(await snapshotter.view("v")) as root:
            assert list(root.iterdir()) == []
            with pytest.raises(OSError, match="Read-only"):
                (root / "file").write_text("x")

    async def test_mounts_are_the_same_whenever_asked(self, snapshotter: Snapshotter) -> None:
        await committed(snapshotter, "base", "", {})
        assert await snapshotter.prepare("a", "base") == await snapshotter.mounts("a")
        assert await snapshotter.view("v", "base") == await snapshotter.mounts("v")

    async def test_stat_tells_parent_labels_and_times(self, snapshotter: Snapshotter) -> None:
        await committed(snapshotter, "base", "", {})
        await snapshotter.prepare("a", "base", {"x": "1"})
        found = await snapshotter.stat("a")
        assert (found.name, found.kind, found.parent) == ("a", Kind.ACTIVE, "base")
        assert dict(found.labels) == {"x": "1"}
        assert 0 < found.created_at <= found.updated_at
        later = await snapshotter.update("a", {"y": "2"})
        assert later.created_at == found.created_at
        assert later.updated_at > found.updated_at
        assert later == await snapshotter.stat("a")

    async def test_a_commit_keeps_the_parent(self, snapshotter: Snapshotter) -> None:
        await committed(snapshotter, "base", "", {})
        await committed(snapshotter, "top", "base", {})
        assert (await snapshotter.stat("top")).parent == "base"
        with pytest.raises(FailedPrecondition):
            await snapshotter.remove("base")
        await snapshotter.prepare("k")
        with pytest.raises(InvalidArgument):
            await snapshotter.commit("", "k")

    async def test_usage_outlives_the_commit(self, snapshotter: Snapshotter) -> None:
        with shown(await snapshotter.prepare("k")) as root:
            (root / "file").write_bytes(b"x" * 100_000)
            (root / "link").hardlink_to(root / "file")
            with (root / "sparse").open("wb") as file:
                file.truncate(1 << 30)
        before = await snapshotter.usage("k")
        assert 100_000 <= before.size < 1_000_000  # neither links nor holes count
        await snapshotter.commit("name", "k")
        assert await snapshotter.usage("name") == before
        assert await snapshotter.usage("name") == before

    async def test_nothing_is_wrong_with_what_is_whole(self, snapshotter: Snapshotter) -> None:
        await committed(snapshotter, "base", "", {"file": "1"})
        await snapshotter.prepare("active", "base")
        await snapshotter.view("view", "base")
        await snapshotter.view("empty")
        for key in ("base", "active", "view", "empty"):
            assert list(await snapshotter.check(key)) == []
        assert list(await snapshotter.leftovers()) == []

    async def test_keys_may_hold_anything(self, snapshotter: Snapshotter) -> None:
        for key in ("../../up", "sha256:" + "a" * 64, "with space", "\u00fc" * 300, "a,b:c\n"):
            with shown(await snapshotter.prepare(key)) as root:
                (root / "file").write_text(key)
            assert (await snapshotter.stat(key)).name == key
            await snapshotter.remove(key)

    async def test_bad_filters_are_refused(self, snapshotter: Snapshotter) -> None:
        with pytest.raises(InvalidArgument):
            _ = [found async for found in snapshotter.walk(["==x"])]

    async def test_of_many_with_one_key_one_wins(self, snapshotter: Snapshotter) -> None:
        attempts = [snapshotter.prepare("k") for _ in range(8)]
        outcomes = await asyncio.gather(*attempts, return_exceptions=True)
        assert sum(isinstance(outcome, AlreadyExists) for outcome in outcomes) == 7
        assert [found.name async for found in snapshotter.walk()] == ["k"]
        with shown(await snapshotter.mounts("k")) as root:
            (root / "file").write_text("x")

    async def test_a_cancelled_prepare_is_whole_or_nothing(self, snapshotter: Snapshotter) -> None:
        for turns in range(6):
            key = f"k{turns}"
            preparing = asyncio.ensure_future(snapshotter.prepare(key))
            for _ in range(turns):
                await asyncio.sleep(0)
            preparing.cancel()
            await asyncio.gather(preparing, return_exceptions=True)
            await snapshotter.cleanup()
            try:
                mounts = await snapshotter.mounts(key)
            except NotFound:
                mounts = await snapshotter.prepare(key + "-again")
            with shown(mounts) as root:
                (root / "file").write_text("x")

    async def test_only_fitting_parents_can_be_put_below(self, snapshotter: Snapshotter) -> None:
        if "rebase" not in snapshotter.capabilities:
            pytest.skip("cannot rebase")
        await committed(snapshotter, "base", "", {})
        await committed(snapshotter, "other", "", {})
        await snapshotter.prepare("loose")
        await snapshotter.prepare("bound", "base")
        for parent, error in (("missing", NotFound), ("bound", InvalidArgument)):
            with pytest.raises(error):
                await snapshotter.commit("name", "loose", parent=parent)
        with pytest.raises((InvalidArgument, FailedPrecondition)):
            await snapshotter.commit("name", "bound", parent="other")
        await snapshotter.commit("name", "bound", parent="base")
        assert (await snapshotter.stat("loose")).kind is Kind.ACTIVE
