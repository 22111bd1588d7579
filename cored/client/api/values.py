"""What the daemon answers, as values. Times have a zone; sizes are bytes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from cored.errors import CoredError

__all__ = [
    "BuildStep",
    "CacheRecord",
    "Cause",
    "Change",
    "CommandFailed",
    "Connection",
    "Container",
    "DiskUsage",
    "Event",
    "Health",
    "Image",
    "ImageUsage",
    "Info",
    "LogLine",
    "MountPoint",
    "Namespace",
    "Network",
    "Output",
    "Plugin",
    "Port",
    "Processes",
    "Progress",
    "Pruned",
    "Stats",
    "Version",
    "Volume",
    "VolumeUsage",
    "Why",
]


@dataclass(frozen=True, slots=True)
class Port:
    """Port ``container`` of a container at ``host`` of the host; 0 is any that is free.

    ``protocol`` is tcp, udp or sctp; an empty ``host_ip`` is every address of the host.
    """

    container: int
    host: int = 0
    protocol: str = "tcp"
    host_ip: str = ""


@dataclass(frozen=True, slots=True)
class Connection:
    """What a container has of a network: addresses with their prefix lengths."""

    network: str
    ifname: str
    addresses: tuple[str, ...]
    gateways: tuple[str, ...]
    mac: str
    aliases: tuple[str, ...]
    ports: tuple[Port, ...]


@dataclass(frozen=True, slots=True)
class MountPoint:
    """Something mounted at ``target``; ``type`` is bind, volume or tmpfs."""

    type: str
    name: str
    source: str
    target: str
    driver: str
    read_only: bool
    propagation: str


@dataclass(frozen=True, slots=True)
class Health:
    """``status`` is starting, healthy or unhealthy; failures in a row."""

    status: str
    failing_streak: int


@dataclass(frozen=True, slots=True)
class Container:
    """``status`` is created, running, paused, restarting or stopped; ``pid`` is the host's.

    ``error`` says why it could not start. ``connections`` are there while it runs.
    """

    id: str
    name: str
    image: str
    command: tuple[str, ...]
    status: str
    pid: int
    exit_status: int
    created_at: datetime | None
    started_at: datetime | None
    exited_at: datetime | None
    labels: Mapping[str, str]
    error: str
    connections: tuple[Connection, ...]
    restarts: int
    oom_killed: bool
    health: Health | None
    mounts: tuple[MountPoint, ...]
    networks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Output:
    """What a command wrote, and its exit status: 128 and a signal's number for a killed one."""

    exit_status: int
    stdout: bytes
    stderr: bytes

    @property
    def text(self) -> str:
        """Its standard output, as UTF-8."""
        return self.stdout.decode(errors="replace")


class CommandFailed(CoredError):
    """A command ended with another exit status than 0; ``output`` is what it wrote."""

    def __init__(self, what: str, output: Output) -> None:
        words = output.stderr.decode(errors="replace").strip().splitlines()
        said = f": {words[-1]}" if words else ""
        super().__init__(f"{what}: exited with {output.exit_status}{said}")
        self.output = output


@dataclass(frozen=True, slots=True)
class LogLine:
    """A piece of ``stream`` (stdout, stderr), mostly a line with its end."""

    stream: str
    time: datetime | None
    data: bytes


@dataclass(frozen=True, slots=True)
class Stats:
    """What a container uses: CPU in percent of one, memory in bytes, traffic and I/O in bytes."""

    id: str
    name: str
    cpu_percent: float
    memory: int
    memory_limit: int
    received: int
    sent: int
    read: int
    written: int
    pids: int
    cpu_ns: int
    running: bool


@dataclass(frozen=True, slots=True)
class Processes:
    """A table of ps(1): titles, and the cells of each row."""

    titles: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Change:
    """``kind`` is A, C or D: added, changed, deleted."""

    kind: str
    path: str


@dataclass(frozen=True, slots=True)
class Pruned:
    """What is gone, and the bytes that it took."""

    removed: tuple[str, ...]
    reclaimed: int


@dataclass(frozen=True, slots=True)
class Image:
    """``size`` is that of its files, as far as they are unpacked; ``config_digest`` docker's id."""

    name: str
    digest: str
    config_digest: str
    size: int
    platform: str
    labels: Mapping[str, str]
    created_at: datetime | None


@dataclass(frozen=True, slots=True)
class Progress:
    """How one thing of a transfer or a build fares; ``total`` is 0 where nobody knows."""

    id: str
    status: str
    offset: int
    total: int


@dataclass(frozen=True, slots=True)
class Volume:
    """A directory that outlives containers, at ``mountpoint`` on the daemon's host."""

    name: str
    driver: str
    mountpoint: str
    labels: Mapping[str, str]
    options: Mapping[str, str]
    created_at: datetime | None
    users: tuple[str, ...]
    anonymous: bool


@dataclass(frozen=True, slots=True)
class Network:
    """Subnets in CIDR notation."""

    name: str
    id: str
    driver: str
    subnets: tuple[str, ...]
    gateways: tuple[str, ...]
    internal: bool
    ipv6: bool
    labels: Mapping[str, str]
    options: Mapping[str, str]
    created_at: datetime | None


@dataclass(frozen=True, slots=True)
class Namespace:
    """Everything but networks is in one."""

    name: str
    labels: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened, in docker's words: ``type`` container, ``action`` start."""

    time: datetime | None
    type: str
    action: str
    id: str
    attributes: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class BuildStep:
    """``state`` is started, cached, done, failed or cancelled; ``output`` what it has written."""

    id: int
    name: str
    state: str
    error: str
    output: bytes


@dataclass(frozen=True, slots=True)
class CacheRecord:
    """A step of a build that is kept; times in seconds since 1970."""

    key: str
    instruction: str
    size: int
    created_at: int
    used_at: int


@dataclass(frozen=True, slots=True)
class Info:
    """The daemon and its host; ``memory`` in bytes, ``cgroup_version`` 1 or 2."""

    containers: int
    running: int
    paused: int
    stopped: int
    images: int
    version: str
    snapshotter: str
    log_driver: str
    network: str
    cgroup_version: int
    runtime: str
    kernel: str
    operating_system: str
    architecture: str
    cpus: int
    memory: int
    host: str
    root: str
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ImageUsage:
    """``shared`` is what other images have, too; ``containers`` how many were made from it."""

    name: str
    id: str
    created_at: datetime | None
    size: int
    shared: int
    containers: int


@dataclass(frozen=True, slots=True)
class VolumeUsage:
    """``users`` is how many containers have it."""

    name: str
    users: int
    size: int


@dataclass(frozen=True, slots=True)
class DiskUsage:
    """``images_size`` is that of all layers together."""

    images: tuple[ImageUsage, ...]
    images_size: int
    images_reclaimable: int
    volumes: tuple[VolumeUsage, ...]


@dataclass(frozen=True, slots=True)
class Cause:
    """One thing that explains an end; ``hint`` says what to do about it."""

    text: str
    hint: str


@dataclass(frozen=True, slots=True)
class Why:
    """What became of a container, and its last words."""

    id: str
    name: str
    image: str
    causes: tuple[Cause, ...]
    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Version:
    """Of the daemon."""

    version: str
    revision: str


@dataclass(frozen=True, slots=True)
class Plugin:
    """``error`` is empty for one that works."""

    type: str
    id: str
    capabilities: tuple[str, ...]
    error: str
