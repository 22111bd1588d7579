"""Transfer and Streaming: what ctr 2.x asks for by default, with a plain client."""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import queue
import tarfile
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.any_pb2 import Any as AnyMessage

from cored._pb.containerd.types.transfer import imagestore_pb2, importexport_pb2, registry_pb2
from cored._pb.containerd.types.transfer.progress_pb2 import Progress
from cored._pb.containerd.types.transfer.streaming_pb2 import Data, WindowUpdate
from tests import images
from tests.daemons import Daemon, cored
from tests.faults import proxy
from tests.grpc_client import Client, message
from tests.registries import Registry, registry

pytestmark = pytest.mark.root
_NUMBERS = itertools.count(1)
SOURCE = "containerd.io/distribution.source.{}"
HOST = {"os": "linux", "architecture": images.ARCHITECTURE}


def packed(value: Any) -> AnyMessage:
    return AnyMessage(type_url=value.DESCRIPTOR.full_name, value=value.SerializeToString())


class Stream:
    """One open stream: ``send`` and iterate."""

    def __init__(self, api: Client, id: str = "") -> None:
        self.id = id or f"stream-{next(_NUMBERS)}"
        self._requests: queue.SimpleQueue[AnyMessage | None] = queue.SimpleQueue()
        init = message("containerd.services.streaming.v1.StreamInit", id=self.id)
        self._requests.put(packed(init))
        self.answers = api.streaming.Stream(iter(self._requests.get, None))
        assert next(self.answers).type_url == "google.protobuf.Empty"

    def send(self, value: Any) -> None:
        self._requests.put(packed(value))

    def end(self) -> None:
        self._requests.put(None)

    def read(self, kind: Any) -> Iterator[Any]:
        try:
            for answer in self.answers:
                assert answer.type_url == kind.DESCRIPTOR.full_name
                yield kind.FromString(answer.value)
        except grpc.RpcError as error:
            assert error.code() is grpc.StatusCode.CANCELLED  # the test has ended


def sending(api: Client, data: bytes) -> Stream:
    """A stream that sends data as the other side asks for it."""
    stream = Stream(api)

    def run() -> None:
        offset = 0
        for update in stream.read(WindowUpdate):
            window = update.update
            while window > 0 and offset < len(data):
                piece = data[offset : offset + min(window, 32 << 10)]
                stream.send(Data(data=piece))
                offset += len(piece)
                window -= len(piece)
            if offset == len(data):
                stream.end()

    threading.Thread(target=run, daemon=True).start()
    return stream


def receiving(api: Client, window: int = 64 << 10) -> tuple[Stream, threading.Thread, bytearray]:
    """A stream that asks for data, a window at a time."""
    stream, data = Stream(api), bytearray()

    def run() -> None:
        left = 0
        while True:
            if left <= 0:
                stream.send(WindowUpdate(update=window))
                left = window
            piece = next(stream.read(Data), None)
            if piece is None:
                return
            assert len(piece.data) <= left
            left -= len(piece.data)
            data.extend(piece.data)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return stream, thread, data


def store(name: str = "", *, unpack: bool = False, **values: Any) -> imagestore_pb2.ImageStore:
    if unpack:
        values["unpacks"] = [imagestore_pb2.UnpackConfiguration(platform=HOST)]
    return imagestore_pb2.ImageStore(name=name, **values)


def transfer(api: Client, source: Any, destination: Any, progress: str = "") -> None:
    api.transfer.Transfer(
        source=packed(source),
        destination=packed(destination),
        options={"progress_stream": progress},
    )


@pytest.fixture(scope="module")
def running(private_mounts: None) -> Iterator[Daemon]:
    with cored() as daemon:
        yield daemon


