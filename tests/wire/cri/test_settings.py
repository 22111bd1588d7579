"""What a node's configuration and a kubelet's options change: credentials, TLS, handlers, ids."""

from __future__ import annotations

import base64
import json
import socket
import ssl
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import grpc
import pytest

from cored._pb.cri.v1 import api_pb2 as pb
from tests import certificates, images, registries
from tests import kubelet as kubelets
from tests.certificates import Authority
from tests.kubelet import Kubelet, refused
from tests.registries import Registry

pytestmark = pytest.mark.root
PASSWORD = "open sesame"
# bcrypt, which docker-registry insists on
HASH = "$2b$05$abcdefghijklmnopqrstuupx2xBUC4954936wVIjyyPHmUBFu0wCW"
# a runtime that can do what needs criu: it writes the images itself
CHECKPOINTS = """\
#!/bin/sh
for word; do
    [ "$last" = --image-path ] && { echo pages >"$word/pages-1.img"; exit 0; }
    last=$word
done
exec runc "$@"
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("node")


@pytest.fixture(scope="module")
def authority(place: Path) -> Authority:
    return certificates.authority(place / "authority")


@pytest.fixture(scope="module")
def registry(place: Path) -> Iterator[Registry]:
    (place / "htpasswd").write_text(f"me:{HASH}\n")
    settings = f"auth:\n  htpasswd: {{realm: here, path: {place}/htpasswd}}\n"
    with registries.registry(place, settings) as running:
        yield running


@pytest.fixture(scope="module")
def kubelet(
    busybox: Path, private_mounts: None, place: Path, authority: Authority
) -> Iterator[Kubelet]:
    certificate, key = authority.issue("stream")
    program = place / "checkpoints"
    program.write_text(CHECKPOINTS)
    program.chmod(0o755)
    config = f"""
