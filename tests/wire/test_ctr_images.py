"""Debian's unmodified ctr against cored: images, content and snapshots, with a real registry."""

from __future__ import annotations

import hashlib
import json
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.daemons import Daemon
from tests.images import layer, make, write_layout
from tests.patience import eventually
from tests.registries import Registry, registry

pytestmark = pytest.mark.root
IMAGE = "docker.io/library/busybox:latest"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with registry(tmp_path_factory.mktemp("registry")) as running:
        yield running


def digests(daemon: Daemon) -> list[str]:
    return daemon.ctr("content", "ls", "-q").stdout.split()


def test_an_image_goes_to_a_registry_and_comes_back(daemon: Daemon, server: Registry) -> None:
    reference = f"{server.host}/lib/busybox:1"
    daemon.ctr("images", "tag", IMAGE, reference)
    daemon.ctr("images", "push", "--plain-http", reference)
    daemon.ctr("images", "rm", "--sync", reference)
    elsewhere = ("--namespace", "puller")
    daemon.ctr(*elsewhere, "images", "pull", "--plain-http", reference)
    done = daemon.ctr(*elsewhere, "run", "--rm", reference, "x", "echo", "pulled")
    assert done.stdout == "pulled\n"
    check = daemon.ctr(*elsewhere, "images", "check").stdout
    assert "complete" in check
    daemon.ctr(*elsewhere, "images", "rm", "--sync", reference)
    assert daemon.ctr(*elsewhere, "content", "ls", "-q").stdout == ""
    assert len(daemon.ctr(*elsewhere, "snapshots", "ls").stdout.splitlines()) == 1


def test_an_export_is_an_archive_that_can_be_imported(daemon: Daemon, tmp_path: Path) -> None:
    archive = tmp_path / "image.tar"
    daemon.ctr("images", "export", str(archive), IMAGE)
    with tarfile.open(archive) as tar:
        assert {"index.json", "manifest.json", "oci-layout"} <= set(tar.getnames())
    elsewhere = ("--namespace", "importer")
    daemon.ctr(*elsewhere, "images", "import", "--all-platforms", "--digests", str(archive))
    assert IMAGE in daemon.ctr(*elsewhere, "images", "ls", "-q").stdout.split()
    for name in daemon.ctr(*elsewhere, "images", "ls", "-q").stdout.split():
        daemon.ctr(*elsewhere, "images", "rm", "--sync", name)


def test_an_image_is_mounted_and_unmounted(daemon: Daemon, tmp_path: Path) -> None:
    daemon.ctr("images", "mount", IMAGE, str(tmp_path))
    assert (tmp_path / "bin/busybox").exists()
    assert subprocess.run(["touch", tmp_path / "x"], check=False, capture_output=True).returncode
    daemon.ctr("images", "unmount", "--rm", str(tmp_path))
    assert list(tmp_path.iterdir()) == []
    daemon.ctr("images", "mount", "--rw", IMAGE, str(tmp_path))
    (tmp_path / "x").write_text("written")
    daemon.ctr("images", "unmount", "--rm", str(tmp_path))
    assert str(tmp_path) not in daemon.ctr("snapshots", "ls").stdout


def test_labels_are_set_and_cleared(daemon: Daemon) -> None:
    daemon.ctr("images", "label", IMAGE, "colour=blue", "a.b/c=d")
    assert "colour=blue" in daemon.ctr("images", "ls").stdout
    assert IMAGE in daemon.ctr("images", "ls", "-q", 'labels."a.b/c"==d').stdout
    assert daemon.ctr("images", "ls", "-q", "labels.colour==red").stdout == ""
    daemon.ctr("images", "label", IMAGE, "colour=")
    assert "colour" not in daemon.ctr("images", "ls").stdout


