"""Image Manager: pulls with and without credentials, names, pins, removal, and the disk."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from cored._pb.cri.v1 import api_pb2 as pb
from tests import kubelet as kubelets
from tests import registries
from tests.kubelet import Kubelet, refused
from tests.patience import eventually
from tests.registries import Registry

pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with registries.registry(tmp_path_factory.mktemp("registry")) as running:
        yield running


@pytest.fixture(scope="module")
def kubelet(
    busybox: Path,
    registry: Registry,
    private_mounts: None,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Kubelet]:
    pins = f'[plugins.grpc_service.cri-images]\npinned = ["{registry.host}/pinned:1"]\n'
    with kubelets.daemon(busybox, tmp_path_factory.mktemp("cni"), extra=pins) as (_, running):
        yield running


def _image(kubelet: Kubelet, name: str) -> pb.Image:
    found: pb.Image = kubelet.call("ImageStatus", image=pb.ImageSpec(image=name)).image
    return found


def test_an_image_has_one_id_however_it_is_named(
    kubelet: Kubelet, registry: Registry, busybox: Path
) -> None:
    names = [registry.push(busybox, f"{n}:1", kind="docker-archive") for n in ("one", "two")]
    ids = {kubelet.call("PullImage", image=pb.ImageSpec(image=n)).image_ref for n in names}
    (id,) = ids
    image = _image(kubelet, names[0])
    assert image.id == id and set(names) <= set(image.repo_tags) and image.size > 0
    assert image.uid.value == 0 and not image.pinned
    for name in (id, id.removeprefix("sha256:"), image.repo_digests[0], names[1]):
        assert _image(kubelet, name).id == id
    verbose = kubelet.call("ImageStatus", image=pb.ImageSpec(image=id), verbose=True)
    assert "chainID" in verbose.info["info"]
    listed = kubelet.call("ListImages").images
    assert [one.id for one in listed] == [id]  # each once
    wanted = pb.ImageFilter(image=pb.ImageSpec(image=names[0]))
    assert [one.id for one in kubelet.call("ListImages", filter=wanted).images] == [id]
    pages = kubelet.call("StreamImages", filter=wanted)
    assert [one.id for page in pages for one in page.images] == [id]
    # removing one of its names removes them all, and again is fine
    for _ in range(2):
        kubelet.call("RemoveImage", image=pb.ImageSpec(image=names[0]))
    assert not _image(kubelet, names[1]).id and not kubelet.call("ListImages").images


def test_a_pinned_image_says_so(kubelet: Kubelet, registry: Registry, busybox: Path) -> None:
    name = registry.push(busybox, "pinned:1", kind="docker-archive")
    kubelet.call("PullImage", image=pb.ImageSpec(image=name))
    assert _image(kubelet, name).pinned


def test_what_cannot_be_pulled_is_said_and_what_is_not_there_is_empty(
    kubelet: Kubelet, registry: Registry
) -> None:
    with refused(grpc.StatusCode.NOT_FOUND):
        kubelet.call("PullImage", image=pb.ImageSpec(image=f"{registry.host}/none:1"))
    with refused(grpc.StatusCode.INVALID_ARGUMENT):
        kubelet.call("PullImage", image=pb.ImageSpec(image="NOT a name"))
    with refused(grpc.StatusCode.INVALID_ARGUMENT):
        auth = pb.AuthConfig(auth="no base64!")
        kubelet.call("PullImage", image=pb.ImageSpec(image=f"{registry.host}/none:1"), auth=auth)
    assert not kubelet.call("ImageStatus", image=pb.ImageSpec(image="none")).HasField("image")
    with refused(grpc.StatusCode.INVALID_ARGUMENT):
        kubelet.call("ImageStatus")


def test_the_disk_of_images_is_counted(kubelet: Kubelet, registry: Registry, busybox: Path) -> None:
    name = registry.push(busybox, "disk:1", kind="docker-archive")
    kubelet.call("PullImage", image=pb.ImageSpec(image=name))

    def used() -> bool:
        (found,) = kubelet.call("ImageFsInfo").image_filesystems
        return bool(found.used_bytes.value and found.inodes_used.value and found.fs_id.mountpoint)

    eventually(used)
