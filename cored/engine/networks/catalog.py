"""Which networks there are: those of the configuration directories, and those that were made here.

A network that was made is a CNI list of its own, ``<root>/<name>.conflist``, so that what corectl
makes is what any CNI runtime reads; what CNI has no words for stands below the key ``cored``.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from hashlib import sha256
from ipaddress import ip_address, ip_network
from itertools import count
from pathlib import Path
from typing import Any

from cored import log
from cored.abc.network import NetworkList
from cored.cni import lists
from cored.engine.networks import subnets
from cored.engine.networks.subnets import Subnet
from cored.engine.networks.values import UserNetwork
from cored.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound

__all__ = ["DEFAULT", "Catalog"]

DEFAULT = "bridge"
"""The network of containers that ask for none; it comes to be when it is first wanted."""

# the newest that all plugins speak is used; Debian 12's know no 1.1.0
_VERSIONS = ("1.0.0", "1.1.0")
_RESERVED = ("none", "host", "default", "private")


class Catalog:
    """Networks in ``root``, and in ``directories`` by file name; reads them anew each time."""

    def __init__(
        self,
        root: Path,
        directories: Sequence[Path],
        addresses: Path,
        routed: Callable[[], Iterator[Subnet]] = subnets.in_use,
        links: Callable[[], Sequence[tuple[int, str]]] = socket.if_nameindex,
    ) -> None:
        self._root = root
        self._directories = directories
        self._addresses = addresses
        self._routed = routed
        self._links = links
        self._making = asyncio.Lock()

    def list(self) -> list[UserNetwork]:
        """All, those that were made here first; of one name the first counts."""
        found: dict[str, UserNetwork] = {}
        for path in sorted(self._root.glob("*.conflist")):
            network = _read(path)
            if network is not None:
                found[network.name] = network
        for directory in self._directories:
            for config in lists.search(directory):
                found.setdefault(config.name, _stranger(config))
        return list(found.values())

    async def get(self, name: str) -> UserNetwork:
        """One by name, id, or a unique beginning of its id. NotFound."""
        if name in ("", "default", DEFAULT):
            return await self._default()
        everything = await asyncio.to_thread(self.list)
        for network in everything:
            if name in (network.name, network.id):
                return network
        matching = [one for one in everything if len(name) >= 3 and one.id.startswith(name)]
        if len(matching) == 1:
            return matching[0]
        raise NotFound(
            f"network {name!r}: not found", hint=f"make it with: corectl network create {name}"
        )

    async def create(
        self,
        name: str,
        *,
        driver: str = "bridge",
        given: Sequence[str] = (),
        gateways: Sequence[str] = (),
        ranges: Sequence[str] = (),
        internal: bool = False,
        ipv6: bool = False,
        labels: Mapping[str, str] | None = None,
        options: Mapping[str, str] | None = None,
    ) -> UserNetwork:
        """Make a network. AlreadyExists, InvalidArgument, ResourceExhausted."""
        lists.check_name("network", name)
        if name in _RESERVED:
            raise InvalidArgument(f"network name {name!r}: has a meaning of its own")
        async with self._making:
            there = await asyncio.to_thread(self.list)
            if any(network.name == name for network in there):
                raise AlreadyExists(f"network {name!r}: already exists")
            spaces = _spaces(given, gateways, ranges, ipv6, [*self._taken(there)])
            made = _Made(name, driver, internal, spaces, dict(labels or {}), dict(options or {}))
            if name == DEFAULT:
                made.bridge = self._free_bridge()
            await asyncio.to_thread(self._write, name, made.document(self._addresses))
            return await self.get(name) if name != DEFAULT else _must(self._root, name)

    async def remove(self, network: UserNetwork) -> None:
        """Forget a network that was made here. FailedPrecondition for any other."""
        if network.name == DEFAULT:
            raise FailedPrecondition(f"network {DEFAULT!r}: is always there")
        if not network.made_here:
            raise FailedPrecondition(
                f"network {network.name!r}: was not made here",
                hint=f"remove the file {network.config.source}",
            )
        (self._root / f"{network.name}.conflist").unlink(missing_ok=True)

    async def _default(self) -> UserNetwork:
        found = _read(self._root / f"{DEFAULT}.conflist")
        if found is not None:
            return found
        try:
            return await self.create(DEFAULT)
        except AlreadyExists:
            return _must(self._root, DEFAULT)  # somebody wanted it at the same time

    def _free_bridge(self) -> str:
        """A bridge for the default network. One that is there is another daemon's."""
        there = {name for _, name in self._links()}
        return next(name for number in count() if (name := f"cored{number}") not in there)

    def _taken(self, networks: Sequence[UserNetwork]) -> Iterator[Subnet]:
        for network in networks:
            yield from (ip_network(subnet) for subnet in network.subnets)
        yield from self._routed()

    def _write(self, name: str, document: Mapping[str, Any]) -> None:
        self._root.mkdir(mode=0o711, parents=True, exist_ok=True)
        new = self._root / f".{name}.new"
        with new.open("w") as file:
            json.dump(document, file, indent=2)
            file.flush()
            os.fsync(file.fileno())
        new.replace(self._root / f"{name}.conflist")


