"""Ports of containers as docker shows them: the published ones, and those only exposed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cored._pb.cored.workloads.v1 import workloads_pb2 as pb

__all__ = ["Published", "exposed", "in_short", "numbers", "published"]

_EVERY = {4: "0.0.0.0", 6: "::"}


@dataclass(frozen=True, slots=True, order=True)
class Published:
    """A port of the container at an address of the host's."""

    container: int
    protocol: str
    address: str
    host: int

    @property
    def place(self) -> str:
        """``ADDRESS:PORT``, an address of IPv6 in brackets."""
        return f"{_bracketed(self.address)}:{self.host}"


def published(one: pb.Container) -> list[Published]:
    """In order; a port of every address is one of each family that its container has."""
    return [
        Published(port.container, port.protocol or "tcp", address, port.host)
        for connection in one.connections
        for port in connection.ports
        for address in ([port.host_ip] if port.host_ip else _every(connection))
    ]


def _every(connection: pb.Connection) -> list[str]:
    families = {6 if ":" in address else 4 for address in connection.addresses}
    return [_EVERY[family] for family in sorted(families or {4})]


def exposed(one: pb.Container) -> Iterator[tuple[int, str]]:
    """Number and protocol of what it exposes, while it is in a network of its own."""
    return numbers(one.exposed if one.connections else ())


def numbers(texts: Iterable[str]) -> Iterator[tuple[int, str]]:
    """``80``, ``80-90/udp`` one by one."""
    for text in texts:
        ports, _, protocol = text.partition("/")
        first, _, last = ports.partition("-")
        for number in range(int(first), int(last or first) + 1):
            yield number, protocol or "tcp"


def in_short(one: pb.Container) -> str:
    """docker's column: neighbours that have the same number on the host are one range."""
    found = sorted(published(one))
    there = {(each.container, each.protocol) for each in found}
    same: dict[tuple[str, str], list[int]] = {}
    others = []
    for number, protocol in sorted(set(exposed(one)) - there):
        same.setdefault(("", protocol), []).append(number)
    for each in found:
        if each.host == each.container:
            same.setdefault((each.address, each.protocol), []).append(each.host)
        else:
            others.append(f"{each.place}->{each.container}/{each.protocol}")
    ranges = [
        f"{f'{_bracketed(address)}:{text}->' if address else ''}{text}/{protocol}"
        for (address, protocol), several in same.items()
        for text in _ranges(several)
    ]
    return ", ".join((*ranges, *others))


def _ranges(ports: Iterable[int]) -> Iterator[str]:
    found: list[list[int]] = []
    for number in sorted(set(ports)):
        if found and found[-1][1] == number - 1:
            found[-1][1] = number
        else:
            found.append([number, number])
    for first, last in found:
        yield f"{first}" if first == last else f"{first}-{last}"


def _bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address else address
