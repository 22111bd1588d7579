"""What is there of a project: its containers and networks, by their labels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from corectl.compose import labels

if TYPE_CHECKING:
    from corectl.session import Session
    from cored._pb.cored.workloads.v1 import workloads_pb2 as pb

__all__ = ["Existing", "Replica", "look", "projects", "replica"]

_ALIVE = {"running", "paused", "restarting"}


@dataclass(frozen=True, slots=True)
class Replica:
    """A container of a service. ``status`` and ``health`` are the daemon's words; ``needs`` are
    the services that its own depends on, with
    their conditions; ``record`` is the daemon's message."""

    id: str
    name: str
    service: str
    number: int
    oneoff: bool
    hash: str
    image: str
    status: str
    exit_status: int
    health: str
    needs: Mapping[str, str]
    record: pb.Container

    @property
    def alive(self) -> bool:
        """Whether it has a process."""
        return self.status in _ALIVE

    @property
    def short(self) -> str:
        """What it is called in its project."""
        return f"{self.service}-{self.number}" if not self.oneoff else self.name


@dataclass(frozen=True, slots=True)
class Existing:
    """``networks`` are those of the project, with their hashes."""

    replicas: tuple[Replica, ...] = ()
    networks: Mapping[str, str] | None = None
    volumes: tuple[str, ...] = ()

    def of(self, services: Iterable[str], *, oneoff: bool = False) -> list[Replica]:
        """The containers of some services, by service and number."""
        wanted = set(services)
        found = [r for r in self.replicas if r.service in wanted and (oneoff or not r.oneoff)]
        return sorted(found, key=lambda r: (r.service, r.number))


def look(session: Session, project: str) -> Existing:
    """Ask the daemon."""
    found = []
    for record in session.workloads.containers(everyone=True):
        if record.labels.get(labels.PROJECT) == project and labels.SERVICE in record.labels:
            found.append(replica(record))
    networks = {
        network.name: network.labels.get(labels.HASH, "")
        for network in session.networks.all()
        if network.labels.get(labels.PROJECT) == project
    }
    filters = [f"label={labels.PROJECT}={project}"]
    volumes = tuple(sorted(volume.name for volume in session.volumes.list(filters)))
    return Existing(tuple(found), networks, volumes)


def projects(session: Session) -> dict[str, list[Replica]]:
    """All containers that belong to projects."""
    found: dict[str, list[Replica]] = {}
    for record in session.workloads.containers(everyone=True):
        if labels.PROJECT in record.labels and labels.SERVICE in record.labels:
            found.setdefault(record.labels[labels.PROJECT], []).append(replica(record))
    return found


def replica(record: pb.Container) -> Replica:
    """A container's message as what compose knows of it."""
    marks = record.labels
    number = marks.get(labels.NUMBER, "1")
    needs = [one.split(":") for one in marks.get(labels.DEPENDS, "").split(",") if one]
    return Replica(
        record.id,
        record.name,
        marks[labels.SERVICE],
        int(number) if number.isdecimal() else 1,
        marks.get(labels.ONEOFF) == "True",
        marks.get(labels.HASH, ""),
        marks.get(labels.IMAGE, ""),
        record.status,
        record.exit_status,
        record.health.status,
        {need[0]: need[1] if len(need) > 1 else "" for need in needs},
        record,
    )