@pytest.fixture
def api(running: Daemon) -> Iterator[Client]:
    with Client(running.address, f"transfer-{next(_NUMBERS)}") as api:
        yield api


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with registry(tmp_path_factory.mktemp("registry")) as running:
        yield running


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An OCI layout with one image of two layers."""
    image = images.make([images.layer({"a": b"1" * 300_000}), images.layer({"b": b"2"})])
    path = tmp_path_factory.mktemp("layout") / "image.tar"
    return images.write_layout(image, path, "example.org/lib/two:1")


def imported(api: Client, archive: Path, name: str = "", **values: Any) -> None:
    stream = sending(api, archive.read_bytes())
    values.setdefault(
        "extra_references",
        [imagestore_pb2.ImageReference(name="import", is_prefix=True, allow_overwrite=True)],
    )
    destination = store(name, unpack=True, **values)
    transfer(api, importexport_pb2.ImageImportStream(stream=stream.id), destination)


def names(api: Client) -> set[str]:
    return {image.name for image in api.images.List().images}


def test_an_archive_is_imported_under_its_own_name_and_unpacked(api: Client, archive: Path) -> None:
    imported(api, archive)
    assert names(api) == {"example.org/lib/two:1"}
    pages = list(api.snapshots.List(snapshotter="overlayfs"))
    assert [info.kind for page in pages for info in page.info] == [3, 3]


def test_layers_that_are_unpacked_already_join_the_lease(
    api: Client, running: Daemon, archive: Path
) -> None:
    imported(api, archive)
    lease = api.leases.Create(id="second").lease.id
    with Client(running.address, api.namespace, lease=lease) as leased:
        imported(leased, archive)
    held = [one.id for one in api.leases.ListResources(id=lease).resources if "snap" in one.type]
    pages = list(api.snapshots.List(snapshotter="overlayfs"))
    assert sorted(held) == sorted(info.name for page in pages for info in page.info)
    assert len(held) == 2


def test_an_import_can_keep_its_index_and_digests(api: Client, archive: Path) -> None:
    extra = imagestore_pb2.ImageReference(name="local/x", is_prefix=True, add_digest=True)
    imported(api, archive, "local/index:1", extra_references=[extra])
    found = {image.name: image for image in api.images.List().images}
    digest = found["local/index:1"].target.digest
    assert f"local/x@{digest}" in found
    assert found[f"local/x@{digest}"].labels["containerd.io/gc.bref.image"] == "local/index:1"
    # the name in the archive is no name in local/x
    assert "example.org/lib/two:1" not in found
    assert len(found) == 3


def test_an_exported_image_is_the_same_image(api: Client, archive: Path) -> None:
    imported(api, archive)
    (image,) = api.images.List().images
    exports = []
    for _ in range(2):
        stream, thread, data = receiving(api)
        destination = importexport_pb2.ImageExportStream(stream=stream.id)
        transfer(api, store("example.org/lib/two:1"), destination)
        thread.join(60)
        exports.append(bytes(data))
    assert exports[0] == exports[1]  # the same bytes every time
    with tarfile.open(fileobj=io.BytesIO(exports[0])) as tar:
        index = json.load(tar.extractfile("index.json"))  # type: ignore[arg-type]
        docker = json.load(tar.extractfile("manifest.json"))  # type: ignore[arg-type]
        assert len([m for m in tar if m.name.startswith("blobs/sha256/") and m.isfile()]) == 4
    assert [m["digest"] for m in index["manifests"]] == [image.target.digest]
    assert docker[0]["RepoTags"] == ["example.org/lib/two:1"]
    api.images.Delete(name=image.name, sync=True)
    assert names(api) == set()
    path = archive.with_name("again.tar")
    path.write_bytes(exports[0])
    imported(api, path)
    assert next(iter(api.images.List().images)).target.digest == image.target.digest


def test_push_and_pull_bring_the_same_image_back(
    api: Client, archive: Path, server: Registry
) -> None:
    imported(api, archive)
    digest = api.images.Get(name="example.org/lib/two:1").image.target.digest
    reference = f"{server.host}/there/two:1"
    remote = registry_pb2.OCIRegistry(reference=reference)
    transfer(api, store("example.org/lib/two:1"), remote)
    transfer(api, store("example.org/lib/two:1"), remote)  # all of it is there by now
    api.images.Delete(name="example.org/lib/two:1", sync=True)
    assert list(api.content.List()) == []

    progress = Stream(api)
    transfer(api, remote, store(reference, unpack=True), progress.id)
    seen = list(progress.read(Progress))
    assert api.images.Get(name=reference).image.target.digest == digest
    events = [step.event for step in seen]
    assert events[0].startswith("Resolving from")
    assert events[-1].startswith("Completed pull from")
    layers = {step.name: step for step in seen if step.name.startswith("layer-")}
    assert len(layers) == 2
    manifest = f"manifest-{digest}"
    for step in layers.values():
        assert step.event in ("complete", "already exists")
        assert step.progress == step.total == step.desc.size
        assert list(step.parents) == [manifest]
    assert events.index(f"Pulling from OCI Registry ({reference})") < events.index("complete")
    named = [step.name for step in seen]
    # clients draw a tree: who has parents comes after them
    assert named.index(reference) < named.index(manifest) < min(map(named.index, layers))


def test_a_pull_without_unpacking_only_fetches(
    api: Client, archive: Path, server: Registry
) -> None:
    reference = server.push(archive, "lib/fetched:1")
    transfer(api, registry_pb2.OCIRegistry(reference=reference), store(reference))
    (page,) = api.content.List()
    assert len(page.info) == 4
    sources = [i for i in page.info if i.labels.get(SOURCE.format("127.0.0.1")) == "lib/fetched"]
    assert len(sources) == 4
    assert list(api.snapshots.List(snapshotter="overlayfs")) == []


def test_an_archive_without_the_platform_is_refused_and_leaves_nothing(
    api: Client, archive: Path
) -> None:
    with api.refused("NOT_FOUND", "nothing for linux/riscv64 .there is linux/"):
        imported(api, archive, platforms=[{"os": "linux", "architecture": "riscv64"}])
    assert names(api) == set()
    imported(api, archive, platforms=[HOST])
    assert names(api) == {"example.org/lib/two:1"}


def test_an_artifact_about_an_image_is_pulled_and_pushed_where_it_can_be_found(
    api: Client, server: Registry
) -> None:
    """docker-registry has no referrers API: the tag made from the subject's digest does for it."""
    kind = "application/vnd.oci.image.manifest.v1+json"
    server.upload("lib/signed", b"{}")
    empty = {
        "mediaType": "application/vnd.oci.empty.v1+json",
        "digest": digest_of(b"{}"),
        "size": 2,
    }
    subject = {"mediaType": kind, "digest": digest_of(b"an image"), "size": 8}
    data = json.dumps(
        {"schemaVersion": 2, "mediaType": kind, "artifactType": "application/x-signature",
         "config": empty, "layers": [empty], "subject": subject}
    ).encode()  # fmt: skip
    reference = server.put("lib/signed", "1", data, kind)
    transfer(api, registry_pb2.OCIRegistry(reference=reference), store("signature", unpack=True))
    there = f"{server.host}/other/signed:1"
    transfer(api, store("signature"), registry_pb2.OCIRegistry(reference=there))
    tag = subject["digest"].replace(":", "-")
    url = f"http://{server.host}/v2/other/signed/manifests/{tag}"
    accept = {"Accept": "application/vnd.oci.image.index.v1+json"}
    with urllib.request.urlopen(urllib.request.Request(url, headers=accept)) as found:
        (entry,) = json.load(found)["manifests"]
    assert entry["digest"] == digest_of(data)
    assert entry["artifactType"] == "application/x-signature"


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def test_a_clients_own_directory_of_hosts_is_used(
    api: Client, archive: Path, server: Registry, tmp_path: Path
) -> None:
    server.push(archive, "lib/hosted:1")
    (tmp_path / "nowhere.example").mkdir()
    (tmp_path / "nowhere.example/hosts.toml").write_text(f'server = "http://{server.host}"\n')
    resolver = registry_pb2.RegistryResolver(host_dir=str(tmp_path))
    reference = "nowhere.example/lib/hosted:1"
    remote = registry_pb2.OCIRegistry(reference=reference, resolver=resolver)
    transfer(api, remote, store(reference))
    assert names(api) == {reference}


