"""A host with a cored and containers in networks, and another machine beside it, for tests."""

from __future__ import annotations

import json
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cored.testing.worlds import World, world
from tests import daemons
from tests.daemons import Daemon

__all__ = ["TCP", "UDP", "Site", "elements", "ruleset", "site"]

TCP, UDP = socket.SOCK_STREAM, socket.SOCK_DGRAM
_PATIENCE = 60.0
# busybox has no UDP: containers run the host's Python
_PYTHON = ("-v", "/usr:/usr:ro", "-v", "/lib:/lib:ro", "-v", "/lib64:/lib64:ro")
# says to whoever asks, by TCP or UDP, under which address it sees them
_SERVER = """
import select, socket, sys
port = int(sys.argv[1])
tcp = socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True)
udp = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
udp.bind(("::", port))
print("ready", flush=True)
while True:
    for one in select.select([tcp, udp], [], [])[0]:
        if one is udp:
            peer = udp.recvfrom(100)[1]
            udp.sendto(peer[0].removeprefix("::ffff:").encode(), peer)
        else:
            connection, peer = tcp.accept()
            connection.sendall(peer[0].removeprefix("::ffff:").encode())
            connection.close()
"""
_CLIENT = """
import socket, sys
host, port, kind, family = sys.argv[1], *map(int, sys.argv[2:])
for info in socket.getaddrinfo(host, port, family, kind):
    client = socket.socket(*info[:3])
    client.settimeout(5)
    client.connect(info[4])
    client.send(b"hello")
    print(client.recv(100).decode())
    break
"""


@dataclass
class Site:
    """A daemon in a world of its own; the caller's thread is on its host.

    ``place`` has what network the configuration names: ``conf`` is the directory of CNI lists.
    """

    world: World
    daemon: Daemon
    place: Path

    @property
    def native(self) -> bool:
        """Whether networks are in process, and not executables."""
        return 'network = "native"' in (self.daemon.home / "config.toml").read_text()

    def __call__(self, *words: str, code: int = 0) -> str:
        """Run corectl; what it printed. Its exit code must be ``code``."""
        done = self.daemon.corectl(*words)
        assert done.returncode == code, (words, done.stdout, done.stderr, self.daemon.log[-3000:])
        return (done.stdout if code == 0 else done.stderr).decode().strip()

    def popen(self, *words: str) -> subprocess.Popen[bytes]:
        """Start corectl; its output goes to pipes."""
        command = [*daemons.CORECTL, "--address", str(self.daemon.address), *words]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def serve(self, name: str, *options: str, port: int = 80) -> str:
        """A container that answers on a port, by TCP and UDP, when this returns; its id."""
        command = ("/usr/bin/python3", "-c", _SERVER, str(port))
        id = self("run", "-d", "--name", name, *_PYTHON, *options, "busybox", *command)
        self.until(lambda: "ready" in self("logs", name))
        return id

    def idle(self, name: str, *options: str) -> str:
        """A container that does nothing but be there; its id."""
        return self("run", "-d", "--name", name, *_PYTHON, *options, "busybox", "sleep", "100000")

    def ask(self, name: str, host: str, port: int = 80, kind: int = TCP, family: int = 0) -> str:
        """Let a container that runs ask a server; how that sees it. RuntimeError."""
        words = ("/usr/bin/python3", "-c", _CLIENT, host, port, int(kind), family)
        return self.inside(name, *map(str, words))

    def inside(self, name: str, *command: str) -> str:
        """Run a command in a container; what it printed. RuntimeError when it fails."""
        id = self.inspect(name)["id"]
        exec_id = f"exec{time.monotonic_ns()}"
        return self.daemon.ctr("tasks", "exec", "--exec-id", exec_id, id, *command).stdout.strip()

    def answer(self, netns: str, address: str, port: int, kind: int = TCP) -> str:
        """Ask a server from a network namespace ('' is the host). OSError."""
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with self.world.opened(netns, family, kind) as client:
            client.settimeout(10)
            client.connect((address, port))
            client.send(b"hello")
            return client.recv(100).decode()

    def inspect(self, name: str) -> dict[str, Any]:
        """What there is of a container: id, name, status, pid, networks."""
        return self.inspect_all([name])[0]

    def inspect_all(self, names: Sequence[str]) -> list[dict[str, Any]]:
        """The same of several, at once."""
        return [
            {
                "id": one["Id"],
                "name": one["Name"].removeprefix("/"),
                "status": one["State"]["Status"],
                "pid": one["State"]["Pid"],
                "networks": {
                    name: {
                        "addresses": _pairs(
                            (each["IPAddress"], each["IPPrefixLen"]),
                            (each["GlobalIPv6Address"], each["GlobalIPv6PrefixLen"]),
                        ),
                        "gateways": [g for g in (each["Gateway"], each["IPv6Gateway"]) if g],
                        "mac": each["MacAddress"],
                        "aliases": each["Aliases"],
                        "interface": each["InterfaceName"],
                    }
                    for name, each in one["NetworkSettings"]["Networks"].items()
                },
            }
            for one in json.loads(self("inspect", *names))
        ]

    def netns(self, id: str) -> str:
        """Where a container's network namespace is kept."""
        return str(self.daemon.home / "state/netns" / id)

    def remove(self, *names: str) -> None:
        """Remove containers, running or not."""
        self("rm", "-f", *names)

    def traces(self) -> dict[str, Sequence[str]]:
        """What containers in networks leave on a host, by kind."""
        home = self.daemon.home
        links = [entry["ifname"] for entry in self.world.ip("", "link")]
        addresses = home / "root/addresses"
        return {
            "interfaces": [name for name in links if name.startswith(("veth", "bwp", "ifb"))],
            "addresses": _names(addresses, "*/[0-9a-f]*"),
            "kept": _names(home / "root", "network.*/results/*"),
            "namespaces": _names(home / "state/netns", "*"),
            "names": _names(home / "state/resolvers", "*/hosts/*"),
            "elements": elements(),
        }

    def until(self, condition: Any) -> None:
        """Return when it is true; AssertionError after a while."""
        end = time.monotonic() + _PATIENCE
        while not condition():
            assert time.monotonic() < end, self.daemon.log[-3000:]
            time.sleep(0.05)


