"""A service's networks, names in them, and ports."""

from __future__ import annotations

from collections.abc import Iterator

from corectl.compose.model import Service
from corectl.compose.parts import Attachment
from corectl.compose.project import Project
from cored._pb.cored.workloads.v1 import workloads_pb2 as pb
from cored.errors import InvalidArgument, Unimplemented

__all__ = ["endpoints", "ports"]


def endpoints(config: pb.ContainerConfig, project: Project, name: str) -> None:
    """Put into ``config`` where its container is and what it is called there."""
    service = project.services[name]
    if mode := service.network_mode:
        kind, _, other = mode.partition(":")
        config.network = mode
        if kind == "service":
            if other not in project.services:
                raise InvalidArgument(f"network_mode: there is no service '{other}'")
            named = project.services[other].container_name
            config.network = f"container:{named or f'{project.name}-{other}-1'}"
        return
    wanted = {key: one or Attachment() for key, one in service.networks.items()}
    order = sorted(wanted, key=lambda key: (-wanted[key].gw_priority, -wanted[key].priority, key))
    for key in order:
        one = wanted[key]
        for word in ("link_local_ips", "interface_name", "driver_opts"):
            if getattr(one, word):
                raise Unimplemented(f"networks.{key}.{word}: cored does not have it")
        config.endpoints.add(
            network=project.networks[key].name,
            aliases=list(dict.fromkeys([name, *one.aliases, *_links(project, name)])),
            ip=one.ipv4_address,
            ip6=one.ipv6_address,
            mac=one.mac_address or (service.mac_address if key == order[0] else ""),
        )
    config.network = project.networks[order[0]].name if order else "none"


def _links(project: Project, name: str) -> Iterator[str]:
    """What others call it in their ``links``."""
    for other in project.services.values():
        for link in other.links:
            linked, _, alias = link.partition(":")
            if linked == name and alias:
                yield alias


def ports(service: Service) -> list[pb.Port]:
    """What is published. InvalidArgument."""
    found = []
    for one in service.ports:
        first, _, last = one.published.partition("-")
        if not all(text.isdecimal() or not text for text in (first, last)):
            raise InvalidArgument(f"ports: published '{one.published}' is not a port")
        found.append(
            pb.Port(
                container=one.target,
                host=int(first or 0),
                host_last=int(last or 0),
                protocol=one.protocol,
                host_ip=one.host_ip,
            )
        )
    return found
