"""What a kubelet does, as far as tests need it: pods and containers by a plain gRPC client."""

from __future__ import annotations

import itertools
import json
import subprocess
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import message_factory

from cored._pb.cri.v1 import api_pb2 as pb
from tests import daemons
from tests.daemons import Daemon
from tests.patience import eventually

__all__ = ["DRIVEN", "IMAGE", "RPCS", "Kubelet", "daemon", "refused"]

IMAGE = "docker.io/library/busybox:latest"
RPCS = {
    method.name: method
    for service in pb.DESCRIPTOR.services_by_name.values()
    for method in service.methods
}
DRIVEN: set[tuple[str, str]] = set()
"""What this run has called, and how it ended: (RPC, status code), for those who look back."""
# a connection that comes back soon after the daemon does
_STEADY = [
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 200),
    ("grpc.use_local_subchannel_pool", 1),
]
_NUMBERS = itertools.count(1)
_NETWORKS = itertools.count()


@contextmanager
def refused(code: grpc.StatusCode) -> Iterator[None]:
    """The body's call is refused with a code."""
    with pytest.raises(grpc.RpcError) as raised:
        yield
    assert raised.value.code() == code, raised.value.details()


@contextmanager
def _driven(method: str) -> Iterator[None]:
    """Note how a call ends."""
    try:
        yield
    except grpc.RpcError as error:
        DRIVEN.add((method, error.code().name))
        raise
    DRIVEN.add((method, "OK"))


class _Stream:
    """The answers of a call that streams; ``cancel`` ends it."""

    def __init__(self, method: str, call: Any, answered: Callable[[bytes], Any]) -> None:
        self._call = call
        self._messages = self._read(method, answered)

    def __iter__(self) -> Iterator[Any]:
        return self._messages

    def _read(self, method: str, answered: Callable[[bytes], Any]) -> Iterator[Any]:
        with _driven(method):
            for message in self._call:
                yield answered(message)

    def cancel(self) -> None:
        self._call.cancel()