def ruleset() -> str:
    """The whole rule set, as nft prints it."""
    return subprocess.run(
        ["nft", "list", "ruleset"], capture_output=True, check=True, text=True
    ).stdout


def elements() -> list[str]:
    """What the packet filter has of containers: elements of our sets, rules of the executables."""
    done = subprocess.run(
        ["nft", "--json", "list", "ruleset"], capture_output=True, check=True, text=True
    )
    found = []
    for entry in json.loads(done.stdout)["nftables"]:
        for kind in ("set", "map"):
            if entry.get(kind, {}).get("table") == "cored":
                name = f"{entry[kind]['family']} {entry[kind]['name']}"
                every = (f"{name} {json.dumps(one)}" for one in entry[kind].get("elem", ()))
                # the others are a bridge's
                found += [one for one in every if "comment" in one]
        rule = entry.get("rule", {})
        if rule.get("table") not in (None, "cored"):
            found.append(f"{rule['family']} {rule['table']} {rule['chain']} {rule.get('comment')}")
    return sorted(found)


def _pairs(*pairs: tuple[str, int]) -> list[str]:
    return [f"{address}/{length}" for address, length in pairs if address]


def _names(place: Path, pattern: str) -> list[str]:
    return sorted(str(path.relative_to(place)) for path in place.glob(pattern))


@contextmanager
def site(place: Path, network: str, busybox: Path, *, settings: str = "") -> Iterator[Site]:
    """A daemon whose networks are ``network``'s, on a host of its own; nothing of it stays."""
    conf = place / "conf"
    conf.mkdir(parents=True)
    namespaces = place / "namespaces"
    namespaces.mkdir()
    config = f'network = "{network}"\nnetwork_config_dirs = ["{conf}"]\n{settings}'
    with world(namespaces) as made, daemons.cored(config) as daemon:
        daemon.ctr("images", "import", str(busybox))
        yield Site(made, daemon, place)
