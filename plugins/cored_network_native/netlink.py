"""rtnetlink in a namespace: requests in batches, by pyroute2's messages (rtnetlink(7))."""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from cored.cni import namespaces

__all__ = ["IFF_UP", "Link", "Netlink", "address", "delete_link", "hairpin", "link", "route"]

RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK, RTM_NEWADDR, RTM_GETADDR, RTM_NEWROUTE = (
    16, 17, 18, 20, 22, 24,
)  # fmt: skip
REQUEST, ACK, DUMP, REPLACE, EXCLUSIVE, CREATE = 1, 4, 0x300, 0x100, 0x200, 0x400
IFF_UP = 1
_ERROR, _DONE = 2, 3
_HEADER = struct.Struct("=IHHII")
_NODAD = 0x02


@dataclass(frozen=True, slots=True)
class Link:
    """An interface as the kernel tells it; ``master`` is an index, 0 for none."""

    index: int
    name: str
    mac: str
    mtu: int
    master: int
    kind: str
    up: bool
    peer: int = 0


class Netlink:
    """A socket in the network namespace at a path ('' is our own). OSError tells what failed."""

    def __init__(self, netns: str = "") -> None:
        with namespaces.entered(netns):
            self._socket = socket.socket(
                socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE
            )
        self._socket.bind((0, 0))
        self._count = 0

    def __enter__(self) -> Netlink:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def change(self, *messages: Any, forgiven: int = 0) -> None:
        """Send requests together; the kernel does them in order. The first error is raised.

        ``forgiven`` is the number of an error that is none here.
        """
        if not messages:
            return
        data = b"".join(self._encoded(message, ACK) for message in messages)
        self._socket.send(data)
        failed = 0
        for _ in messages:
            code = -next(code for code, _ in self._answers())
            failed = failed or (0 if code == forgiven else code)
        if failed:
            raise OSError(failed, os.strerror(failed))

    def find(self, name: str) -> Link | None:
        """An interface by name."""
        return self._one(link(name, type=RTM_GETLINK))

    def at(self, index: int) -> Link | None:
        """An interface by index."""
        message = link("", type=RTM_GETLINK)
        message["index"] = index
        return self._one(message)

    def links(self) -> list[Link]:
        """All interfaces."""
        message = link("", type=RTM_GETLINK)
        return [_link(_decoded("ifinfmsg", data)) for data in self._dump(message)]

    def addresses(self, index: int) -> list[tuple[str, int]]:
        """An interface's addresses with their prefix lengths."""
        message = _kind("ifaddrmsg")()
        message["header"]["type"], message["header"]["flags"] = RTM_GETADDR, 0
        found = (_decoded("ifaddrmsg", data) for data in self._dump(message))
        return [
            (str(one.get_attr("IFA_ADDRESS")), int(one["prefixlen"]))
            for one in found
            if one["index"] == index
        ]

    def _one(self, message: Any) -> Link | None:
        self._socket.send(self._encoded(message, 0))
        for code, data in self._answers():
            if data:
                return _link(_decoded("ifinfmsg", data))
            if code in (-errno.ENODEV, -errno.EINVAL):
                return None
            raise OSError(-code, os.strerror(-code))
        return None

    def _dump(self, message: Any) -> list[bytes]:
        self._socket.send(self._encoded(message, DUMP))
        found = []
        for code, data in self._answers(whole=True):
            if code:
                raise OSError(-code, os.strerror(-code))
            found.append(data)
        return found

    def _encoded(self, message: Any, flags: int) -> bytes:
        self._count += 1
        header = message["header"]
        header["flags"] |= REQUEST | flags
        header["sequence_number"] = self._count
        message.encode()
        return bytes(message.data)

    def _answers(self, *, whole: bool = False) -> Iterator[tuple[int, bytes]]:
        """(error code, b'') or (0, message) for one answer, or to the end of a dump."""
        while True:
            data = self._socket.recv(1 << 20)
            offset = 0
            while offset < len(data):
                length, kind, _, _, _ = _HEADER.unpack_from(data, offset)
                part = data[offset : offset + length]
                offset += (length + 3) & ~3
                if kind == _DONE:
                    return
                if kind == _ERROR:
                    yield struct.unpack_from("=i", part, 16)[0], b""
                else:
                    yield 0, part
            if not whole:
                return


