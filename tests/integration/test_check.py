"""``corectl content check``: what is damaged is found, named with its users, and mended."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import daemons, images
from tests.daemons import Daemon
from tests.registries import Registry, registry

pytestmark = pytest.mark.root
BUSYBOX = Path("/bin/busybox").read_bytes()


@pytest.fixture(scope="module")
def remote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with registry(tmp_path_factory.mktemp("registry")) as running:
        yield running


IMAGE = images.make(
    [
        images.layer({"bin": None, "bin/busybox": BUSYBOX, "lib": None, "lib/old": b"1"}),
        # through an implied directory, over a file of the layer below, and a whiteout
        images.layer({"bin/sh": BUSYBOX, "lib/.wh.old": b"", "lib/new": b"2" * 5000}),
        images.layer({"etc": None, "etc/name": b"first", "etc/twice": b"a", "lib/new": b"3"}),
    ]
)


@pytest.fixture(scope="module")
def reference(remote: Registry, tmp_path_factory: pytest.TempPathFactory) -> str:
    archive = tmp_path_factory.mktemp("image") / "image.tar"
    return remote.push(images.write_layout(IMAGE, archive, "x.invalid/y:z"), "checked:1")


@pytest.fixture(scope="module")
def running(private_mounts: None) -> Iterator[Daemon]:
    with daemons.cored() as daemon:
        yield daemon


@pytest.fixture
def pulled(running: Daemon, reference: str) -> Iterator[Daemon]:
    """A daemon that holds the image and nothing else, whatever the test does to it."""
    running.corectl("pull", "-q", reference, check=True)
    yield running
    for namespace in ("default", "other"):
        for name in running.ctr("-n", namespace, "images", "ls", "-q").stdout.split():
            running.ctr("-n", namespace, "images", "rm", name)
    running.corectl("gc", check=True)


def check(daemon: Daemon, *options: str) -> tuple[int, dict[str, Any]]:
    done = daemon.corectl("content", "check", "--format", "json", *options)
    assert done.stdout, (done.stderr, daemon.log[-3000:])
    return done.returncode, json.loads(done.stdout)


def blob(daemon: Daemon, digest: str) -> Path:
    where = daemon.home / "root/content_store.local/blobs/sha256"
    return where / digest.removeprefix("sha256:")


def layers(daemon: Daemon) -> dict[str, Path]:
    """The directories of committed layers, by a file that each has brought."""
    found = {}
    for place in (daemon.home / "root/snapshotter.overlayfs/snapshots").iterdir():
        for name in ("bin/busybox", "bin/sh", "etc/name"):
            if (place / "fs" / name).exists():
                found[name] = place
    return found


def test_a_sound_store_is_said_to_be_sound(pulled: Daemon) -> None:
    code, found = check(pulled)
    assert (code, found["damaged"], found["leftovers"]) == (0, [], [])
    assert (found["blobs"], found["snapshots"], found["contents"]) == (5, 3, 3)
    done = pulled.corectl("content", "check")
    assert (
        done.stdout.decode().strip().endswith("3 snapshots (3 compared with their layers): sound")
    )


@pytest.mark.parametrize(
    ("which", "damage"),
    [
        ("layer", "changed"),
        ("layer", "cut short"),
        ("layer", "missing"),
        ("config", "changed"),
        ("manifest", "missing"),
        ("manifest", "changed"),
    ],
)
def test_a_damaged_blob_is_named_with_its_image_and_fetched_again(
    pulled: Daemon, reference: str, which: str, damage: str
) -> None:
    config = next(
        json.loads(data)["config"]["digest"]
        for data in IMAGE.blobs.values()
        if data.startswith(b'{"schemaVersion"')
    )
    digests = {
        "layer": IMAGE.layers[0]["digest"], "config": config, "manifest": IMAGE.target["digest"],
    }  # fmt: skip
    path = blob(pulled, digests[which])
    data = path.read_bytes()
    if damage == "changed":
        path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    elif damage == "cut short":
        path.write_bytes(data[:-1])
    else:
        path.unlink()
    code, found = check(pulled)
    assert code == 1
    (problem,) = found["damaged"]
    assert (problem["type"], problem["id"]) == ("content", digests[which])
    assert {"type": "image", "namespace": "default", "id": reference} in problem["users"]
    code, found = check(pulled, "--repair")
    assert (code, [p["repaired"] for p in found["damaged"]]) == (0, [True])
    assert path.read_bytes() == data
    assert check(pulled)[1]["damaged"] == []


def test_what_no_registry_has_cannot_be_fetched_again(pulled: Daemon, busybox: Path) -> None:
    pulled.ctr("-n", "other", "images", "import", str(busybox))
    digests = pulled.ctr("-n", "other", "content", "ls", "-q").stdout.split()
    largest = max(digests, key=lambda digest: blob(pulled, digest).stat().st_size)
    blob(pulled, largest).write_bytes(b"nonsense")
    done = pulled.corectl("content", "check", "--repair")
    assert done.returncode == 1
    text = done.stdout.decode()
    assert f"blob {largest} (namespace other): has 8 bytes, its record says" in text
    assert "used by image docker.io/library/busybox:latest (namespace other)" in text
    assert "not repaired: nobody knows where it came from" in text
    assert blob(pulled, largest).read_bytes() == b"nonsense"


@pytest.mark.parametrize("damage", ["empty", "changed", "gone", "mode", "directory"])
def test_a_damaged_layer_is_named_and_unpacked_again(
    pulled: Daemon, reference: str, damage: str
) -> None:
    place = layers(pulled)["bin/busybox"]
    file = place / "fs/bin/busybox"
    if damage == "empty":  # what a power cut leaves
        file.write_bytes(b"")
    elif damage == "changed":
        file.write_bytes(BUSYBOX[:-1] + b"\0" if BUSYBOX[-1] else BUSYBOX[:-1] + b"\1")
    elif damage == "gone":
        file.unlink()
    elif damage == "mode":
        file.chmod(0o644)
    else:
        shutil.rmtree(place)
    code, found = check(pulled)
    assert code == 1
    problem = found["damaged"][0]
    assert problem["type"] == "snapshots/overlayfs"
    assert damage == "directory" or "bin/busybox: " in problem["reason"]
    assert {"type": "image", "namespace": "default", "id": reference} in problem["users"]
    code, found = check(pulled, "--repair")
    assert code == 0, [problem["remedy"] for problem in found["damaged"]]
    assert check(pulled)[1]["damaged"] == []
    done = pulled.corectl("run", "--rm", reference, "/bin/busybox", "cat", "/lib/new")
    assert (done.returncode, done.stdout) == (0, b"3"), done.stderr


def test_a_damaged_layer_below_a_container_is_left_to_it(pulled: Daemon, reference: str) -> None:
    made = pulled.corectl("create", reference, "/bin/sh", check=True).stdout.decode().strip()
    (layers(pulled)["bin/sh"] / "fs/bin/sh").write_bytes(b"")
    code, found = check(pulled, "--repair")
    assert code == 1
    (problem,) = found["damaged"]
    assert problem["remedy"] == f"in use by container {made}: remove that first"
    assert {"type": "container", "namespace": "default", "id": made} in problem["users"]
    pulled.corectl("rm", made, check=True)
    assert check(pulled, "--repair")[0] == 0
    assert check(pulled)[1]["damaged"] == []


_NO_GC = "[gc]\nstartup_delay = 3600\nmutation_threshold = 0\ndeletion_threshold = 0\n"


def test_what_is_left_over_is_told_and_is_no_damage(private_mounts: None) -> None:
    with daemons.cored(_NO_GC) as daemon:
        daemon.corectl("images", check=True)  # its stores are open
        stray = daemon.home / "root/snapshotter.overlayfs/snapshots/9999"
        (stray / "fs").mkdir(parents=True)
        digest = "sha256:" + "5" * 64
        blob(daemon, digest).parent.mkdir(exist_ok=True)
        blob(daemon, digest).write_bytes(b"nobody knows me")
        code, found = check(daemon)
        assert code == 0
        assert {node["id"] for node in found["leftovers"]} == {digest, str(stray)}
        daemon.corectl("gc", check=True)
        assert not blob(daemon, digest).exists()


def test_an_image_without_its_target_is_named(pulled: Daemon, reference: str) -> None:
    pulled.ctr("content", "rm", IMAGE.target["digest"])
    code, found = check(pulled)
    assert code == 1
    assert [(p["type"], p["id"]) for p in found["damaged"]] == [("image", reference)]


def test_blobs_are_listed(pulled: Daemon) -> None:
    done = pulled.corectl("content", "ls", "-q", check=True)
    assert sorted(done.stdout.decode().split()) == sorted(IMAGE.blobs)
