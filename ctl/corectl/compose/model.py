"""What compose files say, resolved: the specification's keys are the fields of these classes.

A field whose name is not its key says so. Durations are nanoseconds, sizes bytes. Parts of a
service are in :mod:`corectl.compose.parts`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from corectl.compose.decoding import Bytes, Choice, Duration, Loose, Numeral
from corectl.compose.develop import Develop
from corectl.compose.parts import (
    Attachment,
    Blkio,
    Build,
    CredentialSpec,
    Dependency,
    Deployment,
    DeviceMapping,
    EnvFile,
    Gpu,
    HealthCheck,
    Hook,
    Ipam,
    Logging,
    PreStart,
    PublishedPort,
    Source,
    Ulimit,
    Volume,
)

__all__ = ["Config", "File", "NamedVolume", "Network", "Secret", "Service"]

Labels = Mapping[str, Loose | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """One service, in the long form."""

    annotations: Labels = field(default_factory=dict)
    attach: bool = True
    blkio_config: Blkio | None = None
    build: Build | None = None
    cap_add: tuple[str, ...] = ()
    cap_drop: tuple[str, ...] = ()
    cgroup: Annotated[str, Choice("host", "private")] | None = None
    cgroup_parent: str = ""
    command: tuple[Loose, ...] | None = None
    configs: tuple[Source, ...] = ()
    container_name: str = ""
    cpu_count: Numeral | None = None
    cpu_percent: Numeral | None = None
    cpu_period: Loose | None = None
    cpu_quota: Loose | None = None
    cpu_rt_period: Loose | None = None
    cpu_rt_runtime: Loose | None = None
    cpu_shares: Numeral | None = None
    cpus: Numeral | None = None
    cpuset: str = ""
    credential_spec: CredentialSpec | None = None
    depends_on: Mapping[str, Dependency] = field(default_factory=dict)
    deploy: Deployment | None = None
    develop: Develop | None = None
    device_cgroup_rules: tuple[str, ...] = ()
    devices: tuple[DeviceMapping, ...] = ()
    dns: tuple[str, ...] = ()
    dns_opt: tuple[str, ...] = ()
    dns_search: tuple[str, ...] = ()
    domainname: str = ""
    entrypoint: tuple[Loose, ...] | None = None
    env_file: tuple[EnvFile, ...] = ()
    environment: Mapping[str, Loose | None] = field(default_factory=dict)
    expose: tuple[Loose, ...] = ()
    extends: Any = None
    external_links: tuple[str, ...] = ()
    extra_hosts: tuple[str, ...] = ()
    gpus: tuple[Gpu, ...] = ()
    group_add: tuple[Loose, ...] = ()
    healthcheck: HealthCheck | None = None
    hostname: str = ""
    image: str = ""
    init: bool | None = None
    ipc: str = ""
    isolation: str = ""
    label_file: tuple[EnvFile, ...] = ()
    labels: Labels = field(default_factory=dict)
    links: tuple[str, ...] = ()
    logging: Logging | None = None
    mac_address: str = ""
    mem_limit: Bytes = 0
    mem_reservation: Bytes = 0
    mem_swappiness: Numeral | None = None
    memswap_limit: Bytes = 0
    models: Any = None
    network_mode: str = ""
    networks: Mapping[str, Attachment | None] = field(default_factory=dict)
    oom_kill_disable: bool = False
    oom_score_adj: int = 0
    pid: str = ""
    pids_limit: int = 0
    platform: str = ""
    ports: tuple[PublishedPort, ...] = ()
    post_start: tuple[Hook, ...] = ()
    pre_start: tuple[PreStart, ...] = ()
    pre_stop: tuple[Hook, ...] = ()
    privileged: bool = False
    profiles: tuple[str, ...] = ()
    provider: Any = None
    pull_policy: str = ""
    pull_refresh_after: str = ""
    read_only: bool = False
    restart: Loose = ""
    runtime: str = ""
    scale: int | None = None
    secrets: tuple[Source, ...] = ()
    security_opt: tuple[str, ...] = ()
    shm_size: Bytes = 0
    stdin_open: bool = False
    stop_grace_period: Duration | None = None
    stop_signal: str = ""
    storage_opt: Labels = field(default_factory=dict)
    sysctls: Mapping[str, Loose] = field(default_factory=dict)
    tmpfs: tuple[str, ...] = ()
    tty: bool = False
    ulimits: Mapping[str, int | Ulimit] = field(default_factory=dict)
    use_api_socket: bool = False
    user: Loose = ""
    userns_mode: str = ""
    uts: Annotated[str, Choice("host")] | None = None
    volumes: tuple[Volume, ...] = ()
    volumes_from: tuple[str, ...] = ()
    working_dir: str = ""

    @property
    def replicas(self) -> int:
        """How many containers it has."""
        if self.scale is not None:
            return self.scale
        if self.deploy is not None and self.deploy.replicas is not None:
            return self.deploy.replicas
        return 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """A network of the project, or one that is there."""

    name: str = ""
    driver: str = ""
    driver_opts: Labels = field(default_factory=dict)
    attachable: bool = False
    enable_ipv4: bool = True
    enable_ipv6: bool = False
    external: bool = False
    internal: bool = False
    ipam: Ipam = field(default_factory=Ipam)
    labels: Labels = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedVolume:
    """A volume of the project, or one that is there."""

    name: str = ""
    driver: str = ""
    driver_opts: Labels = field(default_factory=dict)
    external: bool = False
    labels: Labels = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """A file's content under a name."""

    name: str = ""
    file: str = ""
    content: Loose | None = None
    environment: str = ""
    external: bool = False
    labels: Labels = field(default_factory=dict)
    template_driver: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Secret(Config):
    """A config that nobody else reads."""

    driver: str = ""
    driver_opts: Labels = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """The whole of a project's files, merged."""

    version: Any = None
    name: str = ""
    include: Any = None
    services: Mapping[str, Service] = field(default_factory=dict)
    models: Any = None
    networks: Mapping[str, Network | None] = field(default_factory=dict)
    volumes: Mapping[str, NamedVolume | None] = field(default_factory=dict)
    secrets: Mapping[str, Secret | None] = field(default_factory=dict)
    configs: Mapping[str, Config | None] = field(default_factory=dict)