class _Made:
    """A network that is about to be."""

    def __init__(
        self,
        name: str,
        driver: str,
        internal: bool,
        spaces: Sequence[Mapping[str, str]],
        labels: Mapping[str, str],
        options: Mapping[str, str],
    ) -> None:
        self._name = name
        self._driver = driver
        self._internal = internal
        self._spaces = spaces
        self._labels = labels
        self._options = options
        self._id = sha256(f"{name}\0{time.time_ns()}".encode()).hexdigest()
        self.bridge = f"br-{self._id[:12]}"

    def document(self, addresses: Path) -> dict[str, Any]:
        """The list. InvalidArgument for a driver or option that is unknown."""
        ipam = {
            "type": "host-local",
            "ranges": [[dict(space)] for space in self._spaces],
            "dataDir": str(addresses),
        }
        match self._driver:
            case "bridge":
                plugins = self._bridge(ipam)
            case "macvlan":
                plugins = self._macvlan(ipam)
            case other:
                raise InvalidArgument(
                    f"network driver {other!r}: unknown",
                    hint="bridge or macvlan; any other network comes from a CNI configuration",
                )
        return {
            "cniVersion": _VERSIONS[-1],
            "cniVersions": list(_VERSIONS),
            "name": self._name,
            "plugins": plugins,
            "cored": {
                "id": self._id,
                "driver": self._driver,
                "internal": self._internal,
                "labels": self._labels,
                "options": self._options,
                "createdAt": time.time_ns(),
            },
        }

    def _bridge(self, ipam: Mapping[str, Any]) -> list[dict[str, Any]]:
        known = {"com.docker.network.bridge.name", "com.docker.network.driver.mtu", "mtu"}
        self._check_options(known)
        bridge = self._options.get("com.docker.network.bridge.name") or self.bridge
        if not 0 < len(bridge) < 16 or "/" in bridge:
            raise InvalidArgument(f"bridge {bridge!r}: no interface's name")
        mtu = self._options.get("com.docker.network.driver.mtu") or self._options.get("mtu") or "0"
        if not mtu.isdecimal() or not (int(mtu) == 0 or 68 <= int(mtu) <= 65535):
            raise InvalidArgument(f"mtu {mtu!r}: not between 68 and 65535")
        return [
            {
                "type": "bridge",
                "bridge": bridge,
                "isGateway": True,
                "isDefaultGateway": not self._internal,
                "ipMasq": not self._internal,
                "hairpinMode": True,
                "macspoofchk": True,
                "mtu": int(mtu),
                "capabilities": {"ips": True, "mac": True},
                "ipam": ipam,
            },
            {"type": "portmap", "capabilities": {"portMappings": True}},
            {"type": "firewall", "ingressPolicy": "same-bridge"},
        ]

    def _macvlan(self, ipam: Mapping[str, Any]) -> list[dict[str, Any]]:
        self._check_options({"parent", "macvlan_mode", "mtu"})
        if not self._options.get("parent"):
            raise InvalidArgument(
                "network driver macvlan: wants an interface of the host", hint="-o parent=eth0"
            )
        return [
            {
                "type": "macvlan",
                "master": self._options["parent"],
                "mode": self._options.get("macvlan_mode", "bridge"),
                "capabilities": {"ips": True, "mac": True},
                "ipam": ipam,
            }
        ]

    def _check_options(self, known: set[str]) -> None:
        for key in self._options:
            if key not in known:
                raise InvalidArgument(
                    f"network option {key!r}: unknown to driver {self._driver}",
                    hint=f"known: {', '.join(sorted(known))}",
                )


