"""Proxy plugins with a real containerd, both ways: our storage under it, its storage under us."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.daemons import Daemon, containerd, cored, home
from tests.living import glob
from tests.patience import eventually

pytestmark = pytest.mark.root
IMAGE = "docker.io/library/busybox:latest"


@contextmanager
def storage() -> Iterator[Daemon]:
    """``cored storage`` on a private root."""
    with home("cs") as place:
        command = (
            sys.executable,
            "-m",
            "cored",
            f"--address={place / 'sock'}",
            f"--root={place / 'root'}",
            f"--state={place / 'state'}",
            "--log-level=debug",
            "storage",
        )
        daemon = Daemon(place, command)
        daemon.start()
        try:
            yield daemon
        finally:
            if daemon.process is not None and daemon.process.poll() is None:
                assert daemon.stop() == 0


def blobs(daemon: Daemon) -> set[str]:
    return {path.name for path in glob(daemon.home / "root/content_store.local/blobs", "*/*")}


def layers(daemon: Daemon) -> set[str]:
    place = daemon.home / "root/snapshotter.overlayfs/snapshots"
    return {path.name for path in place.iterdir()}


def with_storage_of(peer: Daemon) -> str:
    """containerd's configuration to use a peer's storage for everything."""
    return f"""
[proxy_plugins.cored]
type = "snapshot"
address = "{peer.address}"
[proxy_plugins.cored-content]
type = "content"
address = "{peer.address}"
"""


def test_containerd_keeps_its_images_and_containers_in_our_storage(busybox: Path) -> None:
    without = ("io.containerd.content.v1.content",)
    with storage() as ours, containerd(with_storage_of(ours), without) as daemon:
        daemon.ctr("images", "import", "--snapshotter", "cored", str(busybox))
        assert len(blobs(ours)) >= 3
        assert layers(ours)
        done = daemon.ctr("run", "--rm", "--snapshotter", "cored", IMAGE, "x", "echo", "hello")
        assert done.stdout == "hello\n"
        kept = daemon.ctr("run", "-d", "--snapshotter", "cored", IMAGE, "stays", "sleep", "1000")
        assert kept.returncode == 0
        # what it uses is not ours to collect, neither while we run nor when we start again
        ours.kill()
        ours.start()
        usage = ("snapshots", "--snapshotter", "cored", "usage")
        eventually(lambda: daemon.ctr(*usage, check=False).returncode == 0)
        assert "sleep" in daemon.ctr("tasks", "exec", "--exec-id", "e", "stays", "ps").stdout
        daemon.ctr("tasks", "rm", "-f", "stays")
        daemon.ctr("containers", "rm", "stays")
        daemon.ctr("images", "rm", "--sync", IMAGE)
        assert (blobs(ours), layers(ours)) == (set(), set())


def test_we_keep_images_and_containers_in_containerds_storage(busybox: Path) -> None:
    with containerd() as theirs:
        places = "\n".join(
            f'[proxy_plugins.{name}]\ntype = "{type}"\naddress = "{theirs.address}"\n'
            f'name = "overlayfs"\nnamespace = "for-cored"\nlease = "cored"'
            for name, type in (("remote", "snapshot"), ("theirs", "content"))
        )
        settings = f'content_store = "theirs"\nsnapshotter = "remote"\n{places}'

        def there(*what: str) -> list[str]:
            return theirs.ctr("--namespace", "for-cored", *what, "ls").stdout.splitlines()[1:]

        with cored(settings) as daemon:
            daemon.ctr("images", "import", "--snapshotter", "remote", str(busybox))
            assert len(there("content")) >= 3
            assert len(there("snapshots")) == 1
            # containerd's client, and our own engine with its unpacking
            done = daemon.ctr("run", "--rm", "--snapshotter", "remote", IMAGE, "x", "echo", "one")
            assert done.stdout == "one\n"
            assert (
                daemon.corectl(
                    "run", "--rm", "--net=none", "busybox", "echo", "two", check=True
                ).stdout
                == b"two\n"
            )
            daemon.ctr("images", "rm", "--sync", IMAGE)
            assert (there("content"), there("snapshots")) == ([], [])


def test_an_image_is_pulled_into_a_proxied_store(busybox: Path, tmp_path: Path) -> None:
    from tests.registries import registry

    with registry(tmp_path) as server, storage() as peer:
        reference = server.push(busybox, "lib/busybox:1", kind="docker-archive")
        settings = f"""
content_store = "far"
snapshotter = "far"
[proxy_plugins.far]
type = "snapshot"
address = "{peer.address}"
name = "native"
"""
        settings += f'[proxy_plugins."far.content"]\ntype = "content"\naddress = "{peer.address}"\n'
        with cored(settings.replace('content_store = "far"', 'content_store = "far.content"')) as d:
            assert (
                d.corectl("run", "--rm", "--net=none", reference, "echo", "far", check=True).stdout
                == b"far\n"
            )
            assert len(blobs(peer)) >= 3
            assert "far " in d.ctr("plugins", "ls").stdout


def test_a_peer_that_is_away_is_named_in_the_error(busybox: Path, short_tmp: Path) -> None:
    settings = f'[proxy_plugins.gone]\ntype = "snapshot"\naddress = "{short_tmp}/none"'
    with cored(settings) as daemon:
        daemon.ctr("images", "import", str(busybox))
        listing = daemon.ctr("snapshots", "--snapshotter", "gone", "prepare", "x", check=False)
        assert listing.returncode == 1
        assert f"{short_tmp}/none" in listing.stderr
        # the rest of the daemon does not mind, garbage collection included
        daemon.ctr("images", "rm", "--sync", IMAGE)
        assert daemon.ctr("content", "ls", "-q").stdout == ""


@pytest.mark.parametrize(
    ("table", "complaint"),
    [
        ('type = "block"\naddress = "/x"', "'block': unknown"),
        ('type = "snapshot"\naddress = "x"', "absolute socket path"),
        ('type = "snapshot"\naddress = "/x"\nlease = "l"', "needs a namespace"),
        ('type = "snapshot"\nplace = "/x"', "unknown key"),
    ],
)
def test_a_wrong_configuration_is_refused(table: str, complaint: str, short_tmp: Path) -> None:
    import subprocess

    config = short_tmp / "config.toml"
    config.write_text(f"[proxy_plugins.p]\n{table}\n")
    done = subprocess.run(
        [sys.executable, "-m", "cored", f"--config={config}", "config", "dump"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert complaint in done.stderr
    assert len(done.stderr.splitlines()) == 1