def test_blobs_that_another_repository_has_are_mounted(
    api: Client, archive: Path, server: Registry
) -> None:
    reference = server.push(archive, "lib/mounted:1")
    with proxy(server.host) as watched:
        # the label that says where the blobs came from names the host
        through = f"{watched.host}/lib/mounted:1"
        transfer(api, registry_pb2.OCIRegistry(reference=through), store(reference))
        goal = registry_pb2.OCIRegistry(reference=f"{watched.host}/lib/elsewhere:1")
        transfer(api, store(reference), goal)
        posted = watched.requests("POST", "uploads")
    assert len(posted) == 3
    assert all("from=lib%2Fmounted" in seen.path for seen in posted)
    assert not watched.requests("PUT", "uploads")


def test_an_image_is_tagged(api: Client, archive: Path) -> None:
    imported(api, archive)
    transfer(api, store("example.org/lib/two:1"), store("example.org/lib/two:latest"))
    assert len({image.target.digest for image in api.images.List().images}) == 1
    assert names(api) == {"example.org/lib/two:1", "example.org/lib/two:latest"}
    elsewhere = api.within(f"{api.namespace}-other")
    with api.refused("NOT_FOUND", "example.org/lib/two:1"):
        transfer(elsewhere, store("example.org/lib/two:1"), store("example.org/lib/two:2"))
    assert names(elsewhere) == set()