def _spaces(
    given: Sequence[str],
    gateways: Sequence[str],
    ranges: Sequence[str],
    ipv6: bool,
    taken: Sequence[Subnet],
) -> list[dict[str, str]]:
    """The range sets of a network's addresses, one for each subnet."""
    chosen = [subnets.parse(text) for text in given]
    for subnet in chosen:
        clash = next((t for t in taken if t.version == subnet.version and t.overlaps(subnet)), None)
        if clash is not None:
            raise InvalidArgument(f"subnet {subnet}: overlaps {clash}, which is in use")
    if not any(subnet.version == 4 for subnet in chosen):
        chosen.insert(0, subnets.choose(taken))
    if ipv6 and not any(subnet.version == 6 for subnet in chosen):
        chosen.append(subnets.choose6())
    spaces = [{"subnet": str(subnet)} for subnet in chosen]
    for key, texts in (("gateway", gateways), ("range", ranges)):
        for text in texts:
            _place(key, text, chosen, spaces)
    for subnet, space in zip(chosen, spaces, strict=True):
        space.setdefault("gateway", str(subnet.network_address + 1))
    return spaces


def _place(key: str, text: str, chosen: Sequence[Subnet], spaces: Sequence[dict[str, str]]) -> None:
    """Note a gateway, or a range of addresses, with the subnet that it belongs to."""
    try:
        part = ip_network(text, strict=False) if key == "range" else None
        first = part.network_address if part is not None else ip_address(text)
    except ValueError as error:
        raise InvalidArgument(f"{key} {text!r}: {error}") from error
    for subnet, space in zip(chosen, spaces, strict=True):
        if first.version == subnet.version and first in subnet:
            if part is None:
                space["gateway"] = str(first)
            else:
                start = type(first)(max(int(first), int(subnet.network_address) + 1))
                last = type(first)(
                    min(int(part.broadcast_address), int(subnet.broadcast_address) - 1)
                )
                space["rangeStart"], space["rangeEnd"] = str(start), str(last)
            return
    raise InvalidArgument(f"{key} {text}: in none of the subnets {', '.join(map(str, chosen))}")


def _must(root: Path, name: str) -> UserNetwork:
    found = _read(root / f"{name}.conflist")
    if found is None:
        raise NotFound(f"network {name!r}: not found")
    return found


def _read(path: Path) -> UserNetwork | None:
    try:
        data = path.read_bytes()
        config = lists.parse(data, str(path))
        extra = json.loads(data).get("cored") or {}
    except FileNotFoundError:
        return None
    except InvalidArgument as error:
        log.get("networks").warning("a network cannot be read", error=str(error))
        return None
    spaces = list(_ranges(config))
    return UserNetwork(
        name=config.name,
        id=extra.get("id", ""),
        driver=extra.get("driver", config.plugins[0]["type"]),
        config=config,
        subnets=[space["subnet"] for space in spaces],
        gateways=[space["gateway"] for space in spaces if space.get("gateway")],
        internal=bool(extra.get("internal")),
        ipv6=any(":" in space["subnet"] for space in spaces),
        labels=extra.get("labels") or {},
        options=extra.get("options") or {},
        created_at=int(extra.get("createdAt") or 1),
    )


def _stranger(config: NetworkList) -> UserNetwork:
    """A network of somebody else's making."""
    spaces = list(_ranges(config))
    return UserNetwork(
        name=config.name,
        id=sha256(f"{config.source}\0{config.name}".encode()).hexdigest(),
        driver=str(config.plugins[0]["type"]),
        config=config,
        subnets=[str(space["subnet"]) for space in spaces if space.get("subnet")],
        gateways=[str(space["gateway"]) for space in spaces if space.get("gateway")],
    )


def _ranges(config: NetworkList) -> Iterator[Mapping[str, Any]]:
    ipam = config.plugins[0].get("ipam") or {}
    if ipam.get("subnet"):
        yield ipam
    for ranges in ipam.get("ranges") or ():
        yield from ranges
