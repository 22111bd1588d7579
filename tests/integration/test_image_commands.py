"""Images by corectl against a real daemon and a real registry: what a user types and gets."""

from __future__ import annotations

import json
import os
import pty
import stat
import subprocess
import tarfile
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests import images
from tests.daemons import CORECTL, Daemon
from tests.registries import Registry, registry

pytestmark = pytest.mark.root
OTHER = "arm64" if images.ARCHITECTURE != "arm64" else "amd64"


@pytest.fixture(scope="module")
def remote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with registry(tmp_path_factory.mktemp("registry")) as running:
        yield running


@pytest.fixture
def space(daemon: Daemon, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Space]:
    """A namespace of the test's own, empty again at its end."""
    made = Space(daemon, f"t{abs(hash(request.node.name)) % 10**8}")
    yield made
    for name in daemon.ctr("-n", made.name, "images", "ls", "-q").stdout.split():
        daemon.ctr("-n", made.name, "images", "rm", "--sync", name)


class Space:
    def __init__(self, daemon: Daemon, name: str) -> None:
        self.daemon = daemon
        self.name = name

    def __call__(self, *words: str | Path, code: int = 0) -> str:
        """corectl's output; what it says when it fails, where it must."""
        done = self.daemon.corectl("-n", self.name, *map(str, words))
        assert done.returncode == code, (words, done.stdout, done.stderr)
        return (done.stderr if code else done.stdout).decode()

    def names(self) -> list[str]:
        return self("images", "--format", "{{.Repository}}:{{.Tag}}").split()

    def digest(self, name: str) -> str:
        return self("image", "inspect", "-f", "{{.Descriptor.digest}}", name).strip()


def layout(path: Path, name: str = "", *, other: bool = False) -> Path:
    """An archive of one image, or of an index for two platforms of which ours is the second."""
    mine = images.make([images.layer({"d": None, "d/mine": b"1"}), images.layer({"top": b"2"})])
    if not other:
        return _written(mine, path, name)
    alien = images.make([images.layer({"alien": b"3"})])
    config = json.loads(alien.blobs[_manifest(alien)["config"]["digest"]])
    config["architecture"] = OTHER
    manifest = _manifest(alien)
    manifest["config"] = alien.add(json.dumps(config).encode(), manifest["config"]["mediaType"])
    theirs = alien.add(json.dumps(manifest).encode(), manifest["mediaType"])
    index = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [
            {**theirs, "platform": {"os": "linux", "architecture": OTHER}},
            {**mine.target, "platform": {"os": "linux", "architecture": images.ARCHITECTURE}},
        ],
    }
    both = images.Image({**mine.blobs, **alien.blobs})
    both.target = both.add(json.dumps(index).encode(), index["mediaType"])  # type: ignore[arg-type]
    return _written(both, path, name)


def _manifest(image: images.Image) -> dict[str, dict[str, str]]:
    return json.loads(image.blobs[image.target["digest"]])  # type: ignore[no-any-return]


def _written(image: images.Image, path: Path, name: str) -> Path:
    if name:
        return images.write_layout(image, path, name)
    files = {
        "oci-layout": b'{"imageLayoutVersion":"1.0.0"}',
        "index.json": json.dumps({"schemaVersion": 2, "manifests": [image.target]}).encode(),
        **{f"blobs/sha256/{d.removeprefix('sha256:')}": b for d, b in image.blobs.items()},
    }
    path.write_bytes(images.layer(files))
    return path


def test_load_says_what_it_loaded(space: Space, tmp_path: Path) -> None:
    named = layout(tmp_path / "named.tar", "docker.io/library/thing:1")
    assert space("load", "-q", "-i", named) == "Loaded image: thing:1\n"
    digest = space.digest("thing:1")
    space("rmi", "thing:1")
    nameless = layout(tmp_path / "nameless.tar")
    assert space("load", "-i", nameless) == f"Loaded image ID: {digest}\n"
    assert space.names() == ["<none>:<none>"]
    assert space("images", "-q", "--filter", "dangling=true").strip()


