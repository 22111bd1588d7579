"""Subnets for networks that nobody gave any: free ones out of docker's usual pools."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path

from cored.errors import InvalidArgument, ResourceExhausted

__all__ = ["Subnet", "choose", "choose6", "in_use", "parse"]

Subnet = IPv4Network | IPv6Network
_POOLS = tuple(
    [IPv4Network(f"172.{n}.0.0/16") for n in range(17, 32)]
    + list(IPv4Network("192.168.0.0/16").subnets(new_prefix=20))
)


def parse(text: str) -> Subnet:
    """A subnet from CIDR notation. InvalidArgument."""
    try:
        return ip_network(text, strict=False)
    except ValueError as error:
        raise InvalidArgument(f"subnet {text!r}: {error}") from error


def choose(taken: Iterable[Subnet]) -> IPv4Network:
    """The first of the pools that overlaps nothing of ``taken``. ResourceExhausted."""
    used = [subnet for subnet in taken if isinstance(subnet, IPv4Network)]
    for pool in _POOLS:
        if not any(pool.overlaps(subnet) for subnet in used):
            return pool
    raise ResourceExhausted(
        "networks: no subnet left in 172.17.0.0-172.31.0.0/16 and 192.168.0.0/16",
        hint="name one with --subnet, or remove networks: corectl network prune",
    )


def choose6() -> IPv6Network:
    """A unique local one (RFC 4193, section 3.2)."""
    prefix = b"\xfd" + secrets.token_bytes(5) + bytes(2)
    return IPv6Network((prefix + bytes(8), 64))


def in_use(place: Path = Path("/proc/net")) -> Iterator[Subnet]:
    """What the host routes already, but for default routes."""
    for line in (place / "route").read_text().splitlines()[1:]:
        fields = line.split()
        address, mask = (int.from_bytes(bytes.fromhex(fields[i])[::-1]) for i in (1, 7))
        if mask:
            yield IPv4Network((address & mask, bin(mask).count("1")))
    try:
        routes = (place / "ipv6_route").read_text().splitlines()
    except FileNotFoundError:
        return  # a kernel without IPv6
    for line in routes:
        words = line.split()
        prefix = int(words[1], 16)
        if 0 < prefix < 128:
            yield IPv6Network((bytes.fromhex(words[0]), prefix), strict=False)
