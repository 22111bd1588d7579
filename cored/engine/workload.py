"""Containers as people describe them, and as they see them: the values of :mod:`containers`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace

from cored.abc.records import Container
from cored.abc.values import Typed
from cored.engine.networks.files import Dns
from cored.engine.networks.values import Connection, Endpoint, Port
from cored.engine.revival import revived
from cored.oci.mounts import Tmpfs
from cored.oci.resources import Resources
from cored.oci.security import Namespaces, Security
from cored.oci.ulimits import Ulimit

__all__ = [
    "CONFIG",
    "NAME",
    "STATE",
    "Binding",
    "ContainerConfig",
    "ContainerState",
    "ContainerView",
    "DeviceRequest",
    "Health",
    "HealthCheck",
    "Life",
    "Logging",
    "Probe",
    "RestartPolicy",
    "VolumeMount",
    "decoded",
    "encoded",
    "image_id",
]

CONFIG = "cored.io/config"
STATE = "cored.io/state"
IMAGE = "cored.io/image"
NAME = "cored.io/name"
# how many lives of a container are kept
_LIVES = 10


@dataclass(frozen=True, slots=True)
class Binding:
    """A bind mount of a host's path."""

    source: str
    target: str
    read_only: bool = False
    create_source: bool = False
    propagation: str = ""
    shallow: bool = False


@dataclass(frozen=True, slots=True)
class VolumeMount:
    """A volume at a place of the container; without a ``name`` it gets one of its own.

    ``anonymous`` is for the record: its name was made up, and it goes with the container.
    """

    name: str = ""
    target: str = ""
    read_only: bool = False
    no_copy: bool = False
    driver: str = ""
    options: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    subpath: str = ""


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """``name`` is no, on-failure, always or unless-stopped, '' the first; ``maximum`` 0 is all."""

    name: str = ""
    maximum: int = 0


@dataclass(frozen=True, slots=True)
class HealthCheck:
    """How to see whether it is well: ``test`` as images have it, times in ns; 0 is the default."""

    test: tuple[str, ...] = ()
    interval: int = 0
    timeout: int = 0
    retries: int = 0
    start_period: int = 0
    start_interval: int = 0


@dataclass(frozen=True, slots=True)
class DeviceRequest:
    """A device of the host, or a directory of them; '' is the same path, and all permissions."""

    source: str
    target: str = ""
    permissions: str = ""


@dataclass(frozen=True, slots=True)
class Logging:
    """Where output goes: ``driver`` is json-file, local, journald, syslog, none, or a plugin's."""

    driver: str = ""
    options: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ContainerConfig:
    """What ``create`` takes, as ``workloads.proto`` has it: None, '' and 0 are the defaults."""

    image: str
    name: str = ""
    args: tuple[str, ...] = ()
    entrypoint: tuple[str, ...] | None = None
    env: tuple[str, ...] = ()
    working_directory: str = ""
    user: str = ""
    terminal: bool = False
    open_stdin: bool = False
    mounts: tuple[Binding, ...] = ()
    hostname: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    auto_remove: bool = False
    privileged: bool = False
    read_only: bool = False
    cap_add: tuple[str, ...] = ()
    cap_drop: tuple[str, ...] = ()
    resources: Resources = field(default_factory=Resources)
    network: str = ""
    runtime: str = ""
    snapshotter: str = ""
    stop_signal: str = ""
    platform: str = ""
    logging: Logging = field(default_factory=Logging)
    security: Security = field(default_factory=Security)
    ulimits: tuple[Ulimit, ...] = ()
    sysctls: Mapping[str, str] = field(default_factory=dict)
    devices: tuple[DeviceRequest, ...] = ()
    device_cgroup_rules: tuple[str, ...] = ()
    tmpfs: tuple[Tmpfs, ...] = ()
    shm_size: int = 0
    oom_score_adj: int = 0
    groups: tuple[str, ...] = ()
    namespaces: Namespaces = field(default_factory=Namespaces)
    cgroup_parent: str = ""
    domainname: str = ""
    endpoints: tuple[Endpoint, ...] = ()
    ports: tuple[Port, ...] = ()
    publish_all: bool = False
    dns: Dns = field(default_factory=Dns)
    extra_hosts: tuple[str, ...] = ()
    restart: RestartPolicy = field(default_factory=RestartPolicy)
    health: HealthCheck | None = None
    init: bool = False
    stop_timeout: int | None = None
    annotations: Mapping[str, str] = field(default_factory=dict)
    umask: int | None = None
    volumes_from: tuple[str, ...] = ()
    volumes: tuple[VolumeMount, ...] = ()
    cdi_devices: tuple[str, ...] = ()
    exposed: tuple[str, ...] = ()
    attached: tuple[str, ...] = ()
    storage_options: Mapping[str, str] = field(default_factory=dict)
    links: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Life:
    """One start and its end, as :class:`ContainerState` has them."""

    started_at: int = 0
    exited_at: int = 0
    exit_status: int = 0
    oom_killed: bool = False
    error: str = ""