@pytest.mark.parametrize("packing", ["gzip", "bzip2", "xz"])
def test_load_takes_compressed_archives(space: Space, tmp_path: Path, packing: str) -> None:
    archive = layout(tmp_path / "a.tar", "docker.io/library/thing:1")
    subprocess.run([packing, archive], check=True)
    (packed,) = tmp_path.glob("a.tar.*")
    assert space("load", "-i", packed) == "Loaded image: thing:1\n"


def test_a_filesystem_is_imported_from_a_url_and_images_as_they_are(
    space: Space, tmp_path: Path
) -> None:
    (tmp_path / "fs.tar").write_bytes(images.layer({"made": b"1"}))
    handler = partial(SimpleHTTPRequestHandler, directory=tmp_path)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            url = f"http://127.0.0.1:{server.server_port}"
            id = space("import", "-c", "CMD a", f"{url}/fs.tar", "made:1").strip()
            assert "answered 404" in space("import", f"{url}/none.tar", "made:2", code=1)
        finally:
            server.shutdown()
            thread.join()
    shown = json.loads(space("image", "inspect", "made:1"))[0]
    assert (shown["Id"], shown["Config"]["Cmd"]) == (id, ["/bin/sh", "-c", "a"])
    assert shown["Comment"] == f"Imported from {url}/fs.tar"
    archive = layout(tmp_path / "a.tar", "docker.io/library/thing:1")
    assert space("image", "import", archive) == "docker.io/library/thing:1\n"
    assert sorted(space.names()) == ["made:1", "thing:1"]


def test_load_takes_a_layout_that_is_a_directory(space: Space, tmp_path: Path) -> None:
    archive = layout(tmp_path / "a.tar", "docker.io/library/thing:1")
    with tarfile.open(archive) as tar:
        tar.extractall(tmp_path / "layout", filter="data")
    assert space("load", "-i", tmp_path / "layout") == "Loaded image: thing:1\n"
    assert "no OCI layout" in space("load", "-i", tmp_path, code=1)


def test_save_gives_the_same_bytes_and_load_the_same_image(space: Space, tmp_path: Path) -> None:
    space("load", "-i", layout(tmp_path / "a.tar", "docker.io/library/thing:1"))
    digest = space.digest("thing:1")
    space("tag", "thing:1", "other:2")
    first, second = tmp_path / "first.tar", tmp_path / "second.tar"
    space("save", "-o", first, "thing:1", "other:2")
    space("rmi", "thing:1", "other:2")
    assert space.names() == []
    assert space("load", "-i", first) == "Loaded image: thing:1\nLoaded image: other:2\n"
    assert space.digest("other:2") == digest
    space("save", "-o", second, "thing:1", "other:2")
    assert first.read_bytes() == second.read_bytes()
    piped = space.daemon.corectl("-n", space.name, "save", "thing:1", "other:2", check=True)
    assert piped.stdout == first.read_bytes()


def test_a_save_that_fails_leaves_no_file(space: Space, tmp_path: Path) -> None:
    assert "not found" in space("save", "-o", tmp_path / "x.tar", "nothing", code=1)
    assert list(tmp_path.iterdir()) == []


def test_all_platforms_of_an_image_go_out_and_in(
    space: Space, remote: Registry, tmp_path: Path
) -> None:
    archive = layout(tmp_path / "a.tar", "x.invalid/y:z", other=True)
    reference = f"{remote.host}/both:1"
    space("load", "-i", archive)
    digest = space.digest("x.invalid/y:z")
    space("push", "--all-platforms", "x.invalid/y:z", reference)
    space("rmi", "x.invalid/y:z")
    # one platform is here: the name is the index's, what can be saved is that one
    space("pull", reference)
    shown = json.loads(space("image", "inspect", reference))[0]
    assert shown["Descriptor"]["digest"] == digest
    assert shown["Platforms"] == [f"linux/{images.ARCHITECTURE}"]
    refused = space("save", "-o", "/dev/null", "--platform", OTHER, reference, code=1)
    assert "with all its platforms" in refused
    space("pull", "--all-platforms", reference)
    shown = json.loads(space("image", "inspect", "--platform", OTHER, reference))[0]
    assert sorted(shown["Platforms"]) == sorted(f"linux/{a}" for a in (images.ARCHITECTURE, OTHER))
    assert shown["Architecture"] == OTHER
    space("save", "-o", tmp_path / "both.tar", reference)
    space("rmi", reference)
    space("load", "-i", tmp_path / "both.tar")
    assert space.digest(reference) == digest
    assert OTHER in space("image", "inspect", "--platform", OTHER, reference)


