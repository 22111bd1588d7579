"""Debian's plugins beyond those of the networks' suite, alone and beside the native ones."""

from __future__ import annotations

import json
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from cored_network_native.caller import Native

from cored.abc.network import Attachment, Network
from cored.cni import lists, namespaces
from cored.cni.cache import Cache
from cored.cni.chain import Chain
from cored.cni.executables import Executables
from cored.testing.stage import eventually
from cored.testing.worlds import World, world

pytestmark = [pytest.mark.root, pytest.mark.asyncio]

TCP = socket.SOCK_STREAM
BINARIES = Path("/usr/lib/cni")


@pytest.fixture(name="world")
def made_world(tmp_path: Path, private_mounts: None) -> Iterator[World]:
    place = tmp_path / "namespaces"
    place.mkdir()
    with world(place) as made:
        yield made


@pytest.fixture(params=["executables", "native"])
async def network(
    request: pytest.FixtureRequest, world: World, tmp_path: Path
) -> AsyncIterator[Network]:
    cache = Cache(tmp_path / "results")
    if request.param == "executables":
        yield Chain(Executables(), cache)
        return
    native = Native(Executables(), cache.all)
    try:
        yield Chain(native, cache)
    finally:
        await native.close()


def wanted(world: World, *plugins: dict[str, Any], **capabilities: Any) -> Attachment:
    table = {"cniVersion": "1.0.0", "name": "net", "plugins": list(plugins)}
    config = lists.parse(json.dumps(table))
    return Attachment("one", world.namespace("one"), "eth0", config, capabilities=capabilities)


def static(*addresses: str, gateway: str = "") -> dict[str, Any]:
    more = {"gateway": gateway} if gateway else {}
    return {"type": "static", "addresses": [{"address": one, **more} for one in addresses]}


