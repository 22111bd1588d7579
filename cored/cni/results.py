"""Results of ADD in every version of the protocol (CNI specification, section 5)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_interface
from typing import Any

from cored.cni.lists import at_least
from cored.errors import InvalidArgument

__all__ = ["Address", "Interface", "Result", "Route", "from_json", "to_json"]


@dataclass(frozen=True, slots=True)
class Interface:
    """An interface that a plugin made; ``sandbox`` is a namespace's path, '' on the host."""

    name: str
    mac: str = ""
    sandbox: str = ""
    mtu: int = 0
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Address:
    """An address with its prefix length; ``interface`` is an index into the interfaces."""

    address: str
    gateway: str = ""
    interface: int | None = None

    @property
    def family(self) -> int:
        """4 or 6."""
        return 6 if ":" in self.address else 4


@dataclass(frozen=True, slots=True)
class Route:
    """A route; ``extra`` has mtu, advmss, priority, table and scope (from 1.1 on)."""

    dst: str
    gw: str = ""
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Result:
    """What an attachment came to; ``dns`` as in the specification."""

    interfaces: Sequence[Interface] = ()
    ips: Sequence[Address] = ()
    routes: Sequence[Route] = ()
    dns: Mapping[str, Any] = field(default_factory=dict)


def from_json(table: Mapping[str, Any]) -> Result:
    """A result of whatever version, told by its keys. InvalidArgument."""
    try:
        if "ip4" in table or "ip6" in table:
            return _from_first(table)
        return Result(
            interfaces=[_interface(entry) for entry in table.get("interfaces") or ()],
            ips=[
                Address(
                    str(ip_interface(entry["address"])),
                    entry.get("gateway") or "",
                    entry.get("interface"),
                )
                for entry in table.get("ips") or ()
            ],
            routes=[_route(entry) for entry in table.get("routes") or ()],
            dns=dict(table.get("dns") or {}),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InvalidArgument(f"CNI result: malformed: {error!r}") from error


def to_json(result: Result, version: str) -> dict[str, Any]:
    """A result as JSON of ``version``: 0.1 and 0.2, 0.3 and 0.4, 1.0, 1.1."""
    if not at_least(version, "0.3.0"):
        return _to_first(result, version)
    table: dict[str, Any] = {"cniVersion": version}
    if result.interfaces:
        table["interfaces"] = [_interface_json(entry, version) for entry in result.interfaces]
    if result.ips:
        table["ips"] = [_address_json(entry, version) for entry in result.ips]
    if result.routes:
        table["routes"] = [_route_json(entry, version) for entry in result.routes]
    table["dns"] = dict(result.dns)
    return table


def _interface(entry: Mapping[str, Any]) -> Interface:
    known = ("name", "mac", "sandbox", "mtu")
    return Interface(
        entry["name"],
        entry.get("mac") or "",
        entry.get("sandbox") or "",
        entry.get("mtu") or 0,
        {key: value for key, value in entry.items() if key not in known},
    )


def _route(entry: Mapping[str, Any]) -> Route:
    extra = {key: value for key, value in entry.items() if key not in ("dst", "gw")}
    return Route(str(entry["dst"]), entry.get("gw") or "", extra)


def _interface_json(entry: Interface, version: str) -> dict[str, Any]:
    table: dict[str, Any] = {"name": entry.name}
    if entry.mac:
        table["mac"] = entry.mac
    if entry.sandbox:
        table["sandbox"] = entry.sandbox
    if at_least(version, "1.1.0"):
        table |= {**({"mtu": entry.mtu} if entry.mtu else {}), **entry.extra}
    return table


def _address_json(entry: Address, version: str) -> dict[str, Any]:
    table: dict[str, Any] = {"address": entry.address}
    if not at_least(version, "1.0.0"):
        table["version"] = str(entry.family)
    if entry.interface is not None:
        table["interface"] = entry.interface
    if entry.gateway:
        table["gateway"] = entry.gateway
    return table


def _route_json(entry: Route, version: str) -> dict[str, Any]:
    table = {"dst": entry.dst, **({"gw": entry.gw} if entry.gw else {})}
    return {**table, **entry.extra} if at_least(version, "1.1.0") else table


def _from_first(table: Mapping[str, Any]) -> Result:
    """0.1 and 0.2: one address of each family, and no interfaces."""
    found = [table[key] for key in ("ip4", "ip6") if table.get(key)]
    return Result(
        ips=[Address(str(ip_interface(one["ip"])), one.get("gateway") or "") for one in found],
        routes=[_route(entry) for one in found for entry in one.get("routes") or ()],
        dns=dict(table.get("dns") or {}),
    )


def _to_first(result: Result, version: str) -> dict[str, Any]:
    table: dict[str, Any] = {"cniVersion": version, "dns": dict(result.dns)}
    for family in (4, 6):
        address = next((entry for entry in result.ips if entry.family == family), None)
        if address is None:
            continue
        routes = [
            _route_json(entry, version)
            for entry in result.routes
            if (":" in entry.dst) == (family == 6)
        ]
        table[f"ip{family}"] = {
            "ip": address.address,
            **({"gateway": address.gateway} if address.gateway else {}),
            **({"routes": routes} if routes else {}),
        }
    return table