def test_a_push_sends_the_platform_that_is_here_or_the_named_one(
    space: Space, remote: Registry, tmp_path: Path
) -> None:
    space("load", "-i", layout(tmp_path / "a.tar", "x.invalid/y:z", other=True))
    whole, part = f"{remote.host}/whole:1", f"{remote.host}/part:1"
    space("push", "x.invalid/y:z", whole)
    index = space.digest("x.invalid/y:z")
    alien = space("push", "--platform", OTHER, "x.invalid/y:z", f"{remote.host}/alien:1")
    assert index not in alien
    space("rmi", "x.invalid/y:z")
    space("pull", whole)
    manifest = json.loads(space("image", "inspect", whole))[0]["Manifest"]["digest"]
    assert manifest in space("push", whole, part)
    assert "is not here" in space("push", "--platform", OTHER, whole, part, code=1)
    space("pull", part)
    assert space.digest(part) == manifest


def test_several_images_are_pulled_at_once_and_each_failure_is_said(
    space: Space, remote: Registry, tmp_path: Path
) -> None:
    space("load", "-i", layout(tmp_path / "a.tar", "x.invalid/y:z"))
    names = [f"{remote.host}/many:{n}" for n in range(4)]
    for name in names:
        space("push", "-q", "x.invalid/y:z", name)
    done = space.daemon.corectl("-n", space.name, "pull", "-q", *names, f"{remote.host}/no:1")
    assert done.returncode == 1
    assert sorted(done.stdout.decode().split()) == names
    assert done.stderr.decode().count("\n") == 1
    assert "no:1: not found" in done.stderr.decode()
    assert "Image is up to date" in space("pull", names[0])


def test_a_pull_on_a_terminal_shows_bars(space: Space, remote: Registry, tmp_path: Path) -> None:
    space("load", "-i", layout(tmp_path / "a.tar", "x.invalid/y:z"))
    space("push", "-q", "x.invalid/y:z", f"{remote.host}/shown:1")
    ours, theirs = pty.openpty()
    words = ("--address", str(space.daemon.address), "-n", "bars", "pull", f"{remote.host}/shown:1")
    with subprocess.Popen(
        [*CORECTL, *words], stdin=theirs, stdout=subprocess.PIPE, stderr=theirs
    ) as process:
        os.close(theirs)
        seen = b""
        while True:
            try:
                data = os.read(ours, 4096)
            except OSError:
                break
            if not data:
                break
            seen += data
        os.close(ours)
        assert process.wait(60) == 0
    assert b"\x1b[" in seen
    assert b"done" in seen
    space.daemon.ctr("-n", "bars", "images", "rm", "--sync", f"{remote.host}/shown:1")


def test_a_name_is_untagged_and_the_last_one_deletes(space: Space, tmp_path: Path) -> None:
    space("load", "-i", layout(tmp_path / "a.tar", "docker.io/library/thing:1"))
    digest = space.digest("thing:1")
    space("tag", "thing:1", "other:2")
    assert space("rmi", "thing:1") == "Untagged: thing:1\n"
    assert space("rmi", "other:2") == f"Untagged: other:2\nDeleted: {digest}\n"
    assert space.daemon.ctr("-n", space.name, "content", "ls", "-q").stdout == ""


def test_an_id_stands_for_all_names(space: Space, tmp_path: Path) -> None:
    space("load", "-i", layout(tmp_path / "a.tar", "docker.io/library/thing:1"))
    space("tag", "thing:1", "thing:2")
    (id,) = space("images", "-q").split()
    space("tag", "thing:1", "other:1")
    assert "several repositories" in space("rmi", id, code=1)
    assert space("rmi", "-f", id).count("Untagged:") == 3
    assert space.names() == []


