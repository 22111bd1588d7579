"""What ``up`` does: from the model and what is there to steps.

Containers whose service is as it was stay. Others are stopped, removed and made again, while
those that they depend on start; a container starts when its dependencies are as it wants them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from corectl.compose import labels
from corectl.compose.configuration import container_name, own_labels, request
from corectl.compose.dependencies import dependencies, layers
from corectl.compose.existing import Existing, Replica
from corectl.compose.materials import Material, Store, materials
from corectl.compose.model import Network, Service
from corectl.compose.mounting import keep_volumes, volume_request
from corectl.compose.preparing import Preparation
from corectl.compose.printing import image_of, service_hash
from corectl.compose.project import Project
from corectl.compose.steps import (
    CONDITIONS,
    Await,
    CreateContainer,
    CreateNetwork,
    CreateVolume,
    Plan,
    RemoveContainer,
    RemoveNetwork,
    StartContainer,
    StaysMade,
    StaysRunning,
    StopContainer,
)
from cored._pb.cored.workloads.v1 import networks_pb2
from cored._pb.cored.workloads.v1 import workloads_pb2 as pb
from cored.errors import NotFound

__all__ = ["UpOptions", "plan_up"]

# the daemon makes it with its first container
_DEFAULT = "bridge"


@dataclass(frozen=True, slots=True, kw_only=True)
class UpOptions:
    """``recreate``: changed, always, never. ``scale`` by service; ``timeout`` in seconds.

    ``untouched`` is a service whose networks and volumes are made, and whose containers stay.
    """

    recreate: str = "changed"
    start: bool = True
    scale: Mapping[str, int] = field(default_factory=dict)
    timeout: int | None = None
    remove_orphans: bool = False
    wait: bool = False
    renew_volumes: bool = False
    untouched: str = ""


def plan_up(
    project: Project,
    existing: Existing,
    digests: Mapping[str, str],
    store: Store,
    options: UpOptions,
    *,
    networks: Iterable[str] = (),
    volumes: Iterable[str] = (),
) -> Plan:
    """Steps that bring ``existing`` to what the project says.

    ``digests`` are those of images by reference; ``networks`` and ``volumes`` are names of all
    that are there. InvalidArgument, NotFound, Unimplemented.
    """
    return _Up(project, existing, digests, store, options, set(networks), set(volumes)).plan()


class _Up:
    def __init__(
        self,
        project: Project,
        existing: Existing,
        digests: Mapping[str, str],
        store: Store,
        options: UpOptions,
        networks: set[str],
        volumes: set[str],
    ) -> None:
        self._project, self._existing, self._digests = project, existing, digests
        self._store, self._options = store, options
        self._others, self._there = networks, volumes
        self._plan = Plan()
        # by service: the steps after which its containers run, those whose containers were made
        self._started: dict[str, list[int]] = {}
        self._fresh: set[str] = set()
        self._made: dict[str, list[int]] = {}
        self._networks: dict[str, int] = {}
        self._volumes: dict[str, int] = {}
        self._gone: dict[str, int] = {}
        self._settled: dict[tuple[str, str], int] = {}

    def plan(self) -> Plan:
        """Everything; networks first, then services with those that they need before them."""
        self._orphans()
        self._all_networks()
        self._all_volumes()
        for layer in layers(self._project.services):
            for name in layer:
                self._service(name)
        if self._options.wait and self._options.start:
            for name in self._project.services:
                for replica in self._names(name):
                    self._plan.add(Await(replica, "ready"), self._started[name])
        return self._plan

    def _orphans(self) -> None:
        known = self._project.services.keys() | self._project.disabled.keys()
        for replica in self._existing.replicas:
            if replica.service not in known and self._options.remove_orphans:
                self._remove(replica)

    def _remove(self, replica: Replica, after: Sequence[int] = ()) -> int:
        if replica.id in self._gone:
            return self._gone[replica.id]
        before = list(after)
        if replica.alive:
            before = [
                self._plan.add(
                    StopContainer(replica.name, replica.service, self._options.timeout), after
                )
            ]
        volumes = self._options.renew_volumes
        step = self._plan.add(RemoveContainer(replica.name, volumes), before)
        self._gone[replica.id] = step
        return step

    def _all_networks(self) -> None:
        services = self._project.services.values()
        used = sorted({name for service in services for name in service.networks})
        there = self._existing.networks or {}
        for name in used:
            network = self._project.networks[name]
            if network.external:
                if network.name not in (_DEFAULT, *there, *self._others):
                    hint = f"make it with: corectl network create {network.name}"
                    raise NotFound(f"network '{network.name}': not found", hint=hint)
                continue
            made = _network_request(self._project, name, network)
            before: list[int] = []
            if network.name in there:
                if there[network.name] == made.labels[labels.HASH]:
                    continue
                # one that changed: everything that is in it goes before it
                inside = [self._remove(r) for r in self._existing.replicas if _in(r, network.name)]
                before = [self._plan.add(RemoveNetwork(network.name), inside)]
            self._networks[name] = self._plan.add(CreateNetwork(network.name, made), before)

    def _all_volumes(self) -> None:
        services = self._project.services.values()
        used = sorted({v.source for s in services for v in s.volumes if v.type == "volume"} - {""})
        for name in used:
            volume = self._project.volumes[name]
            if volume.name in self._there:
                continue
            if volume.external:
                hint = f"make it with: corectl volume create {volume.name}"
                raise NotFound(f"volume '{volume.name}': not found", hint=hint)
            made = volume_request(self._project, name)
            self._volumes[name] = self._plan.add(CreateVolume(volume.name, made))

    def _service(self, name: str) -> None:
        service = self._project.services[name]
        self._started[name], self._made[name] = [], []
        if name == self._options.untouched:
            return
        count = self._options.scale.get(name, service.replicas)
        if service.container_name:
            count = min(count, 1)
        there = {replica.number: replica for replica in self._existing.of([name])}
        ready = self._ready(name)
        before = [self._networks[n] for n in service.networks if n in self._networks]
        before += [self._volumes[v.source] for v in service.volumes if v.source in self._volumes]
        if any(":" in text for text in (service.network_mode, service.ipc, service.pid)):
            # it is made into a namespace of theirs
            before += ready
        for need in dependencies(service):
            if need in service.volumes_from or f"{need}:ro" in service.volumes_from:
                before += self._made[need]
        surplus = [replica for number, replica in there.items() if number > count]
        for replica in surplus:
            self._remove(replica)
        files = list(materials(self._project, name, self._store))
        make = _Maker(self._project, name, files, self._digests.get(image_of(self._project, name)))
        begun = any(
            number <= count and replica.status != "created" and self._stays(replica, make, service)
            for number, replica in there.items()
        )
        first = Preparation(self._project, name, files, begun=begun)
        started = self._started[name]
        for number in range(1, count + 1):
            step = self._replica(
                service, name, number, there.get(number), make, before, ready, first
            )
            if step is not None:
                started.append(step)

    def _replica(
        self,
        service: Service,
        name: str,
        number: int,
        replica: Replica | None,
        make: _Maker,
        before: Sequence[int],
        ready: Sequence[int],
        first: Preparation,
    ) -> int | None:
        """The step after which it runs; None when it does already."""
        ran = False
        title = container_name(self._project, name, number)
        after = list(before)
        if replica is not None and self._stays(replica, make, service):
            ran = replica.status != "created"
            if replica.alive and not self._to_restart(service):
                self._plan.add(StaysRunning(title))
                return None
            if not self._options.start:
                self._plan.add(StaysMade(title))
                return None
            if replica.alive:
                after.append(
                    self._plan.add(StopContainer(title, name, self._options.timeout), ready)
                )
        else:
            if replica is not None:
                after.append(self._remove(replica))
            config = make.config(number)
            if replica is not None and not self._options.renew_volumes:
                keep_volumes(config, replica.record.mounts)
            after = [self._plan.add(CreateContainer(title, name, config), after)]
            self._fresh.add(name)
            self._made[name] += after
        if not self._options.start:
            return None
        before_start = [*after, *ready]
        if not ran:
            before_start = first.add(self._plan, number, before_start)
        return self._plan.add(StartContainer(title, name), before_start)

    def _stays(self, replica: Replica, make: _Maker, service: Service) -> bool:
        if replica.id in self._gone:
            return False
        if self._options.recreate != "changed":
            return self._options.recreate == "never"
        for text in (service.network_mode, service.ipc, service.pid):
            kind, _, other = text.partition(":")
            if kind == "service" and other in self._fresh:
                return False
        return replica.hash == make.hash and make.digest in (None, replica.image)

    def _to_restart(self, service: Service) -> bool:
        return any(one.restart and n in self._fresh for n, one in service.depends_on.items())

    def _ready(self, name: str) -> list[int]:
        """The steps after which what a service depends on is as it wants it."""
        found = []
        for need, one in dependencies(self._project.services[name]).items():
            if need not in self._project.services:
                continue
            condition = CONDITIONS.get(one.condition)
            if condition is None:
                found += self._started[need]
                continue
            for title in self._names(need):
                key = (title, f"{condition}-{one.required}")
                if key not in self._settled:
                    step = Await(title, condition, one.required)
                    self._settled[key] = self._plan.add(step, self._started[need])
                found.append(self._settled[key])
        return found if self._options.start else []

    def _names(self, name: str) -> list[str]:
        count = self._options.scale.get(name, self._project.services[name].replicas)
        return [container_name(self._project, name, n + 1) for n in range(count)]


@dataclass
class _Maker:
    """What a service's containers are made from; ``digest`` is None where it is not known yet."""

    project: Project
    service: str
    files: Sequence[Material]
    digest: str | None

    @property
    def hash(self) -> str:
        contents = [[f.target, f.mode, f.owner, (f.content or b"").hex()] for f in self.files]
        text = json.dumps([service_hash(self.project, self.service), contents])
        return hashlib.sha256(text.encode()).hexdigest()

    def config(self, number: int) -> pb.ContainerConfig:
        marks = own_labels(self.project, self.service, number, self.hash, self.digest or "")
        return request(self.project, self.service, number, marks, self.files)


def _in(replica: Replica, network: str) -> bool:
    return any(connection.network == network for connection in replica.record.connections)


def _network_request(
    project: Project, name: str, network: Network
) -> networks_pb2.CreateNetworkRequest:
    pools = network.ipam.config
    made = networks_pb2.CreateNetworkRequest(
        name=network.name,
        driver="" if network.driver == "default" else network.driver,
        subnets=[pool.subnet for pool in pools if pool.subnet],
        gateways=[pool.gateway for pool in pools if pool.gateway],
        ranges=[pool.ip_range for pool in pools if pool.ip_range],
        internal=network.internal,
        ipv6=network.enable_ipv6,
        labels={key: value or "" for key, value in network.labels.items()},
        options={key: value or "" for key, value in network.driver_opts.items()},
    )
    text = made.SerializeToString(deterministic=True)
    made.labels[labels.PROJECT] = project.name
    made.labels[labels.NETWORK] = name
    made.labels[labels.HASH] = hashlib.sha256(text).hexdigest()
    return made
