"""The plugin ``portmap``: ports of the host for ports of the container."""

from __future__ import annotations

import errno
import socket
from collections.abc import Collection, Iterator, Mapping
from ipaddress import ip_address
from typing import Any

from cored.cni.calls import Call
from cored.cni.results import Result
from cored.errors import AlreadyExists, FailedPrecondition, InvalidArgument
from cored_network_native.kinds import Host, Kind, mark, owner, previous
from cored_network_native.rules import Element

__all__ = ["PortMap"]

_KINDS = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM, "sctp": socket.SOCK_STREAM}


class PortMap(Kind):
    keys = frozenset(("snat", "backend"))

    def add(self, host: Host, call: Call) -> Result:
        before = previous(call)
        elements = list(_elements(call, before))
        for mapping in _mappings(call):
            _check_free(mapping)
        host.rules.add(owner(call), elements)
        return before

    def delete(self, host: Host, call: Call) -> None:
        host.rules.remove(owner(call), list(_elements(call, previous(call))))

    def check(self, host: Host, call: Call) -> None:
        if not host.rules.has(owner(call), _elements(call, previous(call))):
            raise FailedPrecondition(
                f"network {call.network!r}: the published ports of {call.container_id} are gone"
            )

    def collect(self, host: Host, call: Call, owners: Collection[tuple[str, str]]) -> None:
        host.rules.collect(mark(call.network), [mark(call.network, *one) for one in owners])

    def restore(self, host: Host, call: Call) -> None:
        host.rules.add(owner(call), list(_elements(call, previous(call))))


def _mappings(call: Call) -> list[Mapping[str, Any]]:
    """The capability ``portMappings``, checked. InvalidArgument."""
    given = (call.config.get("runtimeConfig") or {}).get("portMappings") or ()
    for entry in given:
        protocol = str(entry.get("protocol") or "tcp").lower()
        if protocol not in _KINDS:
            raise InvalidArgument(f"port mapping: protocol {protocol!r}: not tcp, udp or sctp")
        for key in ("hostPort", "containerPort"):
            if not isinstance(entry.get(key), int) or not 0 <= entry[key] < 1 << 16:
                raise InvalidArgument(f"port mapping: {key} {entry.get(key)!r}: no port")
        if entry.get("hostIP"):
            try:
                ip_address(entry["hostIP"])
            except ValueError as error:
                raise InvalidArgument(f"port mapping: hostIP: {error}") from error
    return [entry for entry in given if entry["hostPort"]]


def _elements(call: Call, before: Result) -> Iterator[Element]:
    """One element for each mapping and family of the container's first addresses."""
    inside = {i for i, one in enumerate(before.interfaces) if one.sandbox}
    targets: dict[int, str] = {}
    for one in before.ips:
        if one.interface is None or one.interface in inside:
            targets.setdefault(one.family, one.address.partition("/")[0])
    for entry in _mappings(call):
        protocol = str(entry.get("protocol") or "tcp").lower()
        where = entry.get("hostIP") or ""
        key = f"{protocol} . {entry['hostPort']}"
        for family, target in targets.items():
            data = f"{target} . {entry['containerPort']}"
            if where in ("", "0.0.0.0", "::"):
                if not where or (":" in where) == (family == 6):
                    yield Element(f"ports{family}", key, data)
            elif (":" in where) == (family == 6):
                yield Element(f"ports{family}at", f"{where} . {key}", data)


def _check_free(mapping: Mapping[str, Any]) -> None:
    """AlreadyExists when a program of the host listens there: it would be cut off."""
    where = str(mapping.get("hostIP") or "")
    protocol = str(mapping.get("protocol") or "tcp").lower()
    if protocol == "sctp":
        return  # the kernel may have none; nothing else is likely to listen there
    family = socket.AF_INET6 if ":" in where else socket.AF_INET
    with socket.socket(family, _KINDS[protocol]) as probe:
        if protocol == "tcp":
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((where, mapping["hostPort"]))
        except OSError as error:
            subject = f"port {mapping['hostPort']}/{protocol} of the host"
            if error.errno == errno.EADDRINUSE:
                raise AlreadyExists(
                    f"{subject}: is in use by another program", hint="publish another port"
                ) from error
            raise InvalidArgument(f"{subject}, address {where!r}: {error.strerror}") from error