[plugins.grpc_service.cri]
cgroup_driver = "systemd"
stream_tls_cert = "{certificate}"
stream_tls_key = "{key}"
snapshotters = {{ copies = "native" }}
[plugins.grpc_service.cri-images]
snapshotters = {{ copies = "native" }}
[plugins.runtime.shim.runtimes.copies]
path = "runc"
[plugins.runtime.shim.runtimes.checkpoints]
path = "{program}"
kind = "runc"
"""
    with kubelets.daemon(busybox, place / "cni", extra=config) as (_, running):
        yield running


@pytest.fixture
def pod(kubelet: Kubelet) -> Iterator[str]:
    id = kubelet.run()
    yield id
    kubelet.call("RemovePodSandbox", pod_sandbox_id=id)


def test_the_driver_of_cgroups_is_told_to_the_kubelet(kubelet: Kubelet) -> None:
    assert kubelet.call("RuntimeConfig").linux.cgroup_driver == pb.SYSTEMD


def test_credentials_come_with_the_pull(
    kubelet: Kubelet, registry: Registry, tmp_path: Path
) -> None:
    made = images.make([images.layer({"file": b"x"})])
    archive = images.write_layout(made, tmp_path / "own.tar", "own")
    name = registry.push(archive, "own:1", user=f"me:{PASSWORD}")
    encoded = base64.b64encode(f"me:{PASSWORD}".encode()).decode()

    def pull(**auth: str) -> str:
        image = pb.ImageSpec(image=name)
        return str(kubelet.call("PullImage", image=image, auth=pb.AuthConfig(**auth)).image_ref)

    for wrong in (
        {},
        {"username": "me", "password": "guessed"},
        {"username": "me", "password": PASSWORD, "server_address": "https://elsewhere.example"},
    ):
        with pytest.raises(grpc.RpcError) as raised:
            pull(**wrong)
        codes = (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED)
        assert raised.value.code() in codes, raised.value.details()
        assert not kubelet.call("ImageStatus", image=pb.ImageSpec(image=name)).HasField("image")
    for right in (
        {"username": "me", "password": PASSWORD},
        {"auth": encoded},
        {"auth": encoded, "server_address": f"http://{registry.host}/v2/"},
    ):
        assert pull(**right).startswith("sha256:")
        kubelet.call("RemoveImage", image=pb.ImageSpec(image=name))


def test_streams_are_encrypted_with_the_nodes_certificate(
    kubelet: Kubelet, pod: str, authority: Authority
) -> None:
    one = kubelet.start(pod)
    url = kubelet.call("Exec", container_id=one, cmd=["true"], stdout=True).url
    parts = urlsplit(url)
    assert parts.scheme == "https"
    trusting = ssl.create_default_context(cafile=str(authority.certificate))
    head = (
        f"POST {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nConnection: Upgrade\r\n"
        "Upgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: v4.channel.k8s.io\r\n\r\n"
    )
    address = (str(parts.hostname), parts.port)
    with (
        socket.create_connection(address, timeout=60) as plain,
        trusting.wrap_socket(plain, server_hostname=address[0]) as wrapped,
    ):
        wrapped.sendall(head.encode())
        assert wrapped.recv(4096).startswith(b"HTTP/1.1 101 ")


def test_a_handler_has_its_own_snapshotter(kubelet: Kubelet) -> None:
    image = pb.ImageSpec(image=kubelets.IMAGE, runtime_handler="copies")
    found = {}
    for handler in ("", "copies"):
        pod = kubelet.run(handler=handler)
        one = kubelet.start(pod, "sh", "-c", "echo x >/file; cat /file", image=image)
        assert kubelet.log(one) == "x"
        info = kubelet.call("ContainerStatus", container_id=one, verbose=True).info["info"]
        found[handler] = json.loads(info)["snapshotter"]
        assert kubelet.call("ContainerStats", container_id=one).stats.writable_layer.used_bytes
        kubelet.call("RemovePodSandbox", pod_sandbox_id=pod)
    assert found == {"": "overlayfs", "copies": "native"}


def test_a_checkpoint_is_an_archive_and_the_container_goes_on(
    kubelet: Kubelet, tmp_path: Path
) -> None:
    pod = kubelet.run(handler="checkpoints")
    one = kubelet.start(pod)
    location = tmp_path / "checkpoint.tar"
    kubelet.call("CheckpointContainer", container_id=one, location=str(location))
    assert kubelet.exec(one, "true").exit_code == 0
    with tarfile.open(location) as archive:
        names = set(archive.getnames())
        about = json.load(archive.extractfile("checkpoint/container.json"))  # type: ignore[arg-type]
    assert {"checkpoint/pages-1.img", "checkpoint/container.json"} <= names
    assert about["id"] == one and about["config"]["command"] == ["sleep", "1000"]
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.tar"]
    kubelet.call("RemovePodSandbox", pod_sandbox_id=pod)


def test_without_criu_a_checkpoint_is_refused_in_clear_words(
    kubelet: Kubelet, pod: str, tmp_path: Path
) -> None:
    one = kubelet.start(pod)
    with pytest.raises(grpc.RpcError) as raised:
        kubelet.call("CheckpointContainer", container_id=one, location=str(tmp_path / "c.tar"))
    assert raised.value.code() == grpc.StatusCode.FAILED_PRECONDITION
    assert "there is no criu" in str(raised.value.details())
    assert kubelet.exec(one, "true").exit_code == 0 and not list(tmp_path.iterdir())


def _userns(first: int) -> tuple[pb.LinuxPodSandboxConfig, list[pb.IDMapping]]:
    ids = [pb.IDMapping(host_id=first, container_id=0, length=65536)]
    modes = pb.NamespaceOption(userns_options=pb.UserNamespace(mode=pb.POD, uids=ids, gids=ids))
    context = pb.LinuxSandboxSecurityContext(namespace_options=modes)
    return pb.LinuxPodSandboxConfig(security_context=context), ids


def test_a_volume_of_a_pod_in_a_user_namespace_has_the_owners_of_the_host(
    kubelet: Kubelet,
) -> None:
    linux, ids = _userns(2_000_000)
    pod = kubelet.run(kubelet.pod_config(linux=linux))
    volume = kubelet.home / "volume"  # where id-mapped mounts are possible
    volume.mkdir()
    (volume / "theirs").touch()
    mount = pb.Mount(
        container_path="/data", host_path=str(volume), uidMappings=ids, gidMappings=ids
    )
    modes = linux.security_context.namespace_options
    security = pb.LinuxContainerSecurityContext(namespace_options=modes)
    command = "stat -c %u /data/theirs; touch /data/mine && echo wrote"
    text = kubelet.output(pod, "sh", "-c", command, mounts=[mount], security=security)
    assert text == "0\nwrote"
    assert (volume / "mine").stat().st_uid == 0
    kubelet.call("RemovePodSandbox", pod_sandbox_id=pod)


@pytest.mark.parametrize("handler", ["runc", "crun"])
def test_read_only_goes_as_deep_as_it_is_asked_to(kubelet: Kubelet, handler: str) -> None:
    place = kubelet.home / f"deep-{handler}"
    (place / "below").mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "t", place / "below"], check=True)
    pod = kubelet.run(handler=handler)
    try:
        fields: dict[str, Any] = {"host_path": str(place), "readonly": True}
        mounts = [
            pb.Mount(container_path="/flat", **fields),
            pb.Mount(container_path="/deep", recursive_read_only=True, **fields),
        ]
        command = "touch /flat/x 2>/dev/null; echo $?; touch /flat/below/x; echo $?;"
        command += "touch /deep/below/y 2>/dev/null; echo $?"
        text = kubelet.output(pod, "sh", "-c", command, mounts=mounts)
        assert text.split() == ["1", "0", "1"]
    finally:
        kubelet.call("RemovePodSandbox", pod_sandbox_id=pod)
        subprocess.run(["umount", place / "below"], check=True)


def test_without_a_network_configuration_the_node_is_not_ready(
    kubelet: Kubelet, place: Path
) -> None:
    config = place / "cni/10-pods.conflist"
    config.rename(place / "away")
    try:
        conditions = kubelet.call("Status").status.conditions
        (network,) = (one for one in conditions if one.type == "NetworkReady")
        assert (network.status, network.reason) == (False, "NetworkPluginNotReady")
        with refused(grpc.StatusCode.FAILED_PRECONDITION):
            kubelet.run()
    finally:
        (place / "away").rename(config)
    kubelet.call("RemovePodSandbox", pod_sandbox_id=kubelet.run())
