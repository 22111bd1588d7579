"""Pull from a real registry: what comes, and what is left when it goes wrong."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests import images
from tests.daemons import Daemon
from tests.registries import Registry, registry

pytestmark = pytest.mark.root
BUSYBOX = Path("/bin/busybox")


@pytest.fixture(scope="module")
def remote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with registry(tmp_path_factory.mktemp("registry")) as running:
        yield running


def push(remote: Registry, image: images.Image, name: str, scratch: Path) -> str:
    archive = images.write_layout(image, scratch / "image.tar", "x.invalid/y:z")
    return remote.push(archive, name)


def three_layers() -> images.Image:
    """Files over files: a whiteout, an opaque directory, an implied directory, a hardlink down."""
    shell = {"bin": None, "bin/busybox": BUSYBOX.read_bytes(), "bin/sh": BUSYBOX.read_bytes()}
    return images.make(
        [
            images.layer({**shell, "etc": None, "etc/gone": b"1", "etc/stays": b"2", "d": None}),
            images.layer({"etc/.wh.gone": b"", "d/new": b"3"}),
            images.layer({"d/.wh..wh..opq": b"", "d/last": b"4"}),
        ]
    )


def in_namespace(daemon: Daemon, name: str) -> dict[str, str]:
    """What a namespace holds: nothing, after a pull that failed."""
    return {
        "images": daemon.ctr("-n", name, "images", "ls", "-q").stdout,
        "content": daemon.ctr("-n", name, "content", "ls", "-q").stdout,
        "snapshots": "\n".join(daemon.ctr("-n", name, "snapshots", "ls").stdout.splitlines()[1:]),
        "leases": daemon.ctr("-n", name, "leases", "ls", "-q").stdout,
    }


def test_an_image_is_pulled_and_runs(daemon: Daemon, remote: Registry, tmp_path: Path) -> None:
    reference = push(remote, three_layers(), "stacked:1", tmp_path)
    done = daemon.corectl("pull", reference, check=True)
    assert reference in done.stdout.decode()
    shown = daemon.corectl(
        *("run", "--rm", reference, "/bin/sh", "-c"),
        "for a in ls cat; do :; done; /bin/busybox ls /etc /d; /bin/busybox cat /etc/stays",
    )
    assert shown.stdout.decode().split() == [
        "/d:",
        "last",
        "/etc:",
        "hostname",
        "hosts",
        "resolv.conf",
        "stays",
        "2",
    ]
    assert daemon.ctr("images", "check", f"name=={reference}").stdout.count("complete") == 1


def test_run_pulls_what_is_absent(daemon: Daemon, remote: Registry, tmp_path: Path) -> None:
    reference = push(remote, three_layers(), "absent:1", tmp_path)
    done = daemon.corectl("-n", "fresh", "run", "--rm", reference, "/bin/busybox", "echo", "here")
    assert done.stdout == b"here\n"


def test_what_is_pulled_twice_is_there_once(
    daemon: Daemon, remote: Registry, tmp_path: Path
) -> None:
    reference = push(remote, three_layers(), "again:1", tmp_path)
    daemon.corectl("-n", "again", "pull", reference, check=True)
    before = in_namespace(daemon, "again")
    daemon.corectl("-n", "again", "pull", reference, check=True)
    assert in_namespace(daemon, "again") == before


def test_ten_clients_pull_the_same_image(daemon: Daemon, remote: Registry, tmp_path: Path) -> None:
    reference = push(remote, three_layers(), "crowd:1", tmp_path)
    with ThreadPoolExecutor(10) as pool:
        codes = list(
            pool.map(
                lambda _: daemon.corectl("-n", "crowd", "pull", reference).returncode, range(10)
            )
        )
    assert codes == [0] * 10
    assert in_namespace(daemon, "crowd")["snapshots"].count("\n") == 2


@pytest.mark.parametrize("damage", ["truncated", "changed", "absent"])
def test_a_damaged_layer_is_said_and_leaves_nothing(
    daemon: Daemon, remote: Registry, tmp_path: Path, damage: str
) -> None:
    unique = images.layer({"only": damage.encode() * 5000})
    image = images.make([images.layer({"bin": None}), unique])
    reference = push(remote, image, f"broken-{damage}:1", tmp_path)
    place = remote.blob(image.layers[1]["digest"])
    data = place.read_bytes()
    if damage == "truncated":
        place.write_bytes(data[: len(data) // 2])
    elif damage == "changed":
        place.write_bytes(data[:-4] + b"\0\0\0\0")
    else:
        shutil.rmtree(place.parent)
    done = daemon.corectl("-n", f"ns-{damage}", "pull", reference)
    errors = [x for x in done.stderr.decode().splitlines() if x.startswith("corectl: ")]
    assert done.returncode == 1
    assert len(errors) == 1
    assert image.layers[1]["digest"][:19] in errors[0]
    left = in_namespace(daemon, f"ns-{damage}")
    assert left["images"] == left["leases"] == ""
    assert "extract-" not in left["snapshots"]


def test_an_unknown_image_is_said(daemon: Daemon, remote: Registry) -> None:
    done = daemon.corectl("pull", f"{remote.host}/nothing:here")
    assert done.returncode == 1
    assert done.stderr.decode().count("\n") == 1
    assert "not found in registry" in done.stderr.decode()


def test_an_unreachable_registry_is_said(daemon: Daemon) -> None:
    done = daemon.corectl("pull", "127.0.0.1:1/nothing:here")
    assert done.returncode == 1
    assert done.stderr.decode().count("\n") == 1
    assert "cannot be reached" in done.stderr.decode()


def test_the_tree_is_what_an_overlay_of_the_layers_shows(
    daemon: Daemon, remote: Registry, tmp_path: Path
) -> None:
    """Entry by entry beside what umoci makes of the same image."""
    image = three_layers()
    reference = push(remote, image, "compared:1", tmp_path)
    daemon.corectl("-n", "compared", "pull", reference, check=True)
    daemon.ctr("-n", "compared", "images", "mount", "--rw", reference, str(_made(tmp_path / "a")))
    layout = tmp_path / "layout"
    subprocess.run(
        [
            "skopeo",
            "copy",
            "-q",
            "--insecure-policy",
            "--src-tls-verify=false",
            f"docker://{reference}",
            f"oci:{layout}:x",
        ],
        check=True,
    )
    bundle = tmp_path / "bundle"
    subprocess.run(["umoci", "unpack", "--image", f"{layout}:x", str(bundle)], check=True)
    try:
        assert _tree(tmp_path / "a") == _tree(bundle / "rootfs")
    finally:
        subprocess.run(["umount", str(tmp_path / "a")], check=True)
        daemon.ctr("-n", "compared", "snapshots", "rm", str(tmp_path / "a"))


def _made(path: Path) -> Path:
    path.mkdir()
    return path


def _tree(root: Path) -> dict[str, tuple[int, int, int, bytes]]:
    found = {}
    for path in sorted(root.rglob("*")):
        status = path.lstat()
        data = path.read_bytes() if path.is_file() else b""
        found[str(path.relative_to(root))] = (status.st_mode, status.st_uid, status.st_gid, data)
    return found
