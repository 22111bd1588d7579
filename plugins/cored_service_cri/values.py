"""Pods and containers as this service knows them, and how their records keep them.

What a kubelet sent is kept as it came (protobuf); what became of it stands beside, as JSON. Both
are extensions of a container's record: the store is the truth, also for the next daemon.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from cored._pb.cri.v1 import api_pb2 as pb
from cored.abc.records import Container as Record
from cored.abc.values import Typed
from cored.errors import NotFound

__all__ = ["KIND", "NAMESPACE", "Container", "Pod", "PodState", "State", "container_of", "pod_of"]

NAMESPACE = "k8s.io"
KIND = "io.cri-containerd.kind"
"""The label that tells a pod's record (``sandbox``) from a container's (``container``)."""

_CONFIG = "io.cri-containerd.config"
_STATE = "io.cri-containerd.state"


@dataclass(frozen=True, slots=True)
class PodState:
    """How a pod stands; times in ns. ``netns`` is '' in the host's network."""

    handler: str = ""
    runtime: str = ""
    created_at: int = 0
    netns: str = ""
    ips: tuple[str, ...] = ()
    ready: bool = False
    pid: int = 0


@dataclass(frozen=True, slots=True)
class State:
    """How a container stands; times in ns, 0 for not yet."""

    pod: str = ""
    image: str = ""
    image_id: str = ""
    image_ref: str = ""
    created_at: int = 0
    started_at: int = 0
    finished_at: int = 0
    exit_code: int = 0
    reason: str = ""
    message: str = ""
    stop_signal: str = ""
    user: tuple[int, int] = (0, 0)
    groups: tuple[int, ...] = ()
    snapshotter: str = ""
    volumes: tuple[str, ...] = ()
    volume_ids: Mapping[str, str] = field(default_factory=dict)

    @property
    def phase(self) -> pb.ContainerState:
        """The state's number on the wire."""
        if self.finished_at:
            return pb.CONTAINER_EXITED
        return pb.CONTAINER_RUNNING if self.started_at else pb.CONTAINER_CREATED


@dataclass(frozen=True, slots=True)
class Pod:
    id: str
    config: pb.PodSandboxConfig
    state: PodState = field(default_factory=PodState)

    @property
    def name(self) -> str:
        """Unique among the pods that are there: a kubelet counts up ``attempt``."""
        meta = self.config.metadata
        return f"{meta.name}_{meta.namespace}_{meta.uid}_{meta.attempt}"

    @property
    def modes(self) -> pb.NamespaceOption:
        """Which namespaces are whose."""
        return self.config.linux.security_context.namespace_options

    @property
    def host_network(self) -> bool:
        return bool(self.modes.network == pb.NODE)

    @property
    def labels(self) -> dict[str, str]:
        """Of its record."""
        return {**self.config.labels, KIND: "sandbox"}

    def extensions(self) -> dict[str, Typed]:
        """As its record keeps it."""
        config = Typed("runtime.v1.PodSandboxConfig", self.config.SerializeToString())
        return {_CONFIG: config, _STATE: _encoded("cored.io/cri.PodState", self.state)}


@dataclass(frozen=True, slots=True)
class Container:
    id: str
    config: pb.ContainerConfig
    pod: Pod
    state: State = field(default_factory=State)

    @property
    def name(self) -> str:
        """Unique among the containers that are there."""
        meta = self.config.metadata
        return f"{meta.name}_{self.pod.name}_{meta.attempt}"

    @property
    def log_path(self) -> str:
        """Where its output goes, '' for nowhere."""
        directory = self.pod.config.log_directory
        if not self.config.log_path or not directory:
            return ""
        return f"{directory.rstrip('/')}/{self.config.log_path}"

    @property
    def labels(self) -> dict[str, str]:
        """Of its record."""
        return {**self.config.labels, KIND: "container"}

    def extensions(self) -> dict[str, Typed]:
        """As its record keeps it."""
        config = Typed("runtime.v1.ContainerConfig", self.config.SerializeToString())
        return {_CONFIG: config, _STATE: _encoded("cored.io/cri.State", self.state)}


def pod_of(record: Record) -> Pod:
    """The pod of a record. NotFound for one that is none of ours."""
    return Pod(
        record.id,
        pb.PodSandboxConfig.FromString(_extension(record, _CONFIG)),
        _decoded(PodState, record),
    )


def container_of(record: Record, pods: Mapping[str, Pod]) -> Container:
    """The container of a record. NotFound for one that is none of ours, or has lost its pod."""
    state = _decoded(State, record)
    if state.pod not in pods:
        raise NotFound(f"container {record.id!r}: its pod {state.pod!r} is gone")
    config = pb.ContainerConfig.FromString(_extension(record, _CONFIG))
    return Container(record.id, config, pods[state.pod], state)


def _encoded(kind: str, state: Any) -> Typed:
    return Typed(kind, json.dumps(asdict(state)).encode())


def _decoded(cls: type[Any], record: Record) -> Any:
    table = json.loads(_extension(record, _STATE))
    known = {one.name for one in fields(cls)}
    return cls(
        **{
            key: tuple(value) if isinstance(value, list) else value
            for key, value in table.items()
            if key in known
        }
    )


def _extension(record: Record, name: str) -> bytes:
    try:
        return record.extensions[name].value
    except KeyError:
        raise NotFound(f"container {record.id!r}: was not made through the CRI") from None