def link(
    name: str, *, type: int = RTM_NEWLINK, flags: int = 0, up: bool = False, **attrs: Any
) -> Any:
    """A request about the interface ``name``; ``attrs`` are IFLA_ attributes.

    Their names are in lower case; those that are None are left out.
    """
    message = _kind("ifinfmsg")()
    message["header"]["type"], message["header"]["flags"] = type, flags
    if up:
        message["flags"] = message["change"] = IFF_UP
    named = [("IFLA_IFNAME", name)] if name else []
    given = [(f"IFLA_{key.upper()}", value) for key, value in attrs.items() if value is not None]
    message["attrs"] = named + given
    return message


def delete_link(name: str) -> Any:
    """A request that removes an interface, and a veth's other end with it."""
    return link(name, type=RTM_DELLINK)


def hairpin(name: str) -> Any:
    """A request that lets a bridge send back through the port that a packet came by."""
    data = {"attrs": [("IFLA_BRPORT_MODE", 1)]}
    kind = ("IFLA_INFO_SLAVE_KIND", "bridge")
    return link(name, linkinfo={"attrs": [kind, ("IFLA_INFO_SLAVE_DATA", data)]})


def address(index: int, text: str, prefix: int) -> Any:
    """A request that gives an interface an address; at once, without looking for duplicates."""
    family = socket.AF_INET6 if ":" in text else socket.AF_INET
    message = _kind("ifaddrmsg")()
    message["header"]["type"] = RTM_NEWADDR
    message["header"]["flags"] = CREATE | REPLACE
    message["family"], message["prefixlen"], message["index"] = family, prefix, index
    message["attrs"] = [("IFA_LOCAL", text), ("IFA_ADDRESS", text)]
    if family == socket.AF_INET6:
        message["flags"] = _NODAD
        message["attrs"] = [("IFA_ADDRESS", text), ("IFA_FLAGS", _NODAD)]
    return message


def route(dst: str, prefix: int, gateway: str, index: int, extra: dict[str, int]) -> Any:
    """A request that makes a route; ``dst`` '' is the default one, ``extra`` RTA_ attributes."""
    family = socket.AF_INET6 if ":" in (dst or gateway) else socket.AF_INET
    message = _kind("rtmsg")()
    message["header"]["type"] = RTM_NEWROUTE
    message["header"]["flags"] = CREATE | EXCLUSIVE
    message["family"], message["dst_len"] = family, prefix
    message["table"], message["proto"], message["type"] = 254, 3, 1
    message["scope"] = extra.get("scope", 0 if gateway else 253)
    attrs: list[tuple[str, Any]] = [("RTA_OIF", index)]
    if prefix:
        attrs.append(("RTA_DST", dst))
    if gateway:
        attrs.append(("RTA_GATEWAY", gateway))
    if "priority" in extra:
        attrs.append(("RTA_PRIORITY", extra["priority"]))
    if "table" in extra:
        message["table"] = extra["table"] if extra["table"] < 256 else 0
        attrs.append(("RTA_TABLE", extra["table"]))
    metrics = [(f"RTAX_{key.upper()}", extra[key]) for key in ("mtu", "advmss") if extra.get(key)]
    if metrics:
        attrs.append(("RTA_METRICS", {"attrs": metrics}))
    message["attrs"] = attrs
    return message


def _kind(name: str) -> Any:
    """One of pyroute2's kinds of messages: 9 MiB, for who has a network and nobody else."""
    return getattr(import_module(f"pyroute2.netlink.rtnl.{name}"), name)


def _decoded(kind: str, data: bytes) -> Any:
    message = _kind(kind)(data)
    message.decode()
    return message


def _link(message: Any) -> Link:
    information = message.get_attr("IFLA_LINKINFO")
    return Link(
        index=message["index"],
        name=message.get_attr("IFLA_IFNAME") or "",
        mac=message.get_attr("IFLA_ADDRESS") or "",
        mtu=message.get_attr("IFLA_MTU") or 0,
        master=message.get_attr("IFLA_MASTER") or 0,
        kind=(information.get_attr("IFLA_INFO_KIND") or "") if information else "",
        up=bool(message["flags"] & IFF_UP),
        peer=message.get_attr("IFLA_LINK") or 0,
    )
