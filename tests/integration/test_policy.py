"""Policy at pull: a plugin refuses by reference, by digest, by manifest; nothing of it is kept."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.any_pb2 import Any as AnyMessage

from cored._pb.containerd.types.transfer import imagestore_pb2, registry_pb2
from tests import daemons, images
from tests.daemons import Daemon
from tests.grpc_client import Client
from tests.registries import Registry, registry
from tests.strangers import installed

pytestmark = pytest.mark.root

PLUGIN = """
import json
from cored.errors import PermissionDenied
from cored.hookspecs import hookimpl


@hookimpl
def cored_image_pull(namespace, reference):
    if "/forbidden:" in reference:
        raise PermissionDenied(f"{namespace} may not have it", hint="ask the administrator")


@hookimpl
def cored_image_manifest(reference, target, manifest):
    document = json.loads(manifest)
    if document.get("annotations", {}).get("signed") == "no":
        raise PermissionDenied(f"{target.digest[:19]} is not signed")
    if "/broken:" in reference:
        raise ValueError("the policy has a mistake")
"""


@pytest.fixture(scope="module")
def remote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with registry(tmp_path_factory.mktemp("registry")) as running:
        yield running


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory, private_mounts: None) -> Iterator[Daemon]:
    folder = installed(tmp_path_factory.mktemp("plugins"), "strict_policy", PLUGIN)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(folder))
        with daemons.cored() as daemon:
            yield daemon


def pushed(remote: Registry, name: str, scratch: Path, **annotations: str) -> str:
    """An image whose manifest has ``annotations``, in the registry."""
    image = images.make([images.layer({"file": name.encode()})])
    if annotations:
        manifest = json.loads(image.blobs.pop(image.target["digest"]))
        manifest["annotations"] = annotations
        image.target = image.add(json.dumps(manifest).encode(), manifest["mediaType"])
    archive = images.write_layout(image, scratch / "image.tar", "x.invalid/y:z")
    return remote.push(archive, name)


def kept(daemon: Daemon, namespace: str) -> str:
    """Images, snapshots, leases and blobs of a namespace, after a collection."""
    daemon.corectl("gc", check=True)
    lists = (("images", "ls", "-q"), ("leases", "ls", "-q"), ("content", "ls", "-q"))
    rest = daemon.ctr("-n", namespace, "snapshots", "ls").stdout.splitlines()[1:]
    return "".join([daemon.ctr("-n", namespace, *words).stdout for words in lists] + rest)


def test_a_reference_is_refused_with_the_reason(strict: Daemon) -> None:
    done = strict.corectl("-n", "one", "pull", "127.0.0.1:1/forbidden:1")
    assert done.returncode == 1
    assert done.stderr.decode() == (
        "corectl: image 127.0.0.1:1/forbidden:1: refused by policy: one may not have it"
        " (ask the administrator)\n"
    )


@pytest.mark.parametrize("how", ["corectl", "transfer"])
def test_a_manifest_is_refused_before_anything_is_kept(
    strict: Daemon, remote: Registry, tmp_path: Path, how: str
) -> None:
    reference = pushed(remote, "unsigned:1", tmp_path, signed="no")
    if how == "corectl":
        done = strict.corectl("-n", "two", "pull", reference)
        code, text = done.returncode, done.stderr.decode()
    else:
        code, text = _transferred(strict, "two", reference)
    assert code != 0
    assert f"image {reference}: refused by policy: sha256:" in text
    assert "is not signed" in text
    assert kept(strict, "two") == ""


def test_a_policy_that_fails_refuses(strict: Daemon, remote: Registry, tmp_path: Path) -> None:
    reference = pushed(remote, "broken:1", tmp_path)
    assert strict.corectl("-n", "three", "pull", reference).returncode == 1
    assert kept(strict, "three") == ""
    assert "the policy has a mistake" in strict.log


def test_others_are_pulled(strict: Daemon, remote: Registry, tmp_path: Path) -> None:
    reference = pushed(remote, "signed:1", tmp_path, signed="yes")
    strict.corectl("-n", "four", "pull", reference, check=True)
    assert _transferred(strict, "five", reference)[0] == 0


def _transferred(daemon: Daemon, namespace: str, reference: str) -> tuple[int, str]:
    """A pull by the Transfer service, unpacked; the status' code and message."""
    source = registry_pb2.OCIRegistry(reference=reference)
    host = {"os": "linux", "architecture": images.ARCHITECTURE}
    unpack = imagestore_pb2.UnpackConfiguration(platform=host)
    target = imagestore_pb2.ImageStore(name=reference, unpacks=[unpack])
    with Client(daemon.address) as api:
        try:
            api.within(namespace).transfer.Transfer(
                source=_packed(source), destination=_packed(target)
            )
        except grpc.RpcError as error:
            assert error.code() is grpc.StatusCode.PERMISSION_DENIED
            return error.code().value[0], error.details()
    return 0, ""


def _packed(value: Any) -> AnyMessage:
    return AnyMessage(type_url=value.DESCRIPTOR.full_name, value=value.SerializeToString())
