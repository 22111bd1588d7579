"""Parts of services and networks, as compose files say them in the long form."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from corectl.compose.decoding import Bytes, Choice, Duration, Loose, Numeral, Octal

__all__ = [
    "Attachment", "BindOptions", "Blkio", "Build", "CredentialSpec", "Dependency", "Deployment",
    "DeviceMapping", "EnvFile", "Gpu", "HealthCheck", "Hook", "ImageOptions", "Ipam", "IpamPool",
    "Limits", "Logging", "Placement", "PreStart", "PublishedPort", "Resources", "RestartPolicy",
    "Rollout", "Source", "TmpfsOptions", "Ulimit", "Volume", "VolumeOptions",
]  # fmt: skip

Labels = Mapping[str, Loose | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Weight:
    path: str
    weight: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    path: str
    rate: Bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Blkio:
    weight: int = 0
    weight_device: tuple[Weight, ...] = ()
    device_read_bps: tuple[Rate, ...] = ()
    device_read_iops: tuple[Rate, ...] = ()
    device_write_bps: tuple[Rate, ...] = ()
    device_write_iops: tuple[Rate, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A config or secret in a service."""

    source: str
    target: str = ""
    uid: Loose = ""
    gid: Loose = ""
    mode: Octal | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ulimit:
    soft: int
    hard: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Build:
    context: str = "."
    dockerfile: str = ""
    dockerfile_inline: str = ""
    additional_contexts: Labels = field(default_factory=dict)
    args: Labels = field(default_factory=dict)
    cache_from: tuple[str, ...] = ()
    cache_to: tuple[str, ...] = ()
    entitlements: tuple[str, ...] = ()
    extra_hosts: tuple[str, ...] = ()
    isolation: str = ""
    labels: Labels = field(default_factory=dict)
    network: str = ""
    no_cache: bool = False
    no_cache_filter: Any = None
    platforms: tuple[str, ...] = ()
    privileged: bool = False
    provenance: Loose = ""
    pull: bool = False
    sbom: Loose = ""
    secrets: tuple[Source, ...] = ()
    shm_size: Bytes = 0
    ssh: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    target: str = ""
    ulimits: Mapping[str, int | Ulimit] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class CredentialSpec:
    config: str = ""
    file: str = ""
    registry: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dependency:
    condition: Annotated[
        str, Choice("service_started", "service_healthy", "service_completed_successfully")
    ] = "service_started"
    restart: bool = False
    required: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """Devices of a driver that a container reserves."""

    capabilities: tuple[str, ...] = ()
    count: Loose | None = None
    device_ids: tuple[str, ...] = ()
    driver: str = ""
    options: Any = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    cpus: Numeral | None = None
    memory: Bytes = 0
    pids: int = 0
    devices: tuple[Gpu, ...] = ()
    generic_resources: Any = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    limits: Limits = field(default_factory=Limits)
    reservations: Limits = field(default_factory=Limits)


@dataclass(frozen=True, slots=True, kw_only=True)
class RestartPolicy:
    condition: str = "any"
    delay: Duration = 0
    max_attempts: int = 0
    window: Duration = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    parallelism: int = 0
    delay: Duration = 0
    failure_action: str = ""
    monitor: Duration = 0
    max_failure_ratio: Numeral | None = None
    order: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    constraints: tuple[str, ...] = ()
    preferences: Any = None
    max_replicas_per_node: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    mode: Annotated[str, Choice("replicated", "global", "replicated-job", "global-job")] = (
        "replicated"
    )
    endpoint_mode: str = ""
    replicas: int | None = None
    labels: Labels = field(default_factory=dict)
    rollback_config: Rollout | None = None
    update_config: Rollout | None = None
    resources: Resources = field(default_factory=Resources)
    restart_policy: RestartPolicy | None = None
    placement: Placement | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceMapping:
    source: str
    target: str = ""
    permissions: str = "rwm"


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvFile:
    path: str
    required: bool = True
    format: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthCheck:
    test: tuple[str, ...] = ()
    interval: Duration = 0
    timeout: Duration = 0
    retries: int = 0
    start_period: Duration = 0
    start_interval: Duration = 0
    disable: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Hook:
    """A command at a turn of a container's life."""

    command: tuple[Loose, ...]
    user: Loose = ""
    privileged: bool = False
    working_dir: str = ""
    environment: Labels = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class PreStart:
    """A container that runs to its end before one of the service starts.

    Without ``image`` it is of the service's. ``per_replica``: before each, not before the first.
    """

    command: tuple[Loose, ...] = ()
    image: str = ""
    user: Loose = ""
    privileged: bool = False
    working_dir: str = ""
    environment: Labels = field(default_factory=dict)
    per_replica: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Logging:
    driver: str = ""
    options: Labels = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Attachment:
    """What a service wants of a network."""

    aliases: tuple[str, ...] = ()
    ipv4_address: str = ""
    ipv6_address: str = ""
    link_local_ips: tuple[str, ...] = ()
    mac_address: str = ""
    driver_opts: Labels = field(default_factory=dict)
    gw_priority: int = 0
    interface_name: str = ""
    priority: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedPort:
    target: int
    published: str = ""
    host_ip: str = ""
    protocol: str = "tcp"
    mode: str = "ingress"
    name: str = ""
    app_protocol: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class BindOptions:
    propagation: str = ""
    create_host_path: bool = True
    selinux: str = ""
    recursive: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeOptions:
    nocopy: bool = False
    subpath: str = ""
    labels: Labels = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class TmpfsOptions:
    size: Bytes = 0
    mode: Octal | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageOptions:
    subpath: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Volume:
    """Something mounted into a service's containers."""

    type: Annotated[str, Choice("bind", "volume", "tmpfs", "npipe", "cluster", "image")]
    target: str
    source: str = ""
    read_only: bool = False
    consistency: str = ""
    bind: BindOptions = field(default_factory=BindOptions)
    volume: VolumeOptions = field(default_factory=VolumeOptions)
    tmpfs: TmpfsOptions = field(default_factory=TmpfsOptions)
    image: ImageOptions = field(default_factory=ImageOptions)


@dataclass(frozen=True, slots=True, kw_only=True)
class IpamPool:
    subnet: str = ""
    ip_range: str = ""
    gateway: str = ""
    aux_addresses: Labels = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ipam:
    driver: str = ""
    config: tuple[IpamPool, ...] = ()
    options: Labels = field(default_factory=dict)
