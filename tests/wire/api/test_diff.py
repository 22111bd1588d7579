"""containerd.services.diff.v1.Diff"""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
from pathlib import Path
from typing import Any

import pytest

from tests.grpc_client import Client, only_cored
from tests.images import layer

LAYER = "application/vnd.oci.image.layer.v1.tar"
GZIP = f"{LAYER}+gzip"
DOCKER = "application/vnd.docker.image.rootfs.diff.tar.gzip"


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def prepare(api: Client, key: str, parent: str = "") -> Any:
    return api.snapshots.Prepare(snapshotter="overlayfs", key=key, parent=parent).mounts


def described(api: Client, data: bytes, media_type: str, **fields: Any) -> dict[str, Any]:
    return {
        "digest": api.put(data),
        "size": len(data),
        "media_type": media_type,
        **fields,
    }


def read(api: Client, digest: str) -> bytes:
    return b"".join(part.data for part in api.content.Read(digest=digest))


FILES = {"dir": None, "dir/file": b"text", "other": b"x" * 5000}
TAR = layer(FILES)


@pytest.mark.parametrize(
    ("media_type", "pack"),
    [
        (LAYER, bytes),
        (GZIP, gzip.compress),
        (DOCKER, gzip.compress),
        ("application/vnd.docker.image.rootfs.diff.tar", bytes),
    ],
)
def test_a_layer_is_applied_to_mounts(api: Client, media_type: str, pack: Any) -> None:
    mounts = prepare(api, "k")
    applied = api.diff.Apply(diff=described(api, pack(TAR), media_type), mounts=mounts).applied
    assert applied.media_type == LAYER
    assert (applied.digest, applied.size) == (digest_of(TAR), len(TAR))
    root = Path(mounts[0].source)
    assert (root / "dir/file").read_bytes() == b"text"
    assert (root / "other").stat().st_size == 5000


def test_a_layer_on_a_layer_hides_and_replaces(api: Client) -> None:
    first = prepare(api, "one")
    api.diff.Apply(diff=described(api, TAR, LAYER), mounts=first)
    api.snapshots.Commit(snapshotter="overlayfs", name="c", key="one")
    second = prepare(api, "two", "c")
    upper = layer({"dir/.wh.file": b"", "other": b"new"})
    api.diff.Apply(diff=described(api, upper, LAYER), mounts=second)
    (mount,) = api.snapshots.Mounts(snapshotter="overlayfs", key="two").mounts
    assert mount.type == "overlay"
    made = api.diff.Diff(left=first_view(api), right=second, media_type=LAYER).diff
    with tarfile.open(fileobj=io.BytesIO(read(api, made.digest))) as archive:
        names = {member.name.rstrip("/") for member in archive}
        assert {"dir/.wh.file", "other"} <= names
        found = archive.extractfile("other")
        assert found is not None
        assert found.read() == b"new"


def first_view(api: Client) -> Any:
    return api.snapshots.View(snapshotter="overlayfs", key="view", parent="c").mounts


@pytest.mark.parametrize("media_type", [LAYER, GZIP, ""])
def test_a_difference_becomes_content(api: Client, media_type: str) -> None:
    below = prepare(api, "empty")
    mounts = prepare(api, "k")
    Path(mounts[0].source, "file").write_bytes(b"text")
    made = api.diff.Diff(
        left=below, right=mounts, media_type=media_type, ref="mine", labels={"a.b": "1"}
    ).diff
    assert made.media_type == (media_type or GZIP)
    data = read(api, made.digest)
    assert (made.digest, made.size) == (digest_of(data), len(data))
    plain = gzip.decompress(data) if made.media_type == GZIP else data
    with tarfile.open(fileobj=io.BytesIO(plain)) as archive:
        assert "file" in {member.name for member in archive}
    labels = api.content.Info(digest=made.digest).info.labels
    assert labels["a.b"] == "1"
    if made.media_type == GZIP:
        assert labels["containerd.io/uncompressed"] == digest_of(plain)
    again = api.diff.Diff(left=below, right=mounts, media_type=media_type, ref="again").diff
    assert again.digest == made.digest


@only_cored  # since 1.7
def test_the_source_date_epoch_bounds_all_times(api: Client) -> None:
    below, mounts = prepare(api, "empty"), prepare(api, "k")
    Path(mounts[0].source, "file").write_bytes(b"text")
    made = api.diff.Diff(
        left=below, right=mounts, media_type=LAYER, source_date_epoch={"seconds": 1000}
    ).diff
    with tarfile.open(fileobj=io.BytesIO(read(api, made.digest))) as archive:
        assert {member.mtime for member in archive} == {1000}


def test_a_namespace_is_needed(nobody: Client) -> None:
    for call in (
        lambda: nobody.diff.Apply(diff={"digest": digest_of(b""), "size": 1, "media_type": LAYER}),
        lambda: nobody.diff.Diff(media_type=LAYER),
    ):
        with nobody.refused("FAILED_PRECONDITION", "namespace"):
            call()


def test_another_namespaces_content_cannot_be_applied(api: Client, other: Client) -> None:
    layer_there = described(api, TAR, LAYER)
    with other.refused("NOT_FOUND"):
        other.diff.Apply(diff=layer_there, mounts=prepare(other, "k"))


def test_what_is_made_of_a_difference_belongs_to_one_namespace(api: Client, other: Client) -> None:
    mounts = prepare(api, "k")
    made = other.diff.Diff(left=[], right=mounts, media_type=LAYER).diff
    assert other.content.Info(digest=made.digest).info.size == made.size
    with api.refused("NOT_FOUND"):
        api.content.Info(digest=made.digest)


def test_content_that_is_not_there_cannot_be_applied(api: Client) -> None:
    mounts = prepare(api, "k")
    for digest in (digest_of(b"absent"), "nonsense", ""):
        with api.refused("NOT_FOUND"):
            api.diff.Apply(diff={"digest": digest, "size": 1, "media_type": LAYER}, mounts=mounts)


@only_cored  # containerd: UNKNOWN
@pytest.mark.parametrize("media_type", ["application/nonsense", ""])
def test_unknown_media_types_are_refused(api: Client, media_type: str) -> None:
    mounts = prepare(api, "k")
    data = described(api, TAR, media_type)
    with api.refused("UNIMPLEMENTED", "nonsense" if media_type else ""):
        api.diff.Apply(diff=data, mounts=mounts)
    if media_type:
        with api.refused("UNIMPLEMENTED", "nonsense"):
            api.diff.Diff(left=mounts, right=mounts, media_type=media_type)


@only_cored  # containerd: UNKNOWN
def test_what_is_no_layer_is_refused(api: Client) -> None:
    mounts = prepare(api, "k")
    for data, media_type in ((b"no tar at all" * 100, LAYER), (b"no gzip at all", GZIP)):
        with api.refused("INVALID_ARGUMENT"):
            api.diff.Apply(diff=described(api, data, media_type), mounts=mounts)
    assert not list(Path(mounts[0].source).iterdir())
