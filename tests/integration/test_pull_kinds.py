"""All kinds of images that registries hold: compressions, foreign layers, lists, artifacts."""

from __future__ import annotations

import gzip
import hashlib
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests import images
from tests.daemons import Daemon, cored
from tests.faults import Fault, proxy
from tests.registries import Registry, registry

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

pytestmark = pytest.mark.root
OCI = "application/vnd.oci.image."
DOCKER = "application/vnd.docker."
LAYER = f"{OCI}layer.v1.tar"


@pytest.fixture(scope="module")
def remote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    anywhere = "validation: {manifests: {urls: {allow: ['.*']}}}"
    with registry(tmp_path_factory.mktemp("registry"), anywhere) as running:
        yield running


@pytest.fixture(scope="module")
def daemon(private_mounts: None) -> Iterator[Daemon]:
    with cored() as running:
        yield running


class Made:
    """Documents for one repository."""

    def __init__(self, remote: Registry, name: str) -> None:
        self._remote = remote
        self.name = name

    def blob(self, data: bytes, media_type: str, *, store: bool = True) -> dict[str, Any]:
        if store:
            self._remote.upload(self.name, data)
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        return {"mediaType": media_type, "digest": digest, "size": len(data)}

    def config(self, tars: Sequence[bytes], media_type: str, **more: Any) -> dict[str, Any]:
        ids = [f"sha256:{hashlib.sha256(tar).hexdigest()}" for tar in tars]
        content = {"os": "linux", "architecture": images.ARCHITECTURE, **more}
        content["rootfs"] = {"type": "layers", "diff_ids": ids}
        return self.blob(json.dumps(content).encode(), media_type)

    def document(self, media_type: str, tag: str = "", **content: Any) -> dict[str, Any]:
        """Put a manifest or index under a tag, or its digest; its descriptor."""
        data = json.dumps({"schemaVersion": 2, "mediaType": media_type, **content}).encode()
        target = self.blob(data, media_type, store=False)
        self._remote.put(self.name, tag or target["digest"], data, media_type)
        return target

    @property
    def reference(self) -> str:
        return f"{self._remote.host}/{self.name}:1"


def pulled(daemon: Daemon, made: Made, place: Path) -> dict[str, bytes]:
    """The files of the unpacked image."""
    space = made.name.replace("/", "-")
    daemon.corectl("-n", space, "pull", made.reference, check=True)
    place.mkdir()
    daemon.ctr("-n", space, "images", "mount", made.reference, str(place))
    try:
        return {
            str(path.relative_to(place)): path.read_bytes()
            for path in place.rglob("*")
            if path.is_file()
        }
    finally:
        daemon.ctr("-n", space, "images", "unmount", "--rm", str(place))


def test_layers_of_all_compressions_twice_and_without_anything_in_them(
    daemon: Daemon, remote: Registry, tmp_path: Path
) -> None:
    made = Made(remote, "compressions")
    tars = [images.layer({f"file{n}": bytes([n]) * 1000}) for n in range(3)]
    nothing = images.layer({})
    blobs = [
        made.blob(tars[0], LAYER),
        made.blob(gzip.compress(nothing), f"{LAYER}+gzip"),
        made.blob(gzip.compress(tars[1]), f"{LAYER}+gzip"),
        made.blob(zstd.compress(tars[2]), f"{LAYER}+zstd"),
        made.blob(gzip.compress(nothing), f"{LAYER}+gzip"),
    ]
    config = made.config([tars[0], nothing, *tars[1:], nothing], f"{OCI}config.v1+json")
    made.document(f"{OCI}manifest.v1+json", "1", config=config, layers=blobs)
    assert sorted(pulled(daemon, made, tmp_path / "m")) == ["file0", "file1", "file2"]


def test_dockers_own_kinds_are_the_same(daemon: Daemon, remote: Registry, tmp_path: Path) -> None:
    """A manifest list of schema 2 manifests; a foreign layer comes from its own URL."""
    made = Made(remote, "dockers")
    tars = [images.layer({"base": b"from elsewhere"}), images.layer({"top": b"2"})]
    base = gzip.compress(tars[0])
    with proxy(remote.host) as elsewhere:
        elsewhere.on("GET", "/base", Fault(status=200, body=base), -1)
        foreign = made.blob(base, f"{DOCKER}image.rootfs.foreign.diff.tar.gzip", store=False)
        foreign["urls"] = ["http://127.0.0.1:1/base", f"http://{elsewhere.host}/base"]
        top = made.blob(gzip.compress(tars[1]), f"{DOCKER}image.rootfs.diff.tar.gzip")
        config = made.config(tars, f"{DOCKER}container.image.v1+json")
        target = made.document(
            f"{DOCKER}distribution.manifest.v2+json", config=config, layers=[foreign, top]
        )
        platform = {"os": "linux", "architecture": images.ARCHITECTURE}
        made.document(
            f"{DOCKER}distribution.manifest.list.v2+json",
            "1",
            manifests=[{**target, "platform": platform}],
        )
        assert pulled(daemon, made, tmp_path / "m") == {"base": b"from elsewhere", "top": b"2"}
        assert [seen.path for seen in elsewhere.seen] == ["/base"]


