"""A container's network, from what was asked for to what its processes find: by its life."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Collection, Iterable
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path

from cored.engine.networks import Connections, Endpoint, Port, files
from cored.engine.networks.values import Connection
from cored.engine.workload import ContainerConfig
from cored.errors import InvalidArgument

__all__ = ["NONE", "SHARED", "Networking", "exposed"]

NONE = ("none", "private")
"""Networks that are only a loopback of one's own."""
SHARED = "container:"
_GATEWAY = "host-gateway"
_ALONE = (*NONE, "host")
_MAC = re.compile(r"[0-9a-fA-F]{2}([:-][0-9a-fA-F]{2}){5}")


class Networking:
    """Joins containers to networks when they start, and takes them out when they have ended."""

    def __init__(self, connections: Connections) -> None:
        self.connections = connections

    def check(self, config: ContainerConfig) -> None:
        """InvalidArgument for what can never work."""
        first = config.network
        alone = first in _ALONE or first.startswith(SHARED)
        if alone and config.endpoints:
            raise InvalidArgument(f"network {first!r}: goes with no other network")
        if first.startswith(SHARED):
            _shares(config)
        if config.links and (first == "host" or first.startswith(SHARED)):
            raise InvalidArgument(f"network {first!r}: has no links")
        for endpoint in config.endpoints:
            if endpoint.network in _ALONE or endpoint.network.startswith(SHARED):
                raise InvalidArgument(f"network {endpoint.network!r}: goes with no other network")
            for text in filter(None, (endpoint.ip, endpoint.ip6)):
                _address(text)
            if endpoint.mac and not _MAC.fullmatch(endpoint.mac):
                raise InvalidArgument(f"hardware address {endpoint.mac!r}: not understood")
        for port in config.ports:
            if port.host_ip:
                _address(port.host_ip)
        for entry in config.extra_hosts:
            _host(entry)
        for text in config.dns.servers:
            _address(text)

    async def named(self, config: ContainerConfig) -> ContainerConfig:
        """With its networks under their own names; they may be asked for by id. NotFound."""
        first = config.network
        if first and first not in _ALONE and not first.startswith(SHARED):
            first = await self.connections.name(first)
        endpoints = [
            replace(one, network=await self.connections.name(one.network))
            for one in config.endpoints
        ]
        return replace(config, network=first, endpoints=tuple(endpoints))

    async def join(
        self, id: str, pid: int, name: str, hostname: str, config: ContainerConfig, place: Path
    ) -> None:
        """Attach a container that was created, and write its files in ``place`` anew."""
        if config.network == "host" or config.network.startswith(SHARED):
            return
        await asyncio.to_thread(self.connections.keep, id, pid)
        if config.network in NONE:
            return
        names = [name, id[:12]] if name else [id[:12]]
        joined = await self.connections.join(id, names, _endpoints(config), config.ports)
        servers = await self.connections.servers(id)
        await asyncio.to_thread(_write, place, hostname, config, joined, servers)

    async def rename(self, id: str, name: str) -> None:
        """Let the others of its networks find a container by another name."""
        await self.connections.rename(id, [name, id[:12]])

    async def leave(self, id: str) -> None:
        """Take a container out of all networks and let go of its namespace."""
        await self.connections.release(id)

    async def recover(self, living: Collection[str]) -> None:
        """After a start: nothing stays of containers that are not ``living``."""
        await self.connections.recover(living)

    def of(self, id: str) -> list[Connection]:
        """What a container is attached to."""
        return self.connections.of(id)


def _shares(config: ContainerConfig) -> None:
    """InvalidArgument for what another's network namespace leaves no room for."""
    for said, what in (
        (config.hostname, "a host name"),
        (config.ports or config.publish_all, "published ports"),
        (config.exposed, "exposed ports"),
        (config.dns.servers or config.dns.search or config.dns.options, "name servers"),
        (config.extra_hosts, "lines for /etc/hosts"),
    ):
        if said:
            raise InvalidArgument(
                f"network {config.network!r}: excludes {what} of one's own",
                hint=f"give them to {config.network.removeprefix(SHARED)}",
            )


def _endpoints(config: ContainerConfig) -> list[Endpoint]:
    """The networks in order; the first one's options may stand under the name that was given."""
    found = list(config.endpoints)
    first = config.network or "bridge"
    if not any(endpoint.network == first for endpoint in found):
        if found and not config.network:
            return found
        found.insert(0, Endpoint(first))
    # the first is the one with the default route and the published ports
    found.sort(key=lambda endpoint: endpoint.network != first)
    return found


def _write(
    place: Path,
    hostname: str,
    config: ContainerConfig,
    joined: list[Connection],
    servers: list[str],
) -> None:
    """In place: the files are bind-mounted into the container already."""
    names = files.names(hostname, config.domainname)
    gateway = next((one for connection in joined for one in connection.gateways), "")
    extra = [_host(entry) for entry in config.extra_hosts]
    added = [(name, gateway if address == _GATEWAY else address) for name, address in extra]
    addresses = [address for one in joined for address in one.addresses]
    (place / "hosts").write_text(files.hosts(names, addresses, added))
    resolved = files.resolv_conf(files.host_resolv_conf(), config.dns, servers)
    (place / "resolv.conf").write_text(resolved)


def _host(entry: str) -> tuple[str, str]:
    """``NAME:ADDRESS`` or ``NAME=ADDRESS``. InvalidArgument."""
    separator = "=" if "=" in entry else ":"
    name, found, address = entry.partition(separator)
    if not found:
        raise InvalidArgument(f"host {entry!r}: no address", hint="--add-host NAME:ADDRESS")
    files.check_name(name)
    if address != _GATEWAY:
        address = str(_address(address.strip("[]")))
    return name, address


def _address(text: str) -> object:
    try:
        return ip_address(text)
    except ValueError as error:
        raise InvalidArgument(f"address {text!r}: {error}") from error


def exposed(config: ContainerConfig, image_ports: Iterable[str]) -> ContainerConfig:
    """With every exposed port of the image published, where that was asked for."""
    if not config.publish_all:
        return config
    there = {(port.container, port.protocol) for port in config.ports}
    added = []
    for text in (*image_ports, *config.exposed):
        number, _, protocol = text.partition("/")
        first, _, last = number.partition("-")
        for port in range(int(first), int(last or first) + 1):
            if (port, protocol or "tcp") not in there:
                added.append(Port(port, protocol=protocol or "tcp"))
    return replace(config, ports=(*config.ports, *added))