class Kubelet:
    """``kubelet.call("RunPodSandbox", config=...)``, and the usual in fewer words."""

    def __init__(self, address: Path, home: Path) -> None:
        self.home = home
        self.channel = grpc.insecure_channel(f"unix://{address}", options=_STEADY)
        self._configs: dict[str, pb.PodSandboxConfig] = {}

    def close(self) -> None:
        self.channel.close()

    def call(self, method: str, *, deadline: float = 60.0, **fields: Any) -> Any:
        """An RPC by name; those that stream answer an iterator."""
        found = RPCS[method]
        make = message_factory.GetMessageClass
        request = make(found.input_type)(**fields).SerializeToString()
        answered = make(found.output_type).FromString
        if found.server_streaming:
            return _Stream(method, self.send(method, request, deadline), answered)
        return answered(self.send(method, request, deadline))

    def send(self, method: str, request: bytes, deadline: float = 60.0) -> Any:
        """Bytes to an RPC; the bytes that come, or an iterator of them."""
        found = RPCS[method]
        kind = "unary_stream" if found.server_streaming else "unary_unary"
        function = getattr(self.channel, kind)(f"/{found.containing_service.full_name}/{method}")
        if found.server_streaming:
            return function(request, timeout=deadline)
        with _driven(method):
            return function(request, timeout=deadline)

    def pod_config(self, name: str = "", **fields: Any) -> pb.PodSandboxConfig:
        """A pod's configuration; ``linux`` and others as fields of the message."""
        name = name or f"pod{next(_NUMBERS)}"
        meta = pb.PodSandboxMetadata(name=name, namespace="default", uid=str(uuid.uuid4()))
        logs = self.home / "logs" / meta.uid
        return pb.PodSandboxConfig(
            metadata=meta, **{"hostname": name, "log_directory": str(logs), **fields}
        )

    def run(self, config: pb.PodSandboxConfig | None = None, handler: str = "") -> str:
        """Run a pod; its id."""
        config = config or self.pod_config()
        made = self.call("RunPodSandbox", config=config, runtime_handler=handler)
        self._configs[made.pod_sandbox_id] = config
        return str(made.pod_sandbox_id)

    def create(self, pod: str, *command: str, **fields: Any) -> str:
        """Create a container in a pod; its id. ``security`` is its security context."""
        name = f"c{next(_NUMBERS)}"
        security = fields.pop("security", pb.LinuxContainerSecurityContext())
        resources = fields.pop("resources", pb.LinuxContainerResources())
        given = {
            "metadata": pb.ContainerMetadata(name=name),
            "image": pb.ImageSpec(image=IMAGE),
            "command": command or ("sleep", "1000"),
            "log_path": f"{name}.log",
            "linux": pb.LinuxContainerConfig(security_context=security, resources=resources),
        }
        config = pb.ContainerConfig(**{**given, **fields})
        made = self.call(
            "CreateContainer",
            pod_sandbox_id=pod,
            config=config,
            sandbox_config=self._configs.get(pod),
        )
        return str(made.container_id)

    def start(self, pod: str, *command: str, **fields: Any) -> str:
        """Create and start a container; its id."""
        id = self.create(pod, *command, **fields)
        self.call("StartContainer", container_id=id)
        return id

    def status(self, id: str) -> pb.ContainerStatus:
        """How a container stands."""
        found: pb.ContainerStatus = self.call("ContainerStatus", container_id=id).status
        return found

    def ended(self, id: str) -> pb.ContainerStatus:
        """The same, when it has exited."""
        eventually(lambda: self.status(id).state == pb.CONTAINER_EXITED)
        return self.status(id)

    def log(self, id: str) -> str:
        """What a container that ended has written, without times and tags."""
        path = Path(self.ended(id).log_path)
        return "\n".join(line.split(" ", 3)[3] for line in path.read_text().splitlines())

    def output(self, pod: str, *command: str, **fields: Any) -> str:
        """What a container writes that runs to its end."""
        return self.log(self.start(pod, *command, **fields))

    def exec(self, id: str, *command: str, timeout: int = 0) -> pb.ExecSyncResponse:
        """ExecSync."""
        found: pb.ExecSyncResponse = self.call(
            "ExecSync", container_id=id, cmd=command, timeout=timeout
        )
        return found

    def remove_all(self) -> None:
        """Remove every pod, as a kubelet that is drained."""
        for pod in self.call("ListPodSandbox").items:
            self.call("RemovePodSandbox", pod_sandbox_id=pod.id)


def _network(place: Path, number: int) -> None:
    place.mkdir(parents=True, exist_ok=True)
    plugins = [
        {
            "type": "bridge",
            "bridge": f"cni-test{number}",
            "isGateway": True,
            "ipMasq": True,
            "ipam": {
                "type": "host-local",
                "ranges": [[{"subnet": f"10.213.{number}.0/24"}]],
                "routes": [{"dst": "0.0.0.0/0"}],
                "dataDir": str(place / "addresses"),
            },
        },
        {"type": "portmap", "capabilities": {"portMappings": True}},
    ]
    document = {"cniVersion": "1.1.0", "name": "pods", "plugins": plugins}
    (place / "10-pods.conflist").write_text(json.dumps(document))


@contextmanager
def daemon(busybox: Path, network: Path, *, extra: str = "") -> Iterator[tuple[Daemon, Kubelet]]:
    """A cored with busybox in Kubernetes' namespace and a network for pods, and its kubelet."""
    number = next(_NETWORKS)
    _network(network, number)
    config = f'network_config_dirs = ["{network}"]\n{extra}'
    try:
        with daemons.cored(config) as running:
            running.ctr("-n", "k8s.io", "images", "import", str(busybox))
            kubelet = Kubelet(running.address, running.home)
            try:
                yield running, kubelet
            finally:
                if running.process is not None and running.process.poll() is None:
                    kubelet.remove_all()
                kubelet.close()
    finally:
        # the daemon did not make this network, and leaves its bridge alone
        subprocess.run(["ip", "link", "delete", f"cni-test{number}"], capture_output=True)