@dataclass(frozen=True, slots=True)
class ContainerState:
    """How it went so far; times in ns, 0 for not yet.

    ``restarts`` counts those of its policy; ``restarting`` says that one is awaited; ``stopped``
    that somebody has stopped it. ``causes`` are what :meth:`cored.abc.runtime.Task.causes` says,
    ``asked`` who wanted the end, ``lives`` the last ones before this.
    """

    started_at: int = 0
    exited_at: int = 0
    exit_status: int = 0
    error: str = ""
    restarts: int = 0
    restarting: bool = False
    stopped: bool = False
    oom_killed: bool = False
    causes: Mapping[str, int] = field(default_factory=dict)
    asked: str = ""
    lives: tuple[Life, ...] = ()

    def after(self, restarts: int, now: int) -> ContainerState:
        """The state of the next life, which begins."""
        life = Life(self.started_at, self.exited_at, self.exit_status, self.oom_killed, self.error)
        lives = (*self.lives, life)[-_LIVES:] if self.exited_at else self.lives
        return ContainerState(started_at=now, restarts=restarts, lives=lives)


@dataclass(frozen=True, slots=True)
class Probe:
    """One look at a container's health; times in ns, ``exit_code`` -1 when it took too long."""

    started_at: int
    ended_at: int
    exit_code: int
    output: str = ""


@dataclass(frozen=True, slots=True)
class Health:
    """``status`` is starting, healthy or unhealthy; ``log`` has the last looks."""

    status: str = "starting"
    failing_streak: int = 0
    log: tuple[Probe, ...] = ()


@dataclass(frozen=True, slots=True)
class ContainerView:
    """A container as listings show it.

    ``status`` is created, running, paused, restarting or stopped.
    """

    record: Container
    config: ContainerConfig
    state: ContainerState
    command: tuple[str, ...]
    status: str
    pid: int = 0
    warnings: tuple[str, ...] = ()
    connections: tuple[Connection, ...] = ()
    health: Health | None = None
    execs: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return self.record.labels.get(NAME, "")


def encoded(config: ContainerConfig, state: ContainerState, image: str = "") -> dict[str, Typed]:
    """Both as a record's extensions, with the digest of its image's configuration if given."""
    value = Typed("cored.io/ContainerConfig", json.dumps(asdict(config)).encode())
    more = {IMAGE: Typed("cored.io/ImageID", image.encode())} if image else {}
    return {CONFIG: value, STATE: _state(state), **more}


def image_id(record: Container) -> str:
    """The digest of the configuration of its image, '' where that was not kept."""
    kept = record.extensions.get(IMAGE)
    return kept.value.decode() if kept is not None else ""


def _state(state: ContainerState) -> Typed:
    return Typed("cored.io/ContainerState", json.dumps(asdict(state)).encode())


def decoded(record: Container) -> tuple[ContainerConfig, ContainerState]:
    """What :func:`encoded` put into a record; bare values for somebody else's container."""
    config, state = record.extensions.get(CONFIG), record.extensions.get(STATE)
    return (
        revived(ContainerConfig, json.loads(config.value))
        if config
        else ContainerConfig(record.image),
        revived(ContainerState, json.loads(state.value)) if state else ContainerState(),
    )


def with_config(record: Container, config: ContainerConfig) -> Container:
    """The record with another configuration."""
    _, state = decoded(record)
    return replace(record, extensions={**record.extensions, **encoded(config, state)})


def with_state(record: Container, state: ContainerState) -> Container:
    """The record with another state."""
    return replace(record, extensions={**record.extensions, STATE: _state(state)})