def test_an_image_in_use_is_not_removed(space: Space, busybox: Path) -> None:
    space("load", "-i", busybox)
    space("tag", "busybox", "mine:1")
    container = space("run", "-d", "mine:1", "sleep", "1000").strip()
    # another name is left: nothing is lost
    assert space("rmi", "mine:1") == "Untagged: mine:1\n"
    for words in (["rmi", "busybox"], ["rmi", "-f", "busybox"]):
        assert f"container {container[:12]} runs from it" in space(*words, code=1)
    space("kill", container)
    space("wait", container)
    assert "was made from it" in space("rmi", "busybox", code=1)
    assert space("image", "prune", "-a", "-f").startswith("Total reclaimed space: 0B")
    assert "Deleted: sha256:" in space("rmi", "-f", "busybox")
    space("rm", container)


def test_prune_takes_what_has_no_name_or_no_use(space: Space, tmp_path: Path) -> None:
    space("load", "-i", layout(tmp_path / "a.tar"))
    assert "no terminal" in space("image", "prune", code=2)
    done = space("image", "prune", "--force")
    assert done.startswith("Deleted: sha256:")
    assert "reclaimed space: 0B" not in done
    space("load", "-i", layout(tmp_path / "b.tar", "docker.io/library/thing:1"))
    assert space("image", "prune", "-f") == "Total reclaimed space: 0B\n"
    assert space("image", "prune", "-af").startswith("Untagged: thing:1\nDeleted: sha256:")


def test_an_image_shows_what_it_is_made_of(space: Space, busybox: Path) -> None:
    space("load", "-i", busybox)
    shown = json.loads(space("image", "inspect", "busybox"))[0]
    assert shown["RepoTags"] == ["busybox:latest"]
    assert shown["Config"]["Cmd"] == ["sh"]
    assert json.loads(space("inspect", "busybox"))[0]["Id"] == shown["Id"]
    assert space("inspect", "-f", "{{index .RepoTags 0}}", "busybox") == "busybox:latest\n"
    lines = space("history", "busybox").splitlines()
    assert lines[0].split() == ["IMAGE", "CREATED", "CREATED", "BY", "SIZE", "COMMENT"]
    assert lines[1].startswith(shown["Id"][7:19])
    assert "MB" in lines[1]
    assert "no container, image, volume or network" in space("inspect", "nothing", code=1)


def test_listings_can_be_asked_for_and_formed(space: Space, busybox: Path) -> None:
    space("load", "-i", busybox)
    space("tag", "busybox", "x.invalid/y:z")
    assert space("images", "x.invalid/*").count("\n") == 2
    assert space("images", "--format", "{{.Repository}}", "-f", "reference=bus*") == "busybox\n"
    whole = space("images", "--no-trunc", "-q", "busybox").strip()
    assert whole.startswith("sha256:")
    assert space("images", "-q") == f"{whole[7:19]}\n"
    heads = space("images", "--digests").splitlines()[0].split()
    assert heads == ["REPOSITORY", "TAG", "DIGEST", "IMAGE", "ID", "CREATED", "SIZE"]
    lines = space("images", "--format", "json").splitlines()
    assert {json.loads(line)["Tag"] for line in lines} == {"latest", "z"}
    assert "colour" in space("images", "-f", "colour=red", code=1)


def test_an_image_is_mounted_and_given_back(space: Space, tmp_path: Path) -> None:
    space("load", "-i", layout(tmp_path / "a.tar", "docker.io/library/thing:1"))
    place = tmp_path / "place"
    place.mkdir()
    space("image", "mount", "thing:1", place)
    assert (place / "d/mine").read_bytes() == b"1"
    with pytest.raises(OSError, match=r"[Rr]ead-only"):
        (place / "new").touch()
    assert "has an image already" in space("image", "mount", "thing:1", place, code=1)
    space("rmi", "thing:1")
    space.daemon.corectl("gc", check=True)
    assert (place / "top").read_bytes() == b"2"
    space("image", "unmount", place)
    assert list(place.iterdir()) == []
    space.daemon.corectl("gc", check=True)
    assert len(space.daemon.ctr("-n", space.name, "snapshots", "ls").stdout.splitlines()) == 1
    assert "nothing is mounted" in space("image", "unmount", place, code=1)


def test_a_saved_file_has_the_users_mode(space: Space, busybox: Path, tmp_path: Path) -> None:
    space("load", "-i", busybox)
    space("save", "-o", tmp_path / "x.tar", "busybox")
    assert stat.S_IMODE((tmp_path / "x.tar").stat().st_mode) == 0o644