def test_content_is_ingested_read_labelled_edited_and_removed(daemon: Daemon) -> None:
    data = b"some content\n" * 1000
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"

    def ingested() -> bool:
        """It is nobody's until it has a label: a collection may be faster."""
        done = subprocess.run(
            ["ctr", "-a", str(daemon.address), "content", "ingest", "--expected-digest", digest,
             "ref"],
            input=data, capture_output=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        label = ("content", "label", digest, "containerd.io/gc.root=kept")
        return daemon.ctr(*label, check=False).returncode == 0

    eventually(ingested)
    read = subprocess.run(
        ["ctr", "-a", str(daemon.address), "content", "get", digest],
        capture_output=True, check=True,
    )  # fmt: skip
    assert read.stdout == data
    daemon.ctr("content", "label", digest, "purpose=test")
    assert digest in daemon.ctr("content", "ls", "-q", "labels.purpose==test").stdout
    daemon.ctr("content", "rm", digest)
    assert digest not in digests(daemon)
    assert daemon.ctr("content", "get", digest, check=False).returncode == 1


def test_content_that_is_not_what_was_expected_is_refused(daemon: Daemon) -> None:
    before = digests(daemon)
    wrong = "sha256:" + "0" * 64
    done = subprocess.run(
        ["ctr", "-a", str(daemon.address), "content", "ingest", "--expected-digest", wrong, "bad"],
        input=b"something else", capture_output=True, text=False, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert b"digest" in done.stderr
    assert set(digests(daemon)) <= set(before)
    assert "bad" in daemon.ctr("content", "active").stdout  # it can still be gone on with


def test_snapshots_are_prepared_written_compared_and_committed(
    daemon: Daemon, tmp_path: Path
) -> None:
    base = daemon.ctr("snapshots", "ls").stdout.splitlines()[1].split()[0]
    mounts = daemon.ctr("snapshots", "prepare", "-t", str(tmp_path), "mine", base).stdout
    assert mounts.startswith("mount -t overlay")
    subprocess.run(["sh", "-c", mounts], check=True)
    (tmp_path / "etc/added").write_text("added")
    (tmp_path / "bin/busybox").unlink()
    assert "Active" in daemon.ctr("snapshots", "info", "mine").stdout
    layer = subprocess.run(
        ["ctr", "-a", str(daemon.address), "snapshots", "diff", "mine"],
        capture_output=True, check=True,
    ).stdout  # fmt: skip
    path = tmp_path.with_suffix(".tar.gz")
    path.write_bytes(layer)
    with tarfile.open(path) as tar:
        names = set(tar.getnames())
    assert {"etc/added", "bin/.wh.busybox"} <= names
    subprocess.run(["umount", tmp_path], check=True)
    daemon.ctr("snapshots", "commit", "kept", "mine")
    assert "kept" in daemon.ctr("snapshots", "tree").stdout
    daemon.ctr("snapshots", "label", "kept", "containerd.io/gc.root=now")
    usage = daemon.ctr("snapshots", "usage", "-b", "kept").stdout.splitlines()[1].split()
    assert int(usage[2]) >= 2  # inodes
    daemon.ctr("snapshots", "view", "seen", "kept")
    refused = daemon.ctr("snapshots", "rm", "kept", check=False)
    assert "children" in refused.stderr
    daemon.ctr("snapshots", "rm", "seen")
    daemon.ctr("snapshots", "rm", "kept")


def test_binaries_of_an_image_are_installed_where_the_daemon_finds_them(
    daemon: Daemon, tmp_path: Path
) -> None:
    shim = layer({"bin": None, "bin/containerd-shim-installed-v1": b"#!/bin/sh\nexit 3\n"})
    archive = write_layout(make([shim]), tmp_path / "shim.tar", "example.org/shim:1")
    daemon.ctr("images", "import", str(archive))
    daemon.ctr("install", "example.org/shim:1")
    done = daemon.ctr("run", "--runtime", "io.containerd.installed.v1", IMAGE, "x", check=False)
    assert str(daemon.home / "root/opt/bin/containerd-shim-installed-v1") in done.stderr
    daemon.ctr("images", "rm", "--sync", "example.org/shim:1")


def test_what_containers_say_of_themselves_is_json(daemon: Daemon) -> None:
    daemon.ctr("containers", "create", "--label", "x.y=z", IMAGE, "record", "true")
    found = json.loads(daemon.ctr("containers", "info", "record").stdout)
    assert (found["ID"], found["Image"], found["Snapshotter"]) == ("record", IMAGE, "overlayfs")
    assert found["Labels"]["x.y"] == "z"
    assert found["Spec"]["process"]["args"] == ["true"]
    daemon.ctr("containers", "label", "record", "more=1")
    assert "record" in daemon.ctr("containers", "ls", "-q", "labels.more==1").stdout
    daemon.ctr("containers", "rm", "record")
