"""The values of networks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from cored.abc.network import NetworkList

__all__ = ["Connection", "Endpoint", "Port", "UserNetwork"]


@dataclass(frozen=True, slots=True)
class Port:
    """A published port; ``host`` 0 is any that is free, ``host_ip`` '' every address.

    With ``host_last``, any that is free from ``host`` to there.
    """

    container: int
    host: int = 0
    host_last: int = 0
    protocol: str = "tcp"
    host_ip: str = ""

    def mapping(self) -> dict[str, Any]:
        """As the capability ``portMappings`` has it."""
        table: dict[str, Any] = {
            "hostPort": self.host,
            "containerPort": self.container,
            "protocol": self.protocol,
        }
        return {**table, "hostIP": self.host_ip} if self.host_ip else table


@dataclass(frozen=True, slots=True)
class Endpoint:
    """What a container wants of one network; addresses and ``mac`` '' are any."""

    network: str
    aliases: tuple[str, ...] = ()
    ip: str = ""
    ip6: str = ""
    mac: str = ""


@dataclass(frozen=True, slots=True)
class Connection:
    """What a container has of one network; addresses with their prefix lengths."""

    network: str
    ifname: str
    addresses: Sequence[str] = ()
    gateways: Sequence[str] = ()
    mac: str = ""
    aliases: Sequence[str] = ()
    ports: Sequence[Port] = ()


@dataclass(frozen=True, slots=True)
class UserNetwork:
    """A network that can be joined.

    ``driver`` is bridge for those that were made here, else the type of the first plugin;
    ``subnets`` are in CIDR notation; ``created_at`` is ns, 0 for one from a directory.
    """

    name: str
    id: str
    driver: str
    config: NetworkList
    subnets: Sequence[str] = ()
    gateways: Sequence[str] = ()
    internal: bool = False
    ipv6: bool = False
    labels: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, str] = field(default_factory=dict)
    created_at: int = 0

    @property
    def made_here(self) -> bool:
        """Whether it is ours to remove."""
        return self.created_at > 0

    def at(self, config: NetworkList) -> UserNetwork:
        """The same with another configuration."""
        return replace(self, config=config)
