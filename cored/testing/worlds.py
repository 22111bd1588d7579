"""Hosts and containers that are only network namespaces, for tests of networks."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cored import linux
from cored.cni import namespaces

__all__ = ["World", "world"]

_SELF = "/proc/thread-self/ns/net"


class World:
    """A host, which the test's thread is in, and ``outside``, another one beside it.

    The host has 198.51.100.1 and 2001:db8::1 on the link between them, the other .2 and ::2; the
    other knows no route to what is behind the host.
    """

    host, other = "198.51.100.1", "198.51.100.2"
    host6, other6 = "2001:db8::1", "2001:db8::2"

    def __init__(self, place: Path) -> None:
        self._place = place
        self.outside = self.namespace("outside")

    def namespace(self, name: str) -> str:
        """A new network namespace, as a container's; its path."""
        path = self._place / name
        namespaces.make(path)
        return str(path)

    def remove(self, path: str) -> None:
        """A container's end."""
        namespaces.remove(Path(path))

    def ip(self, netns: str, *words: str) -> Any:
        """What ``ip(8)`` answers in a namespace ('' is the host), from its JSON."""
        with namespaces.entered(netns):
            done = subprocess.run(["ip", "-j", *words], capture_output=True, text=True, check=True)
        return json.loads(done.stdout or "[]")

    def opened(self, netns: str, family: int, kind: int) -> socket.socket:
        """A socket in a namespace ('' is the host)."""
        with namespaces.entered(netns):
            made = socket.socket(family, kind)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.settimeout(6)  # an address of IPv6 may take two seconds to be ours
        return made

    def says(
        self,
        netns: str,
        address: str,
        port: int,
        kind: int,
        server: socket.socket,
        patience: float = 6.0,
    ) -> str:
        """Send from ``netns`` and be answered by ``server``; the sender as it sees it.

        OSError when nothing comes through, in so many seconds.
        """
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with self.opened(netns, family, kind) as client:
            client.settimeout(patience)
            client.connect((address, port))
            if kind == socket.SOCK_DGRAM:
                client.send(b"hello")
                data, sender = server.recvfrom(100)
                server.sendto(data + b"!", sender)
            else:
                connection, sender = server.accept()
                with connection:
                    client.send(b"hello")
                    connection.send(connection.recv(100) + b"!")
            if client.recv(100) != b"hello!":
                raise OSError("the answer is not what was sent")
        return str(sender[0])

    def server(
        self, netns: str, port: int, kind: int, family: int = socket.AF_INET6
    ) -> socket.socket:
        """A socket that listens on a port of every address, of both families by default."""
        made = self.opened(netns, family, kind)
        made.bind(("::" if family == socket.AF_INET6 else "0.0.0.0", port))
        if kind == socket.SOCK_STREAM:
            made.listen()
        return made


@contextmanager
def world(place: Path) -> Iterator[World]:
    """The calling thread in a namespace of its own, and another host beside it; all gone after."""
    here = os.open(_SELF, os.O_RDONLY | os.O_CLOEXEC)
    try:
        linux.unshare(linux.CLONE_NEWNET)
        made = World(place)
        try:
            _connect(made)
            yield made
        finally:
            for path in place.iterdir():
                namespaces.remove(path)
    finally:
        linux.setns(here, linux.CLONE_NEWNET)
        os.close(here)


def _connect(made: World) -> None:
    ip = made.ip
    ip("", "link", "set", "lo", "up")
    ip("", "link", "add", "uplink", "type", "veth", "peer", "name", "eth0")
    with open(made.outside) as there:
        ip("", "link", "set", "eth0", "netns", f"/proc/{os.getpid()}/fd/{there.fileno()}")
    for netns, name, addresses in (
        ("", "uplink", (f"{made.host}/24", f"{made.host6}/64")),
        (made.outside, "eth0", (f"{made.other}/24", f"{made.other6}/64")),
    ):
        ip(netns, "link", "set", "lo", "up")
        ip(netns, "link", "set", name, "up")
        for address in addresses:
            ip(netns, "address", "add", address, "dev", name, "nodad")
    ip("", "route", "add", "default", "via", made.other)
    ip("", "-6", "route", "add", "default", "via", made.other6)