@pytest.mark.parametrize(
    ("wanted", "chosen"),
    [
        ("linux/arm/v7", "arm/v7"),
        ("linux/arm/v8", "arm/v7"),
        ("linux/arm64", "arm/v7"),
        ("linux/amd64/v3", "amd64/v2"),
        ("linux/amd64/v2", "amd64/v2"),
        ("linux/amd64", "386"),
    ],
)
def test_the_best_of_an_indexs_platforms_is_taken(
    daemon: Daemon, remote: Registry, wanted: str, chosen: str
) -> None:
    made = Made(remote, f"platforms/{wanted.replace('/', '-')}")
    entries, layers = [], {}
    for name in ("arm/v6", "arm/v7", "386", "amd64/v2", "riscv64"):
        architecture, _, variant = name.partition("/")
        platform = {"os": "linux", "architecture": architecture}
        platform |= {"variant": variant} if variant else {}
        tar = images.layer({"which": name.encode()})
        config = made.config([tar], f"{OCI}config.v1+json", **platform)
        layer = made.blob(gzip.compress(tar), f"{LAYER}+gzip")
        layers[layer["digest"]] = name
        target = made.document(f"{OCI}manifest.v1+json", config=config, layers=[layer])
        entries.append({**target, "platform": platform})
    strange = {"os": "linux", "architecture": "amd64", "os.features": ["one-of-ours"]}
    entries.insert(0, {**entries[-1], "platform": strange})
    made.document(f"{OCI}index.v1+json", "1", manifests=entries)
    space = wanted.replace("/", "-")
    daemon.corectl("-n", space, "pull", "--platform", wanted, made.reference, check=True)
    listed = daemon.ctr("-n", space, "content", "ls", "-q").stdout.split()
    assert [layers[digest] for digest in listed if digest in layers] == [chosen]
    assert daemon.ctr("-n", space, "snapshots", "ls").stdout.count("Committed") == 1


def test_an_artifact_is_fetched_and_not_unpacked(daemon: Daemon, remote: Registry) -> None:
    made = Made(remote, "artifact")
    content = made.blob(b"a chart, say", "application/x-chart")
    config = made.blob(b"{}", "application/vnd.oci.empty.v1+json")
    made.document(
        f"{OCI}manifest.v1+json",
        "1",
        artifactType="application/x-thing",
        config=config,
        layers=[content],
    )
    daemon.corectl("-n", "artifact", "pull", made.reference, check=True)
    listed = daemon.ctr("-n", "artifact", "content", "ls", "-q").stdout.split()
    assert {content["digest"], config["digest"]} < set(listed)
    shown = daemon.ctr("-n", "artifact", "content", "get", content["digest"]).stdout
    assert shown == "a chart, say"


def test_schema_1_is_refused_with_what_to_do(daemon: Daemon, remote: Registry) -> None:
    old = json.dumps({"schemaVersion": 1, "name": "x", "fsLayers": [], "history": []}).encode()
    with proxy(remote.host) as faulty:
        kind = {"Content-Type": f"{DOCKER}distribution.manifest.v1+prettyjws"}
        faulty.on("GET", "manifests", Fault(status=200, body=old, changes=dict(kind)))
        done = daemon.corectl("pull", f"{faulty.host}/old:1")
    assert done.returncode == 1
    assert b"schema 1" in done.stderr
    assert b"push the image again" in done.stderr


def test_a_document_of_two_kinds_is_refused(daemon: Daemon, remote: Registry) -> None:
    both = json.dumps({"schemaVersion": 2, "manifests": [], "layers": []}).encode()
    lies = json.dumps({"schemaVersion": 2, "mediaType": f"{OCI}index.v1+json"}).encode()
    with proxy(remote.host) as faulty:
        kind = {"Content-Type": f"{OCI}manifest.v1+json"}
        for data, said in ((both, b"at once"), (lies, b"says")):
            faulty.on("GET", "manifests", Fault(status=200, body=data, changes=dict(kind)))
            done = daemon.corectl("pull", f"{faulty.host}/two:1")
            assert done.returncode == 1
            assert said in done.stderr
