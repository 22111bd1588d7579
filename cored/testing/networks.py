"""What every network must do (:mod:`cored.abc.network`), with bridge, host-local and the rest."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cored.abc.network import Attachment, Network, NetworkList
from cored.cni import lists
from cored.errors import (
    AlreadyExists,
    CoredError,
    InvalidArgument,
    ResourceExhausted,
)
from cored.testing.worlds import World

__all__ = ["NetworkContract"]

TCP, UDP = socket.SOCK_STREAM, socket.SOCK_DGRAM


@pytest.mark.asyncio
class NetworkContract:
    """Subclass it with fixtures ``world`` (:func:`cored.testing.worlds.world`) and ``network``.

    ``knows`` are things that not every implementation can do: ``addresses`` (nobody sends under
    another's IP address), ``busy`` (a port that a program of the host has is refused), ``apart``
    (a published port answers other networks, too, though they are kept apart), ``gone`` (all of an
    attachment is removed also when its namespace is gone), ``partial`` (and when a later plugin of
    its chain has failed).
    """

    knows: frozenset[str] = frozenset()
    version = "1.0.0"
    lives = 8

    def config(
        self, place: Path, name: str = "net", number: int = 1, **changes: Any
    ) -> NetworkList:
        """A network with both families: 10.<number>.0.0/24 and fd00:<number>::/64."""
        bridge = {
            "type": "bridge",
            "bridge": f"br{number}",
            "isDefaultGateway": True,
            "ipMasq": True,
            "hairpinMode": True,
            "capabilities": {"ips": True, "mac": True},
            "ipam": {
                "type": "host-local",
                "dataDir": str(place / "addresses"),
                "ranges": [
                    [{"subnet": f"10.{number}.0.0/24"}],
                    [{"subnet": f"fd00:{number}::/64"}],
                ],
            },
            **changes,
        }
        chained = [
            {"type": "portmap", "capabilities": {"portMappings": True}},
            {"type": "firewall", "ingressPolicy": "same-bridge"},
        ]
        table = {"cniVersion": self.version, "name": name, "plugins": [bridge, *chained]}
        return lists.parse(json.dumps(table))

    def wanted(
        self,
        world: World,
        id: str,
        config: NetworkList,
        ports: Sequence[Mapping[str, Any]] = (),
        **capabilities: Any,
    ) -> Attachment:
        """An attachment of a new namespace."""
        if ports:
            capabilities["portMappings"] = list(ports)
        return Attachment(id, world.namespace(id), "eth0", config, capabilities=capabilities)

    async def test_an_attachment_has_an_interface_addresses_and_routes(
        self, world: World, network: Network, tmp_path: Path
    ) -> None:
        made = await network.attach(self.wanted(world, "one", self.config(tmp_path)))
        assert [entry["address"] for entry in made.result["ips"]] == [
            "10.1.0.2/24", "fd00:1::2/64",
        ]  # fmt: skip
        inside = next(entry for entry in made.result["interfaces"] if entry.get("sandbox"))
        assert inside["sandbox"] == made.netns
        (link,) = world.ip(made.netns, "address", "show", "eth0")
        assert link["address"] == inside["mac"]
        assert "UP" in link["flags"]
        assert {"10.1.0.2", "fd00:1::2"} <= {entry["local"] for entry in link["addr_info"]}
        for family, gateway in (("-4", "10.1.0.1"), ("-6", "fd00:1::1")):
            (route,) = world.ip(made.netns, family, "route", "show", "default")
            assert route["gateway"] == gateway
        await network.check(made)

    async def test_containers_of_a_network_talk(
        self, world: World, network: Network, tmp_path: Path
    ) -> None:
        config = self.config(tmp_path)
        one = await network.attach(self.wanted(world, "one", config))
        two = await network.attach(self.wanted(world, "two", config))
        for kind in (TCP, UDP):
            with world.server(two.netns, 80, kind) as server:
                seen = await self._says(world, one.netns, "10.1.0.3", 80, kind, server)
                assert seen == "::ffff:10.1.0.2"
                assert await self._says(world, one.netns, "fd00:1::3", 80, kind, server)

    async def test_what_goes_out_has_the_host_s_address(
        self, world: World, network: Network, tmp_path: Path
    ) -> None:
        one = await network.attach(self.wanted(world, "one", self.config(tmp_path)))
        for address, seen in ((world.other, world.host), (world.other6, world.host6)):
            with world.server(world.outside, 80, TCP) as server:
                found = await self._says(world, one.netns, address, 80, TCP, server)
                assert found.removeprefix("::ffff:") == seen

    async def test_a_published_port_answers_from_everywhere(
        self, world: World, network: Network, tmp_path: Path
    ) -> None:
        config = self.config(tmp_path)
        ports = [{"hostPort": 8080, "containerPort": 80, "protocol": p} for p in ("tcp", "udp")]
        server = await network.attach(self.wanted(world, "server", config, ports))
        same = await network.attach(self.wanted(world, "same", config))
        away = await network.attach(self.wanted(world, "away", self.config(tmp_path, "far", 2)))
        for kind in (TCP, UDP):
            places = ["", world.outside, same.netns, server.netns]
            for place in places + [away.netns] * ("apart" in self.knows):
                with world.server(server.netns, 80, kind) as listening:
                    await self._says(world, place, world.host, 8080, kind, listening)
        with world.server(server.netns, 80, TCP) as listening:
            await self._says(world, "", "127.0.0.1", 8080, TCP, listening)
            await self._says(world, world.outside, world.host6, 8080, TCP, listening)
            await self._says(world, "", world.host6, 8080, TCP, listening)

    async def test_a_port_may_be_published_on_one_address(
        self, world: World, network: Network, tmp_path: Path
    ) -> None:
        ports = [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp", "hostIP": "127.0.0.1"}]
        made = await network.attach(self.wanted(world, "one", self.config(tmp_path), ports))
        with world.server(made.netns, 80, TCP) as listening:
            await self._says(world, "", "127.0.0.1", 8080, TCP, listening)
            with pytest.raises(OSError):
                await self._says(world, world.outside, world.host, 8080, TCP, listening)

    async def test_a_port_goes_with_its_attachment(
        self, world: World, network: Network, tmp_path: Path
    ) -> None:
        config = self.config(tmp_path)
        ports = [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]
        first = await network.attach(self.wanted(world, "first", config, ports))
        await network.detach(first)
        second = await network.attach(self.wanted(world, "second", config, ports))
        with world.server(second.netns, 80, TCP) as listening:
            await self._says(world, world.outside, world.host, 8080, TCP, listening)
        await network.detach(second)
        with world.opened(world.outside, socket.AF_INET, TCP) as client:
            with pytest.raises(OSError):
                client.connect((world.host, 8080))

    async def test_a_port_of_a_program_is_not_taken_from_it(
        self, world: World, network: Network, tmp_path: Path
    ) -> None:
        if "busy" not in self.knows:
            pytest.skip("this network does not look")
        ports = [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]
        with world.server("", 8080, TCP, socket.AF_INET):
            with pytest.raises(AlreadyExists, match="8080"):
                await network.attach(self.wanted(world, "one", self.config(tmp_path), ports))
        assert await network.attachments() == []

    async def test_networks_are_apart(self, world: World, network: Network, tmp_path: Path) -> None:
        one = await network.attach(self.wanted(world, "one", self.config(tmp_path, "near", 1)))
        two = await network.attach(self.wanted(world, "two", self.config(tmp_path, "far", 2)))
        for kind in (TCP, UDP):
            with world.server(two.netns, 80, kind) as server:
                server.settimeout(0.3)
                with pytest.raises(OSError):
                    await self._says(world, one.netns, "10.2.0.2", 80, kind, server, 0.5)
                with pytest.raises(OSError):
                    await self._says(world, one.netns, "fd00:2::2", 80, kind, server, 0.5)

    async def test_nobody_sends_under_another_s_hardware_address(
        self, world: World, network: Network, tmp_path: Path
    ) -> None:
        config = self.config(tmp_path, macspoofchk=True)
        one = await network.attach(self.wanted(world, "one", config))
        two = await network.attach(self.wanted(world, "two", config))
        with world.server(two.netns, 80, UDP) as server:
            await self._says(world, one.netns, "10.1.0.3", 80, UDP, server)
            world.ip(one.netns, "link", "set", "eth0", "address", "02:00:00:00:00:77")
            server.settimeout(0.3)
            with pytest.raises(OSError):
                await self._says(world, one.netns, "10.1.0.3", 80, UDP, server)

    async def test_nobody_sends_under_another_s_address(
        self, world: World, network: Network, tmp_path: Path
    ) -> None:
        if "addresses" not in self.knows:
            pytest.skip("this network checks hardware addresses alone")
        config = self.config(tmp_path, macspoofchk=True)
        one = await network.attach(self.wanted(world, "one", config))
        two = await network.attach(self.wanted(world, "two", config))
        for stolen, prefix, target in (
            ("10.1.0.9", 24, "10.1.0.3"),
            ("fd00:1::9", 64, "fd00:1::3"),
        ):
            address = f"{stolen}/{prefix}"
            world.ip(one.netns, "address", "add", address, "dev", "eth0", "nodad")
            family = socket.AF_INET6 if ":" in stolen else socket.AF_INET
            with (
                world.server(two.netns, 80, UDP) as server,
                world.opened(one.netns, family, UDP) as client,
            ):
                server.settimeout(0.3)
                client.bind((stolen, 0))
                client.sendto(b"hello", (target, 80))
                with pytest.raises(TimeoutError):
                    server.recvfrom(100)

    async def test_detaching_leaves_nothing_and_may_be_repeated(
        self, world: World, network: Network, tmp_path: Path
    ) -> None:
        config = self.config(tmp_path)
        ports = [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]
        await network.detach(await network.attach(self.wanted(world, "first", config, ports)))
        before = self.state(world, tmp_path)
        made = await network.attach(self.wanted(world, "second", config, ports))
        assert self.state(world, tmp_path) != before
        await network.detach(made)
        assert self.state(world, tmp_path) == before
        await network.detach(made)
        assert self.state(world, tmp_path) == before
        assert await network.attachments() == []

    async def test_a_namespace_that_is_gone_is_detached_all_the_same(
        self, world: World, network: Network, tmp_path: Path
    ) -> None:
        config = self.config(tmp_path)
        ports = [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]
        await network.detach(await network.attach(self.wanted(world, "first", config, ports)))
        before = self.state(world, tmp_path)
        made = await network.attach(self.wanted(world, "second", config, ports))
        world.remove(made.netns)
        await network.detach(replace(made, netns=""))
        part = 3 if "gone" in self.knows else 2
        assert (await self._settled(world, tmp_path, before))[:part] == before[:part]

    async def test_addresses_are_asked_for_by_name(
        self, world: World, network: Network, tmp_path: Path
    ) -> None:
        asked = self.wanted(
            world, "one", self.config(tmp_path), ips=["10.1.0.77"], mac="02:00:00:00:00:05"
        )
        made = await network.attach(asked)
        assert made.result["ips"][0]["address"] == "10.1.0.77/24"
        assert any(e.get("mac") == "02:00:00:00:00:05" for e in made.result["interfaces"])
        with pytest.raises(CoredError):
            await network.attach(
                self.wanted(world, "two", self.config(tmp_path), ips=["10.1.0.77"])
            )
        assert [one.container_id for one in await network.attachments()] == ["one"]

    async def test_a_network_without_addresses_says_so(
        self, world: World, network: Network, tmp_path: Path
    ) -> None:
        ipam = {
            "type": "host-local", "dataDir": str(tmp_path / "addresses"), "subnet": "10.1.0.0/30",
        }  # fmt: skip
        config = self.config(tmp_path, ipam=ipam)
        await network.attach(self.wanted(world, "one", config))
        with pytest.raises(ResourceExhausted, match="net"):
            await network.attach(self.wanted(world, "two", config))

    async def test_an_interface_is_attached_once(
        self, world: World, network: Network, tmp_path: Path
    ) -> None:
        wanted = self.wanted(world, "one", self.config(tmp_path))
        await network.attach(wanted)
        with pytest.raises(AlreadyExists):
            await network.attach(wanted)

    async def test_bad_configurations_are_refused(
        self, world: World, network: Network, tmp_path: Path
    ) -> None:
        for changes in (
            {"type": "nosuchplugin"},
            {"ipam": {"type": "host-local", "subnet": "10.1.0.0/33"}},
            {"ipam": {"type": "host-local", "subnet": "10.1.0.0/24", "rangeStart": "10.2.0.1"}},
        ):
            wanted = self.wanted(world, f"c{len(str(changes))}", self.config(tmp_path, **changes))
            with pytest.raises((InvalidArgument, CoredError)):
                await network.attach(wanted)
        assert await network.attachments() == []

    async def test_fifty_at_once_get_fifty_addresses(
        self, world: World, network: Network, tmp_path: Path
    ) -> None:
        config = self.config(tmp_path)
        wanted = [self.wanted(world, f"c{n}", config) for n in range(50)]
        made = await asyncio.gather(*map(network.attach, wanted))
        addresses = {one.result["ips"][0]["address"] for one in made}
        assert len(addresses) == 50
        await asyncio.gather(*map(network.detach, made))
        assert await network.attachments() == []

    async def test_many_lives_leave_nothing(
        self, world: World, network: Network, tmp_path: Path
    ) -> None:
        """``CORED_LIVES`` in the environment says how many; a thousand take a while."""
        config = self.config(tmp_path, macspoofchk=True)
        netns = world.namespace("many")
        ports = [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]
        before = None
        for number in range(int(os.environ.get("CORED_LIVES") or self.lives) + 1):
            capabilities = {"portMappings": ports}
            wanted = Attachment(f"c{number}", netns, "eth0", config, capabilities=capabilities)
            await network.detach(await network.attach(wanted))
            before = before or self.state(world, tmp_path)
        assert self.state(world, tmp_path) == before
        assert await network.attachments() == []

    async def test_a_check_sees_what_is_lost(
        self, world: World, network: Network, tmp_path: Path
    ) -> None:
        made = await network.attach(self.wanted(world, "one", self.config(tmp_path)))
        world.ip(made.netns, "address", "del", "10.1.0.2/24", "dev", "eth0")
        with pytest.raises(CoredError):
            await network.check(made)

    async def test_collecting_keeps_what_is_valid(
        self, world: World, network: Network, tmp_path: Path
    ) -> None:
        config = self.config(tmp_path)
        stays = await network.attach(self.wanted(world, "stays", config))
        goes = await network.attach(self.wanted(world, "goes", config))
        await network.collect(config, [stays])
        assert [one.container_id for one in await network.attachments()] == ["stays"]
        assert [link["ifname"] for link in world.ip(goes.netns, "link")] == ["lo"]
        await network.check(stays)

    async def test_a_broken_chain_is_undone(
        self, world: World, network: Network, tmp_path: Path
    ) -> None:
        config = self.config(tmp_path)
        await network.detach(await network.attach(self.wanted(world, "first", config)))
        before = self.state(world, tmp_path)
        broken = replace(config, plugins=[*config.plugins, {"type": "nosuchplugin"}])
        with pytest.raises(InvalidArgument, match="nosuchplugin"):
            await network.attach(self.wanted(world, "second", broken))
        assert await network.attachments() == []
        part = 3 if "partial" in self.knows else 2
        assert self.state(world, tmp_path)[:part] == before[:part]

    async def test_the_loopback_comes_up(
        self, world: World, network: Network, tmp_path: Path
    ) -> None:
        table = {"cniVersion": self.version, "name": "lo", "plugins": [{"type": "loopback"}]}
        config = lists.parse(json.dumps(table))
        wanted = replace(self.wanted(world, "one", config), ifname="lo")
        await network.attach(wanted)
        with world.server(wanted.netns, 80, TCP) as server:
            await self._says(world, wanted.netns, "127.0.0.1", 80, TCP, server)

    async def test_bandwidth_is_limited_both_ways(
        self, world: World, network: Network, tmp_path: Path
    ) -> None:
        limit = {"type": "bandwidth", "capabilities": {"bandwidth": True}}
        config = self.config(tmp_path)
        config = replace(config, plugins=[config.plugins[0], limit])
        given = {
            "ingressRate": 8_000_000, "ingressBurst": 800_000,
            "egressRate": 8_000_000, "egressBurst": 800_000,
        }  # fmt: skip
        made = await network.attach(self.wanted(world, "one", config, bandwidth=given))
        assert [entry["qdisc"] for entry in world.ip("", "link")].count("tbf") == 2
        with world.server(made.netns, 80, TCP) as server:
            await self._says(world, "", "10.1.0.2", 80, TCP, server)
        await network.detach(made)
        assert not [e for e in world.ip("", "link") if e["ifname"].startswith("bwp")]

    def state(self, world: World, place: Path) -> tuple[list[str], list[str], list[str]]:
        """Interfaces of the host, reserved addresses, rules that mention a container."""
        links = sorted(entry["ifname"] for entry in world.ip("", "link"))
        reserved = [
            path.name
            for path in sorted((place / "addresses").rglob("*"))
            if path.name[0] in "0123456789" or path.name.startswith("fd")
        ]
        return links, reserved, self.rules()

    def rules(self) -> list[str]:
        """The packet filter's rules, as far as they are of attachments."""
        raise NotImplementedError

    async def _settled(
        self, world: World, place: Path, wanted: tuple[list[str], list[str], list[str]]
    ) -> tuple[list[str], list[str], list[str]]:
        """The state, once a namespace's interfaces have gone with it."""
        for _ in range(3000):
            if self.state(world, place) == wanted:
                break
            await asyncio.sleep(0.02)
        return self.state(world, place)

    async def _says(
        self,
        world: World,
        netns: str,
        address: str,
        port: int,
        kind: int,
        server: socket.socket,
        patience: float = 6.0,
    ) -> str:
        """:meth:`World.says`, in this thread: the namespaces are its own."""
        assert threading.current_thread() is threading.main_thread()
        return world.says(netns, address, port, kind, server, patience)
