"""What an attachment says: addresses, ports, names, and where a name server can listen."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from cored.abc.network import Attachment
from cored.engine.networks.values import Connection, Port, UserNetwork

__all__ = ["connection", "entries", "gateways", "ports", "served", "serving"]


def connection(attachment: Attachment) -> Connection:
    ips = [one for one in attachment.result.get("ips") or () if one.get("interface") in (None, 2)]
    interfaces = attachment.result.get("interfaces") or ()
    macs = [one.get("mac", "") for one in interfaces if one.get("sandbox")]
    aliases = attachment.capabilities.get("aliases") or {}
    return Connection(
        network=attachment.network.name,
        ifname=attachment.ifname,
        addresses=[one["address"] for one in ips] or _addresses(attachment),
        gateways=gateways(attachment),
        mac=macs[0] if macs else "",
        aliases=aliases.get(attachment.network.name) or (),
        ports=list(ports(attachment)),
    )


def _addresses(attachment: Attachment) -> list[str]:
    return [one["address"] for one in attachment.result.get("ips") or ()]


def gateways(attachment: Attachment) -> list[str]:
    found = [one.get("gateway") for one in attachment.result.get("ips") or ()]
    return [gateway for gateway in found if gateway]


def serving(attachment: Attachment) -> list[str]:
    """The gateways that are the host's own, where a name server can listen."""
    plugin = attachment.network.plugins[0]
    ours = plugin["type"] == "bridge" and (
        plugin.get("isGateway") or plugin.get("isDefaultGateway")
    )
    return gateways(attachment) if ours else []


def served(network: UserNetwork) -> Sequence[str]:
    """The same of a network that was made here, before anybody is attached."""
    return network.gateways if network.made_here and network.driver == "bridge" else ()


def ports(attachment: Attachment) -> Iterable[Port]:
    for entry in attachment.capabilities.get("portMappings") or ():
        yield Port(
            container=entry["containerPort"],
            host=entry["hostPort"],
            protocol=entry["protocol"],
            host_ip=entry.get("hostIP", ""),
        )


def entries(attachment: Attachment, names: Sequence[str]) -> list[tuple[str, str]]:
    text = " ".join(dict.fromkeys(names))
    return [(address.partition("/")[0], text) for address in _addresses(attachment)]