def kernel_has(world: World, kind: str, *words: str) -> None:
    """Skip, with the reason, where this kernel has no such interfaces."""
    made = subprocess.run(
        ["ip", "link", "add", "probe", *words, "type", kind, *_needs(kind)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if made.returncode != 0:
        pytest.skip(f"declared limit: this kernel has no {kind}: {made.stderr.strip()}")
    world.ip("", "link", "del", "probe")


def _needs(kind: str) -> list[str]:
    return {"vlan": ["id", "7"], "vrf": ["table", "7"]}.get(kind, [])


async def test_macvlan_shares_an_interface(world: World, network: Network) -> None:
    macvlan = {"type": "macvlan", "master": "uplink", "capabilities": {"mac": True}}
    asked = wanted(world, {**macvlan, "ipam": static("198.51.100.9/24")}, mac="02:00:00:00:00:09")
    made = await network.attach(asked)
    with world.server(made.netns, 80, TCP) as server:
        assert world.says(world.outside, "198.51.100.9", 80, TCP, server).endswith(world.other)
    (link,) = world.ip(made.netns, "link", "show", "eth0")
    assert link["address"] == "02:00:00:00:00:09"
    await network.check(made)
    await network.detach(made)
    assert [one["ifname"] for one in world.ip(made.netns, "link")] == ["lo"]


@pytest.mark.parametrize(
    ("kind", "plugin"),
    [
        ("ipvlan", {"type": "ipvlan", "master": "uplink"}),
        ("vlan", {"type": "vlan", "master": "uplink", "vlanId": 7}),
    ],
)
async def test_kinds_that_not_every_kernel_has(
    world: World, network: Network, kind: str, plugin: dict[str, Any]
) -> None:
    kernel_has(world, kind, "link", "uplink")
    made = await network.attach(wanted(world, {**plugin, "ipam": static("198.51.100.9/24")}))
    (link,) = world.ip(made.netns, "-d", "link", "show", "eth0")
    assert link["linkinfo"]["info_kind"] == kind
    await network.detach(made)


async def test_vrf_takes_an_interface(world: World, network: Network) -> None:
    kernel_has(world, "vrf")
    bridge = {"type": "bridge", "bridge": "br1", "ipam": static("10.1.0.9/24")}
    made = await network.attach(wanted(world, bridge, {"type": "vrf", "vrfname": "blue"}))
    assert world.ip(made.netns, "link", "show", "eth0")[0]["master"] == "blue"
    await network.detach(made)


async def test_ptp_is_a_pair_of_routes(world: World, network: Network, tmp_path: Path) -> None:
    ipam = {
        "type": "host-local", "subnet": "10.1.0.0/24", "dataDir": str(tmp_path / "addresses"),
        "routes": [{"dst": "0.0.0.0/0"}],
    }  # fmt: skip
    made = await network.attach(wanted(world, {"type": "ptp", "ipMasq": True, "ipam": ipam}))
    with world.server(world.outside, 80, TCP) as server:
        assert world.says(made.netns, world.other, 80, TCP, server).endswith(world.host)
    await network.check(made)
    await network.detach(made)
    assert not list((tmp_path / "addresses/net").glob("10.*"))


async def test_host_device_is_lent_and_comes_back(world: World, network: Network) -> None:
    world.ip("", "link", "add", "lent", "type", "veth", "peer", "name", "kept")
    device = {"type": "host-device", "device": "lent", "ipam": static("10.1.0.9/24")}
    made = await network.attach(wanted(world, device))
    assert "lent" not in [one["ifname"] for one in world.ip("", "link")]
    assert world.ip(made.netns, "link", "show", "eth0")
    await network.check(made)
    await network.detach(made)
    assert "lent" in [one["ifname"] for one in world.ip("", "link")]


async def test_tuning_comes_after_a_bridge(world: World, network: Network) -> None:
    bridge = {
        "type": "bridge", "bridge": "br1", "isGateway": True,
        "ipam": static("10.1.0.9/24", gateway="10.1.0.1"),
    }  # fmt: skip
    tuning = {"type": "tuning", "mtu": 1300, "sysctl": {"net.ipv4.conf.eth0.proxy_arp": "1"}}
    made = await network.attach(wanted(world, bridge, tuning))
    assert made.result["ips"][0]["address"] == "10.1.0.9/24"
    assert world.ip(made.netns, "link", "show", "eth0")[0]["mtu"] == 1300
    with namespaces.entered(made.netns):
        assert Path("/proc/sys/net/ipv4/conf/eth0/proxy_arp").read_text() == "1\n"
    with world.server(made.netns, 80, TCP) as server:
        world.says("", "10.1.0.9", 80, TCP, server)
    await network.check(made)
    await network.detach(made)
    assert [one["ifname"] for one in world.ip(made.netns, "link")] == ["lo"]


async def test_addresses_may_be_leased(world: World, network: Network, tmp_path: Path) -> None:
    """By DHCP, whose plugin wants a daemon of its own, from a server on another machine."""
    listening = tmp_path / "dhcp.sock"
    ipam = {"type": "dhcp", "daemonSocketPath": str(listening)}
    with lessor(world, tmp_path), holder(listening):
        await eventually(listening.exists)
        made = await network.attach(
            wanted(world, {"type": "macvlan", "master": "uplink", "ipam": ipam})
        )
        (address,) = [one["address"] for one in made.result["ips"]]
        assert address.startswith("198.51.100.5") and address.endswith("/24")
        await network.detach(made)


@contextmanager
def lessor(world: World, place: Path) -> Iterator[None]:
    """A DHCP server on the other machine."""
    command = [
        "dnsmasq", "--no-daemon", "--conf-file=/dev/null", "--port=0", "--interface=eth0",
        "--dhcp-range=198.51.100.50,198.51.100.59,255.255.255.0,2m", "--user=root",
        "--dhcp-authoritative", f"--dhcp-leasefile={place}/leases", "--no-ping",
    ]  # fmt: skip
    with namespaces.entered(world.outside):
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    yield from _ending(process)


@contextmanager
def holder(listening: Path) -> Iterator[None]:
    """The plugin's daemon, which renews leases."""
    command = [BINARIES / "dhcp", "daemon", "-socketpath", listening]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    yield from _ending(process)


def _ending(process: subprocess.Popen[bytes]) -> Iterator[None]:
    try:
        yield
    finally:
        process.kill()
        process.wait()
