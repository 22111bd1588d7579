"""What the service's calls stand on, in one place."""

from __future__ import annotations

from dataclasses import dataclass

from cored.engine.tasks import Tasks
from cored.oci.security import Host
from cored_service_cri.cgroups import Cgroups
from cored_service_cri.containers import Containers
from cored_service_cri.events import Events
from cored_service_cri.execs import Execs
from cored_service_cri.lives import Lives
from cored_service_cri.metrics import Metrics
from cored_service_cri.networks import PodNetworks
from cored_service_cri.output import Output
from cored_service_cri.pods import Pods
from cored_service_cri.registry import Registry
from cored_service_cri.stats import Stats
from cored_service_cri.streaming import Streaming

__all__ = ["Calls", "Parts"]


@dataclass(frozen=True, slots=True)
class Parts:
    """All that is opened once; ``cgroup_driver`` is cgroupfs or systemd."""

    registry: Registry
    tasks: Tasks
    networks: PodNetworks
    pods: Pods
    containers: Containers
    lives: Lives
    output: Output
    execs: Execs
    streaming: Streaming
    cgroups: Cgroups
    stats: Stats
    metrics: Metrics
    events: Events
    host: Host
    cgroup_driver: str


class Calls:
    """Base of the classes that the service is put together from."""

    def __init__(self, parts: Parts) -> None:
        self.parts = parts
