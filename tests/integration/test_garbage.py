"""corectl gc: what would go, what went, and why the rest stays."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.daemons import Daemon, cored

pytestmark = pytest.mark.root
IMAGE = "docker.io/library/busybox:latest"
# collections happen when the test says so
QUIET = "[gc]\ndeletion_threshold = 0\nmutation_threshold = 0\nstartup_delay = 3600\n"


@pytest.fixture
def daemon(busybox: Path) -> Iterator[Daemon]:
    with cored(QUIET) as running:
        running.corectl("image", "import", str(busybox), check=True)
        yield running


def gc(daemon: Daemon, *arguments: str) -> Any:
    return json.loads(daemon.corectl("gc", "--format", "json", *arguments, check=True).stdout)


def explained(daemon: Daemon, id: str, type: str) -> dict[str, Any]:
    (found,) = [e for e in gc(daemon, "--explain", id) if e["type"] == type]
    return dict(found)


def test_a_layer_is_explained_from_its_image_down(daemon: Daemon) -> None:
    manifest = daemon.ctr("images", "ls").stdout.splitlines()[1].split()[2]
    layer = daemon.ctr("snapshots", "ls").stdout.splitlines()[1].split()[0]
    found = explained(daemon, layer, "content")
    (chain,) = found["chains"]
    assert [node["id"] for node in chain["nodes"]] == [IMAGE, manifest, layer]
    assert chain["reason"] == "an image"
    text = daemon.corectl("gc", "--dry-run", "--explain", layer[7:19]).stdout.decode()
    assert f"is kept by image {IMAGE}" in text


def test_a_snapshot_has_a_chain_for_each_that_keeps_it(daemon: Daemon) -> None:
    layer = daemon.ctr("snapshots", "ls").stdout.splitlines()[1].split()[0]
    daemon.corectl("create", "--name", "one", "busybox", "true", check=True)
    daemon.ctr("leases", "create", "--id", "mine")
    chains = explained(daemon, layer, "snapshots/overlayfs")["chains"]
    assert sorted(chain["nodes"][0]["type"] for chain in chains) == ["container", "image"]
    for chain in chains:
        assert chain["nodes"][-1]["id"] == layer
    daemon.corectl("rm", "-f", "one", check=True)
    (chain,) = explained(daemon, layer, "snapshots/overlayfs")["chains"]
    assert chain["nodes"][0]["type"] == "image"


def test_what_nothing_keeps_is_said_shown_and_removed(daemon: Daemon) -> None:
    layer = daemon.ctr("snapshots", "ls").stdout.splitlines()[1].split()[0]
    daemon.ctr("images", "rm", IMAGE)
    assert explained(daemon, layer, "content")["chains"] == []
    assert b"nothing keeps it" in daemon.corectl("gc", "--explain", layer).stdout
    would = gc(daemon, "--dry-run")
    assert sorted({node["type"] for node in would}) == ["content", "snapshots/overlayfs"]
    assert daemon.ctr("content", "ls", "-q").stdout != ""
    assert gc(daemon) == would
    assert daemon.ctr("content", "ls", "-q").stdout == ""
    assert gc(daemon) == []
    assert daemon.corectl("gc").stderr == b"0 were removed\n"


def test_an_unknown_name_is_an_error_of_one_line(daemon: Daemon) -> None:
    done = daemon.corectl("gc", "--explain", "sha256:" + "0" * 64)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert b"nothing has this name" in done.stderr
