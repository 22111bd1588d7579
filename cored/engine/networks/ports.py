"""Published ports: free ones for those that name none."""

from __future__ import annotations

import errno
import socket
from collections.abc import Collection, Sequence
from dataclasses import replace

from cored.engine.networks.values import Port
from cored.errors import AlreadyExists, InvalidArgument, ResourceExhausted

__all__ = ["assigned"]

_FIRST, _LAST = 32768, 60999
_KINDS = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}
_PROTOCOLS = ("tcp", "udp", "sctp")


def assigned(ports: Sequence[Port], published: Collection[Port]) -> list[Port]:
    """The ports, each with one of the host's that none of ``published`` has.

    AlreadyExists, InvalidArgument, ResourceExhausted.
    """
    fixed = [one for one in ports if one.host and not one.host_last]
    used = {(one.protocol, one.host) for one in [*published, *fixed]}
    found: list[Port] = []
    for one in ports:
        if one.protocol not in _PROTOCOLS:
            raise InvalidArgument(f"port protocol {one.protocol!r}: not tcp, udp or sctp")
        if one.host_last or not one.host:
            one = replace(one, host=_free(one, used), host_last=0)
            used.add((one.protocol, one.host))
        elif any(_clash(one, other) for other in [*published, *found]):
            raise AlreadyExists(
                f"port {one.host}/{one.protocol}: is published by another container already",
                hint="publish another port of the host",
            )
        elif not _unbound(one, one.host):
            raise AlreadyExists(
                f"port {one.host}/{one.protocol} of the host: is in use by another program",
                hint="publish another port",
            )
        found.append(one)
    return found


def _clash(one: Port, other: Port) -> bool:
    """Whether both want the same port of an address of the host."""
    addresses = {text for text in (one.host_ip, other.host_ip) if text not in ("", "0.0.0.0", "::")}
    same = (one.protocol, one.host) == (other.protocol, other.host)
    return same and one.host > 0 and len(addresses) < 2


def _free(port: Port, used: Collection[tuple[str, int]]) -> int:
    first, last = (port.host, port.host_last) if port.host_last else (_FIRST, _LAST)
    for candidate in range(first, last + 1):
        if (port.protocol, candidate) not in used and _unbound(port, candidate):
            return candidate
    raise ResourceExhausted(f"ports: none is free between {first} and {last}")


def _unbound(port: Port, candidate: int) -> bool:
    """Whether no program of the host has it."""
    kind = _KINDS.get(port.protocol)
    if kind is None:
        return True
    family = socket.AF_INET6 if ":" in port.host_ip else socket.AF_INET
    with socket.socket(family, kind) as probe:
        if kind == socket.SOCK_STREAM:
            # connections of a program that has ended are no hindrance
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((port.host_ip, candidate))
        except OSError as error:
            if error.errno in (errno.EADDRINUSE, errno.EACCES):
                return False
            raise InvalidArgument(
                f"address {port.host_ip!r} to publish on: {error.strerror}"
            ) from error
    return True
