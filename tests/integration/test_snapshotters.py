"""Which snapshotter is used: by request, by namespace, by configuration; and which work here."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cored_snapshotter_btrfs.subvolumes import set_read_only

from tests import daemons, images
from tests.daemons import Daemon
from tests.filesystems import btrfs
from tests.plain_registry import plain_registry

pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def on_btrfs(
    busybox: Path, private_mounts: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Daemon]:
    with btrfs(tmp_path_factory.mktemp("btrfs"), 512 << 20) as top:
        with daemons.cored(root=top / "root") as daemon:
            daemon.corectl("image", "import", "-q", str(busybox), check=True)
            yield daemon


def listed(daemon: Daemon, *options: str) -> dict[str, dict[str, Any]]:
    done = daemon.corectl(*options, "snapshotter", "ls", "--format", "json", check=True)
    return {one["id"]: one for one in json.loads(done.stdout)}


def used_by(daemon: Daemon, *options: str) -> str:
    """The snapshotter of a container that is made with ``options`` after the command."""
    made = daemon.corectl("create", *options, "busybox", "true", check=True)
    found = json.loads(daemon.corectl("inspect", made.stdout.decode().strip(), check=True).stdout)
    return str(found[0]["Driver"])


def test_the_list_says_what_works_and_what_it_holds(on_btrfs: Daemon) -> None:
    found = listed(on_btrfs)
    assert {id for id, one in found.items() if one["error"] is None} >= {"btrfs", "native"}
    assert [id for id, one in found.items() if one["default"]] == ["overlayfs"]
    assert found["overlayfs"]["capabilities"] == ["rebase"]
    assert found["overlayfs"]["snapshots"] >= 1
    assert found["overlayfs"]["size"] > 500_000
    assert found["btrfs"]["root"].endswith("/snapshotter.btrfs")


def test_the_list_says_why_one_does_not_work(daemon: Daemon) -> None:
    found = listed(daemon)
    assert "is not on btrfs" in found["btrfs"]["error"]
    shown = daemon.corectl("snapshotter", "ls", check=True).stdout.decode()
    assert "put the daemon's root on btrfs" in shown
    assert "overlayfs *" in shown
    # ctr shows what cannot work here as skipped, not as broken
    plugins = daemon.ctr("plugins", "ls", "id==btrfs").stdout
    assert plugins.split()[-1] == "skip"


def test_a_container_may_choose_a_snapshotter_that_the_image_is_not_unpacked_for(
    on_btrfs: Daemon,
) -> None:
    done = on_btrfs.corectl("run", "--rm", "--snapshotter", "btrfs", "busybox", "echo", "here")
    assert (done.returncode, done.stdout) == (0, b"here\n"), done.stderr
    assert listed(on_btrfs)["btrfs"]["snapshots"] >= 1
    assert used_by(on_btrfs, "--snapshotter", "native") == "native"
    done = on_btrfs.corectl("run", "--rm", "--snapshotter", "none", "busybox", "true")
    assert done.returncode == 125
    assert b"snapshotter 'none': not loaded" in done.stderr


def test_a_namespace_has_a_default_of_its_own(on_btrfs: Daemon, busybox: Path) -> None:
    on_btrfs.ctr("namespaces", "create", "cows", "containerd.io/defaults/snapshotter=btrfs")
    assert [id for id, one in listed(on_btrfs, "-n", "cows").items() if one["default"]] == ["btrfs"]
    on_btrfs.corectl("-n", "cows", "image", "import", "-q", str(busybox), check=True)
    snapshots = on_btrfs.ctr("-n", "cows", "snapshots", "--snapshotter", "btrfs", "ls").stdout
    assert "Committed" in snapshots
    done = on_btrfs.corectl("-n", "cows", "run", "--rm", "busybox", "echo", "moo")
    assert (done.returncode, done.stdout) == (0, b"moo\n"), done.stderr
    # ctr, too, asks the namespace
    done2 = on_btrfs.ctr("-n", "cows", "run", "--rm", "docker.io/library/busybox:latest", "c",
                         "echo", "too")  # fmt: skip
    assert done2.stdout == "too\n"
    on_btrfs.ctr("namespaces", "label", "cows", "containerd.io/defaults/snapshotter=odd")
    done = on_btrfs.corectl("-n", "cows", "run", "--rm", "busybox", "true")
    assert b"may be labelled containerd.io/defaults/snapshotter" in done.stderr
    on_btrfs.ctr("namespaces", "label", "cows", "containerd.io/defaults/snapshotter=btrfs")


def test_a_pulled_image_is_the_same_in_every_snapshotter(on_btrfs: Daemon) -> None:
    """Layers over layers, compared with their archives in each."""
    shell = Path("/bin/busybox").read_bytes()
    image = images.make(
        [
            images.layer({"bin": None, "bin/busybox": shell, "d": None, "d/gone": b"1"}),
            images.layer({"d/.wh.gone": b"", "d/new": b"2" * 10_000, "deep/er": b"2"}),
            images.layer({"d/.wh..wh..opq": b"", "d/last": b"3"}),
        ]
    )
    with plain_registry(image) as registry:
        reference = registry.reference("layers")
        for name in ("overlayfs", "native", "btrfs"):
            on_btrfs.corectl("-n", name, "pull", "-q", "--snapshotter", name, reference, check=True)
            command = ("run", "--rm", "--snapshotter", name, reference, "/bin/busybox")
            done = on_btrfs.corectl("-n", name, *command, "ls", "/d", "/deep", check=True)
            assert done.stdout.decode().split() == ["/d:", "last", "/deep:", "er"]
    done = on_btrfs.corectl("content", "check", "--format", "json", check=True)
    assert json.loads(done.stdout)["contents"] >= 9
    where = Path(listed(on_btrfs)["btrfs"]["root"]) / "snapshots"
    tree = next(path for path in where.glob("*/fs") if (path / "deep/er").exists())
    set_read_only(tree, False)
    (tree / "deep/er").write_bytes(b"X")
    set_read_only(tree, True)
    done = on_btrfs.corectl("content", "check", "--repair")
    assert done.returncode == 0
    assert b"deep/er: has other content" in done.stdout
    assert b"1 damaged, 1 repaired" in done.stdout
    on_btrfs.corectl("content", "check", check=True)
