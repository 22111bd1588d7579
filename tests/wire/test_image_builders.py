"""Images by buildah, umoci, skopeo and docker: pulled, run, pushed back, read by each of them."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.daemons import Daemon
from tests.docker import Docker, dockerd
from tests.registries import Registry, registry

pytestmark = pytest.mark.root
BUSYBOX = Path("/bin/busybox")
COMMAND = ["/bin/busybox", "cat", "/who"]


def run(*words: str | Path) -> str:
    done = subprocess.run(list(map(str, words)), capture_output=True, text=True, check=False)
    assert done.returncode == 0, (words, done.stdout, done.stderr)
    return done.stdout


@dataclass
class Workshop:
    """A registry, and a place for all tools to work in."""

    remote: Registry
    place: Path
    docker: Docker

    def buildah(self, *words: str | Path) -> str:
        where = ("--root", self.place / "buildah", "--runroot", self.place / "buildah-run")
        return run("buildah", *where, "--storage-driver", "vfs", *words).strip()

    def skopeo(self, *words: str | Path) -> str:
        return run("skopeo", "--insecure-policy", *words)

    def digest(self, reference: str) -> str:
        """Of what the registry holds, byte for byte."""
        raw = self.skopeo("inspect", "--raw", "--tls-verify=false", f"docker://{reference}")
        return f"sha256:{hashlib.sha256(raw.encode()).hexdigest()}"

    def root(self, who: str) -> Path:
        """A tree with a shell and a file that says who made the image."""
        root = self.place / f"root-{who}"
        (root / "bin").mkdir(parents=True)
        shutil.copy(BUSYBOX, root / "bin/busybox")
        (root / "who").write_text(f"{who}\n")
        return root


@pytest.fixture(scope="module")
def workshop(daemon: Daemon, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workshop]:
    place = tmp_path_factory.mktemp("registry")
    with registry(place) as remote, dockerd(daemon) as docker:
        # docker lives in a network namespace of its own: a second server of the same registry there
        with subprocess.Popen(
            ["nsenter", "--net", f"--target={docker.process.pid}",
             "docker-registry", "serve", str(place / "config.yml")],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        ) as inside:  # fmt: skip
            try:
                end = time.monotonic() + 60
                while docker.inside("curl", "-sf", f"http://{remote.host}/v2/").returncode:
                    assert time.monotonic() < end
                    time.sleep(0.05)
                yield Workshop(remote, tmp_path_factory.mktemp("workshop"), docker)
            finally:
                inside.terminate()


def by_buildah(shop: Workshop) -> str:
    reference = f"{shop.remote.host}/made/buildah:1"
    container = shop.buildah("from", "scratch")
    shop.buildah("copy", container, shop.root("buildah"), "/")
    shop.buildah("config", "--cmd", json.dumps(COMMAND), container)
    policy = shop.place / "policy.json"
    policy.write_text('{"default": [{"type": "insecureAcceptAnything"}]}')
    trust = ("--signature-policy", policy)
    shop.buildah("commit", *trust, "--rm", container, "built")
    shop.buildah("push", *trust, "--tls-verify=false", "built", f"docker://{reference}")
    return reference


def by_umoci(shop: Workshop) -> str:
    reference = f"{shop.remote.host}/made/umoci:1"
    layout = shop.place / "umoci"
    run("umoci", "init", "--layout", layout)
    run("umoci", "new", "--image", f"{layout}:x")
    run("umoci", "insert", "--image", f"{layout}:x", shop.root("umoci"), "/")
    words = [f"--config.cmd={word}" for word in COMMAND]
    run("umoci", "config", "--image", f"{layout}:x", *words)
    shop.skopeo("copy", "--dest-tls-verify=false", f"oci:{layout}:x", f"docker://{reference}")
    return reference


def by_skopeo(shop: Workshop) -> str:
    """A docker-archive made by hand, which skopeo turns into an image in a registry."""
    reference = f"{shop.remote.host}/made/skopeo:1"
    scratch = shop.place / "archive"
    scratch.mkdir()
    layer = scratch / "layer.tar"
    run("tar", "-C", shop.root("skopeo"), "-cf", layer, ".")
    config = {
        "os": "linux",
        "architecture": "amd64",
        "config": {"Cmd": COMMAND},
        "rootfs": {
            "type": "layers",
            "diff_ids": [f"sha256:{hashlib.sha256(layer.read_bytes()).hexdigest()}"],
        },
    }
    (scratch / "config.json").write_text(json.dumps(config))
    manifest = [{"Config": "config.json", "RepoTags": ["x:1"], "Layers": ["layer.tar"]}]
    (scratch / "manifest.json").write_text(json.dumps(manifest))
    archive = shop.place / "archive.tar"
    run("tar", "-C", scratch, "-cf", archive, "manifest.json", "config.json", "layer.tar")
    shop.skopeo(
        "copy", "--dest-tls-verify=false", f"docker-archive:{archive}", f"docker://{reference}"
    )
    return reference


def by_docker(shop: Workshop) -> str:
    reference = f"{shop.remote.host}/made/docker:1"
    context = shop.root("docker")
    (context / "Dockerfile").write_text(
        'FROM scratch\nCOPY bin /bin\nRUN ["/bin/busybox", "sh", "-c", "echo docker > /who"]\n'
        f"CMD {json.dumps(COMMAND)}\n"
    )
    shop.docker("build", "-t", reference, str(context))
    shop.docker("push", reference)
    shop.docker("rmi", reference)
    return reference


@pytest.mark.parametrize("build", [by_buildah, by_umoci, by_skopeo, by_docker])
def test_an_image_makes_the_round_and_stays_the_same(
    daemon: Daemon, workshop: Workshop, build: Callable[[Workshop], str]
) -> None:
    reference = build(workshop)
    who = build.__name__.removeprefix("by_")
    digest = workshop.digest(reference)
    pulled = daemon.corectl("pull", reference, check=True).stdout.decode()
    assert f"Digest: {digest}" in pulled
    assert daemon.corectl("run", "--rm", reference, check=True).stdout.decode() == f"{who}\n"
    back = reference.replace("/made/", "/back/")
    pushed = daemon.corectl("push", reference, back, check=True).stdout.decode()
    assert digest in pushed
    assert workshop.digest(back) == digest
    read_back(workshop, back, who, digest)
    # under no name of ours any more: what is read now comes from the registry alone
    daemon.corectl("rmi", reference, check=True)
    daemon.corectl("pull", "-q", back, check=True)
    assert daemon.corectl("run", "--rm", back, check=True).stdout.decode() == f"{who}\n"


def read_back(shop: Workshop, reference: str, who: str, digest: str) -> None:
    """Every tool fetches the image and finds the file."""
    layout, bundle = shop.place / f"layout-{who}", shop.place / f"bundle-{who}"
    source = f"docker://{reference}"
    shop.skopeo("copy", "--src-tls-verify=false", source, f"dir:{shop.place / f'dir-{who}'}")
    kept = (shop.place / f"dir-{who}" / "manifest.json").read_bytes()
    assert f"sha256:{hashlib.sha256(kept).hexdigest()}" == digest
    shop.skopeo("copy", "--src-tls-verify=false", source, f"oci:{layout}:x")
    run("umoci", "unpack", "--image", f"{layout}:x", bundle)
    assert (bundle / "rootfs/who").read_text() == f"{who}\n"
    policy = shop.place / "policy.json"
    policy.write_text('{"default": [{"type": "insecureAcceptAnything"}]}')
    trust = ("--signature-policy", policy, "--tls-verify=false")
    container = shop.buildah("from", *trust, source)
    assert (Path(shop.buildah("mount", container)) / "who").read_text() == f"{who}\n"
    shop.buildah("rm", container)
    shop.docker("pull", reference)
    assert shop.docker("run", "--rm", reference).stdout == f"{who}\n"
    (known,) = shop.docker.inspect(reference)["RepoDigests"]
    assert known.endswith(digest)