def test_what_is_imported_can_be_echoed(api: Client) -> None:
    data = bytes(range(256)) * 4000
    source = sending(api, data)
    stream, thread, back = receiving(api, window=10_000)
    transfer(
        api,
        importexport_pb2.ImageImportStream(stream=source.id),
        importexport_pb2.ImageExportStream(stream=stream.id),
    )
    thread.join(60)
    assert bytes(back) == data


def test_errors_have_their_codes_and_leave_nothing(
    api: Client, archive: Path, server: Registry
) -> None:
    with api.refused("NOT_FOUND", "none:1"):
        transfer(api, store("none:1"), store("other:1"))
    with api.refused("NOT_FOUND", "stream 'gone'"):
        transfer(api, importexport_pb2.ImageImportStream(stream="gone"), store("x"))
    with api.refused("NOT_FOUND", "not found in registry"):
        gone = registry_pb2.OCIRegistry(reference=f"{server.host}/no/such:1")
        transfer(api, gone, store("x:1"))
    with api.refused("INVALID_ARGUMENT"):
        transfer(api, registry_pb2.OCIRegistry(reference="NOT VALID"), store("x:1"))
    with api.refused("UNAVAILABLE", "cannot be reached"):
        transfer(api, registry_pb2.OCIRegistry(reference="127.0.0.1:1/x:1"), store("x:1"))
    with api.refused("UNIMPLEMENTED"):
        transfer(api, store("a"), message("containerd.types.transfer.ContainerPath"))
    with api.refused("INVALID_ARGUMENT", "damaged"):
        api.transfer.Transfer(
            source=AnyMessage(
                type_url="containerd.types.transfer.ImageStore", value=b"\xff\xff\xff"
            ),
            destination=packed(store("x")),
        )
    with api.refused("INVALID_ARGUMENT", "not a tar archive"):
        stream = sending(api, b"no archive at all" * 100)
        transfer(api, importexport_pb2.ImageImportStream(stream=stream.id), store("x:1"))
    with api.refused("INVALID_ARGUMENT", "cut short"):
        stream = sending(api, archive.read_bytes()[: archive.stat().st_size // 2])
        transfer(api, importexport_pb2.ImageImportStream(stream=stream.id), store("x:1"))
    with api.refused("FAILED_PRECONDITION", "namespace"):
        transfer(api.within(None), store("a"), store("b"))
    assert names(api) == set()
    assert list(api.leases.List().leases) == []


def test_streams_are_known_by_their_names_only_once_and_per_namespace(api: Client) -> None:
    stream = Stream(api, "same")
    with api.refused("ALREADY_EXISTS"):
        Stream(api, "same")
    other = Stream(api.within("transfer-other"), "same")
    for each in (stream, other):
        each.answers.cancel()
    with api.refused("INVALID_ARGUMENT", "StreamInit"):
        next(api.streaming.Stream([packed(Data(data=b"x"))]))
    with api.refused("INVALID_ARGUMENT", "needs an id"):
        next(api.streaming.Stream([packed(message("containerd.services.streaming.v1.StreamInit"))]))


def test_a_client_that_leaves_ends_its_transfer(api: Client, running: Daemon) -> None:
    stream = Stream(api)  # and never sends a thing
    ends: list[str] = []

    def run() -> None:
        with api.refused("UNAVAILABLE", "has ended"):
            transfer(api, importexport_pb2.ImageImportStream(stream=stream.id), store("x:1"))
        ends.append("unavailable")

    call = threading.Thread(target=run)
    call.start()
    next(stream.read(WindowUpdate))
    stream.answers.cancel()
    call.join(60)
    assert ends == ["unavailable"]
    assert list(api.leases.List().leases) == []
    assert list((running.home / "root/spool").iterdir()) == []
