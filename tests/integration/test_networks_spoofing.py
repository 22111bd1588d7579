"""What a container sends by hand: frames in another's name do not leave its port of the bridge."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

import pytest

from tests.sites import TCP, Site, site

pytestmark = pytest.mark.root

ARP, IP4, IP6 = 0x0806, 0x0800, 0x86DD
EVERYONE = "ff:ff:ff:ff:ff:ff"
SOLICITATION, ADVERTISEMENT, ROUTER, REDIRECT = 135, 136, 134, 137


@dataclass(frozen=True)
class Peer:
    """A container as its neighbours see it."""

    netns: str
    mac: str
    ip: str
    ip6: str


@pytest.fixture(scope="module")
def host(busybox: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with site(tmp_path_factory.mktemp("site"), "native", busybox) as made:
        made("network", "create", "--ipv6", "--subnet", "10.5.0.0/24", "lan")
        for name in ("liar", "victim"):
            made.idle(name, "--network", "lan", "-p", "80")
        yield made


@pytest.fixture(scope="module")
def liar(host: Site) -> Peer:
    return _peer(host, "liar")


@pytest.fixture(scope="module")
def victim(host: Site) -> Peer:
    return _peer(host, "victim")


def test_what_is_true_arrives(host: Site, liar: Peer, victim: Peer) -> None:
    assert arrives(host, liar, victim, arp(liar.mac, liar.mac, liar.ip, victim.ip))
    assert arrives(host, liar, victim, arp(liar.mac, liar.mac, "0.0.0.0", victim.ip))
    for kind in (SOLICITATION, ADVERTISEMENT):
        assert arrives(host, liar, victim, neighbour(liar, victim, kind, liar.ip6, liar.ip6))
    assert arrives(host, liar, victim, datagram(liar.mac, victim, liar.ip))


def test_arp_in_another_s_name_does_not(host: Site, liar: Peer, victim: Peer) -> None:
    for stolen in ("10.5.0.1", victim.ip, "10.5.0.99"):
        assert not arrives(host, liar, victim, arp(liar.mac, liar.mac, stolen, victim.ip))
    # the hardware address in the message, and that of the frame
    assert not arrives(host, liar, victim, arp(liar.mac, victim.mac, liar.ip, victim.ip))
    assert not arrives(host, liar, victim, arp(victim.mac, liar.mac, liar.ip, victim.ip))


def test_neighbour_discovery_in_another_s_name_does_not(
    host: Site, liar: Peer, victim: Peer
) -> None:
    gateway = str(ip_address(int(ip_address(liar.ip6)) & ~0xFFFF | 1))
    for stolen in (gateway, victim.ip6):
        for source in (stolen, liar.ip6):
            claim = neighbour(liar, victim, ADVERTISEMENT, source, stolen)
            assert not arrives(host, liar, victim, claim)
        question = neighbour(liar, victim, SOLICITATION, stolen, victim.ip6)
        assert not arrives(host, liar, victim, question)


def test_nobody_plays_a_router(host: Site, liar: Peer, victim: Peer) -> None:
    for kind in (ROUTER, REDIRECT):
        assert not arrives(host, liar, victim, neighbour(liar, victim, kind, liar.ip6, liar.ip6))


def test_packets_of_another_do_not(host: Site, liar: Peer, victim: Peer) -> None:
    assert not arrives(host, liar, victim, datagram(liar.mac, victim, "10.5.0.99"))
    assert not arrives(host, liar, victim, datagram(victim.mac, victim, liar.ip))


def test_what_is_tagged_does_not(host: Site, liar: Peer, victim: Peer) -> None:
    frame = arp(liar.mac, liar.mac, "10.5.0.99", victim.ip)
    tagged = frame[:12] + bytes.fromhex("81000000") + frame[12:]
    assert not arrives(host, liar, victim, tagged)


def test_the_host_s_loopback_is_out_of_reach(host: Site, liar: Peer, victim: Peer) -> None:
    """Though published ports answer there (route_localnet)."""
    with host.world.server("", 4444, TCP, socket.AF_INET) as secret:
        secret.settimeout(0.5)
        host.world.ip(liar.netns, "route", "add", "127.0.0.9/32", "via", "10.5.0.1")
        host.world.ip(
            liar.netns, "route", "del", "local", "127.0.0.0/8", "dev", "lo", "table", "local"
        )
        with host.world.opened(liar.netns, socket.AF_INET, TCP) as client:
            client.settimeout(1)
            client.bind((liar.ip, 0))
            with pytest.raises(OSError):
                client.connect(("127.0.0.9", 4444))
        with pytest.raises(TimeoutError):
            secret.accept()


def arrives(host: Site, liar: Peer, victim: Peer, frame: bytes) -> bool:
    """Whether a frame that one container sends comes out at another, before a true one does."""
    kind = struct.unpack("!H", frame[12:14])[0]
    # the kernel takes a tag out of what it shows
    shapes = (frame, frame[:12] + frame[16:])
    last = arp(liar.mac, liar.mac, liar.ip, victim.ip, 1)
    seen = host.world.opened(victim.netns, socket.AF_PACKET, socket.SOCK_RAW)
    with seen, host.world.opened(liar.netns, socket.AF_PACKET, socket.SOCK_RAW) as sender:
        seen.bind(("eth0", 3))  # ETH_P_ALL: what of the interface
        sender.bind(("eth0", kind))
        sender.send(frame)
        sender.send(last)
        while True:
            data = seen.recv(2000)
            if any(data[: len(shape)] == shape for shape in shapes):
                return True
            if data[: len(last)] == last:
                return False


def arp(frame_mac: str, mac: str, ip: str, target: str, operation: int = 2) -> bytes:
    """A reply, or a request, that ``ip`` is at ``mac`` (RFC 826)."""
    fields = struct.pack("!HHBBH", 1, IP4, 6, 4, operation) + _mac(mac) + socket.inet_aton(ip)
    fields += _mac(EVERYONE) + socket.inet_aton(target)
    return _mac(EVERYONE) + _mac(frame_mac) + struct.pack("!H", ARP) + fields


def neighbour(liar: Peer, victim: Peer, kind: int, source: str, target: str) -> bytes:
    """A message of neighbour discovery about ``target`` (RFC 4861, section 4)."""
    option = struct.pack("!BB", 2, 1) + _mac(liar.mac)
    body = struct.pack("!BBHI", kind, 0, 0, 0x60000000) + _ip6(target) + option
    to = _ip6(victim.ip6)
    pseudo = _ip6(source) + to + struct.pack("!II", len(body), 58)
    body = body[:2] + struct.pack("!H", _sum(pseudo + body)) + body[4:]
    header = struct.pack("!IHBB", 6 << 28, len(body), 58, 255) + _ip6(source) + to
    return _mac(victim.mac) + _mac(liar.mac) + struct.pack("!H", IP6) + header + body


def datagram(frame_mac: str, victim: Peer, source: str) -> bytes:
    """A datagram by UDP from ``source`` (RFC 791, RFC 768)."""
    body = struct.pack("!HHHH", 1000, 9, 12, 0) + b"liar"
    ends = socket.inet_aton(source) + socket.inet_aton(victim.ip)
    header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(body), 1, 0, 64, 17, 0) + ends
    header = header[:10] + struct.pack("!H", _sum(header)) + header[12:]
    return _mac(victim.mac) + _mac(frame_mac) + struct.pack("!H", IP4) + header + body


def _peer(host: Site, name: str) -> Peer:
    found = host.inspect(name)
    lan = found["networks"]["lan"]
    ip, ip6 = (address.partition("/")[0] for address in lan["addresses"])
    return Peer(host.netns(found["id"]), lan["mac"], ip, ip6)


def _mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))


def _ip6(text: str) -> bytes:
    return socket.inet_pton(socket.AF_INET6, text)


def _sum(data: bytes) -> int:
    """The internet checksum (RFC 1071)."""
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
