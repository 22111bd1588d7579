"""The plugin ``bridge``: a veth pair into a bridge on the host, addresses, routes."""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from ipaddress import IPv4Interface, IPv6Address, ip_interface, ip_network
from typing import Any

from cored.cni import namespaces, results
from cored.cni.calls import Call
from cored.cni.results import Address, Interface, Result, Route
from cored.errors import (
    AlreadyExists,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    from_os_error,
)
from cored_network_native import sysctl, ways
from cored_network_native.hostlocal import HostLocal, HostLocalKind
from cored_network_native.kinds import Host, Kind, mark, owner, previous
from cored_network_native.netlink import Link, Netlink, address, delete_link, hairpin, link, route
from cored_network_native.rules import Element

__all__ = ["Bridge", "vacate"]

_DEFAULT = {4: "0.0.0.0/0", 6: "::/0"}


class Bridge(Kind):
    keys = frozenset(
        (
            "bridge", "forceAddress", "hairpinMode", "ipMasq", "isDefaultGateway", "isGateway",
            "macspoofchk", "mtu", "enabledad", "ipMasqBackend",
        )
    )  # fmt: skip

    def add(self, host: Host, call: Call) -> Result:
        config = call.config
        name = str(config.get("bridge") or "cni0")
        mtu = int(config.get("mtu") or 0)
        _check_namespace(call)
        gateway = bool(config.get("isGateway") or config.get("isDefaultGateway"))
        bridge = _bridge(host, name, mtu)
        given = _addresses(host, call)
        ips = [replace(one, interface=2) for one in given.ips]
        routes = _routes(given, bool(config.get("isDefaultGateway")))
        veth = _veth(host, call, bridge, given, mtu)
        mac = _inside(call, ips, routes)
        if gateway:
            _gateways(host, bridge, ips, bool(config.get("forceAddress")))
            host.rules.keep([Element("bridges", f'"{name}"')])
        host.rules.add(owner(call), _elements(call, name, veth, mac, ips))
        return Result(
            interfaces=[
                Interface(name, bridge.mac, mtu=bridge.mtu),
                Interface(veth.name, veth.mac, mtu=veth.mtu),
                Interface(call.ifname, mac, call.netns, mtu=veth.mtu),
            ],
            ips=ips,
            routes=routes,
            dns=config.get("dns") or given.dns,
        )

    def delete(self, host: Host, call: Call) -> None:
        before = previous(call)
        veths = [one.name for one in before.interfaces[1:2]]
        _delete_link(host, call, veths)
        host.rules.remove(owner(call), _known(call, before))
        # last: nobody else gets the address while anything answers to it
        _release(host, call, before)

    def check(self, host: Host, call: Call) -> None:
        before = previous(call)
        _check_ipam(host, call)
        with Netlink(call.netns) as inside:
            found = inside.find(call.ifname)
            subject = f"network {call.network!r}: interface {call.ifname!r} of {call.container_id}"
            if found is None:
                raise FailedPrecondition(f"{subject}: is gone")
            there = {f"{text}/{prefix}" for text, prefix in inside.addresses(found.index)}
        for one in before.ips:
            if one.address not in there:
                raise FailedPrecondition(f"{subject}: has lost its address {one.address}")
        for interface in before.interfaces[:2]:
            if host.netlink.find(interface.name) is None:
                raise FailedPrecondition(f"{subject}: {interface.name} on the host is gone")
        if not host.rules.has(owner(call), _known(call, before)):
            raise FailedPrecondition(f"{subject}: its rules in the packet filter are gone")

    def collect(self, host: Host, call: Call, owners: Collection[tuple[str, str]]) -> None:
        host.rules.collect(mark(call.network), [mark(call.network, *one) for one in owners])
        if _native_ipam(call):
            HostLocal(call).collect(owners)
        elif (call.config.get("ipam") or {}).get("type"):
            host.delegate(str(call.config["ipam"]["type"]), call)

    def restore(self, host: Host, call: Call) -> None:
        before = previous(call)
        if call.config.get("isGateway") or call.config.get("isDefaultGateway"):
            host.rules.keep([Element("bridges", f'"{one.name}"') for one in before.interfaces[:1]])
        host.rules.add(owner(call), _known(call, before))

    def status(self, host: Host, call: Call) -> None:
        if _native_ipam(call):
            HostLocal(call)
        elif (call.config.get("ipam") or {}).get("type"):
            host.delegate(str(call.config["ipam"]["type"]), call)


def vacate(host: Host, name: str) -> None:
    """Remove a bridge that has no ports, and what the packet filter has of it."""
    found = host.netlink.find(name)
    if found is not None and found.kind == "bridge":
        if any(one.master == found.index for one in host.netlink.links()):
            return  # somebody else uses it
        host.netlink.change(delete_link(name), forgiven=errno.ENODEV)
    quoted = f'"{name}"'
    host.known = {key for key in host.known if key[0] != name}
    ways.close(host.rules.nft, name)
    host.rules.forget(
        [
            Element("bridges", quoted),
            Element("closed", quoted),
            Element("isolated", quoted),
            Element("same", f"{quoted} . {quoted}"),
        ]
    )


def _check_namespace(call: Call) -> None:
    if not call.netns or not namespaces.exists(call.netns):
        raise NotFound(f"network namespace {call.netns!r}: not found")
    if not 0 < len(call.ifname) < 16 or "/" in call.ifname or call.ifname in (".", ".."):
        raise InvalidArgument(f"interface {call.ifname!r}: invalid name")


def _native_ipam(call: Call) -> bool:
    return (call.config.get("ipam") or {}).get("type") == "host-local"


def _addresses(host: Host, call: Call) -> Result:
    kind = str((call.config.get("ipam") or {}).get("type") or "")
    if not kind:
        return Result()
    if _native_ipam(call):
        return HostLocal(call).add()
    answer = host.delegate(kind, call)
    return results.from_json(answer or {})


def _release(host: Host, call: Call, before: Result) -> None:
    if _native_ipam(call):
        HostLocal(call).delete([one.address.partition("/")[0] for one in before.ips])
    elif (call.config.get("ipam") or {}).get("type"):
        host.delegate(str(call.config["ipam"]["type"]), call)


def _check_ipam(host: Host, call: Call) -> None:
    if _native_ipam(call):
        HostLocalKind().check(host, call)
    elif (call.config.get("ipam") or {}).get("type"):
        host.delegate(str(call.config["ipam"]["type"]), call)


def _bridge(host: Host, name: str, mtu: int) -> Link:
    """The bridge, made when there is none. AlreadyExists when the name is another interface's."""
    found = host.netlink.find(name)
    if found is None:
        mac = "02:" + secrets.token_bytes(5).hex(":")
        try:
            host.netlink.change(
                # with an address of its own it does not take that of its lowest port
                link(name, flags=0x600, address=mac, linkinfo=_info("bridge"), mtu=mtu or None)
            )
        except FileExistsError:
            pass  # another process was faster
        except OSError as error:
            raise from_os_error(f"bridge {name!r}", error) from error
        sysctl.write(f"net/ipv6/conf/{name}/accept_ra", "0")
        # else its link-local address is tentative for two seconds, and nobody hears of the host
        sysctl.write(f"net/ipv6/conf/{name}/accept_dad", "0")
        found = host.netlink.find(name)
    if found is None or found.kind != "bridge":
        raise AlreadyExists(f"interface {name!r}: is no bridge", hint="name another bridge")
    if not found.up:
        host.netlink.change(link(name, up=True))
    return found


def _info(kind: str, data: Any = None) -> dict[str, Any]:
    attrs: list[tuple[str, Any]] = [("IFLA_INFO_KIND", kind)]
    if data is not None:
        attrs.append(("IFLA_INFO_DATA", data))
    return {"attrs": attrs}


def _veth(host: Host, call: Call, bridge: Link, given: Result, mtu: int) -> Link:
    """The pair: one end in the bridge, the other, named as was asked, in the namespace."""
    name = f"veth{secrets.token_hex(4)}"
    netns = os.open(call.netns, os.O_RDONLY | os.O_CLOEXEC)
    size = mtu or bridge.mtu
    peer = [
        ("IFLA_IFNAME", call.ifname),
        ("IFLA_NET_NS_FD", netns),
        ("IFLA_MTU", size),
        *([("IFLA_ADDRESS", mac)] if (mac := _mac(call, given)) else []),
    ]
    try:
        host.netlink.change(
            link(
                name, flags=0x600, up=True, mtu=size, master=bridge.index,
                linkinfo=_info("veth", {"attrs": [("VETH_INFO_PEER", {"attrs": peer})]}),
            )
        )  # fmt: skip
    except FileExistsError as error:
        raise AlreadyExists(
            f"container {call.container_id}: has an interface {call.ifname!r} already"
        ) from error
    except OSError as error:
        raise from_os_error(f"veth pair for {call.container_id}", error) from error
    finally:
        os.close(netns)
    if call.config.get("hairpinMode"):
        host.netlink.change(hairpin(name))
    found = host.netlink.find(name)
    assert found is not None
    return found


def _mac(call: Call, given: Result) -> str:
    """The hardware address: asked for, or made from the IPv4 address, so that it stays with it."""
    asked = (
        (call.config.get("runtimeConfig") or {}).get("mac")
        or ((call.config.get("args") or {}).get("cni") or {}).get("mac")
        or call.args.get("MAC")
    )
    if asked:
        octets = str(asked).split(":")
        if len(octets) != 6 or not all(len(o) == 2 and _is_hex(o) for o in octets):
            raise InvalidArgument(
                f"hardware address {asked!r}: not six octets, as 02:00:00:00:00:01"
            )
        if int(octets[0], 16) & 1:
            raise InvalidArgument(f"hardware address {asked!r}: is a multicast address")
        return str(asked).lower()
    for one in given.ips:
        found = ip_interface(one.address)
        if isinstance(found, IPv4Interface):
            return "02:42:" + found.ip.packed.hex(":")
    return ""


def _is_hex(text: str) -> bool:
    return all(letter in "0123456789abcdefABCDEF" for letter in text)


def _inside(call: Call, ips: Sequence[Address], routes: Sequence[Route]) -> str:
    """Addresses and routes of the namespace's end; its hardware address."""
    if any(one.family == 6 for one in ips):
        with namespaces.entered(call.netns):
            for where in ("all", "default", call.ifname):
                sysctl.write(f"net/ipv6/conf/{where}/disable_ipv6", "0")
            sysctl.write(f"net/ipv6/conf/{call.ifname}/accept_dad", "0")
    with Netlink(call.netns) as inside:
        inside.change(link("lo", up=True), link(call.ifname, up=True))
        found = inside.find(call.ifname)
        assert found is not None
        requests = []
        for one in ips:
            interface = ip_interface(one.address)
            requests.append(address(found.index, str(interface.ip), interface.network.prefixlen))
        for entry in routes:
            network = ip_network(entry.dst)
            via = entry.gw or next(
                (one.gateway for one in ips if one.family == network.version), ""
            )
            requests.append(
                route(str(network.network_address), network.prefixlen, via, found.index,
                      dict(entry.extra))
            )  # fmt: skip
        try:
            # of routes to one destination the first is kept: that of an earlier network
            inside.change(*requests, forgiven=errno.EEXIST)
        except OSError as error:
            raise InvalidArgument(
                f"network {call.network!r}: addresses and routes of {call.container_id}:"
                f" {error.strerror}"
            ) from error
    return found.mac


def _routes(given: Result, default: bool) -> list[Route]:
    routes = list(given.routes)
    for one in given.ips if default else ():
        dst = _DEFAULT[one.family]
        if one.gateway and not any(entry.dst == dst for entry in routes):
            routes.append(Route(dst, one.gateway))
    return routes


def _gateways(host: Host, bridge: Link, ips: Sequence[Address], force: bool) -> None:
    """The gateways' addresses on the bridge, and forwarding for their families."""
    for one in ips:
        if not one.gateway:
            continue
        prefix = ip_interface(one.address).network.prefixlen
        key = (bridge.name, str(bridge.index), one.gateway, str(prefix))
        if key in host.known:
            continue
        there = host.netlink.addresses(bridge.index)
        clash = [
            text
            for text, length in there
            if (":" in text) == (one.family == 6)
            and not text.startswith("fe80:")
            and (text, length) != (one.gateway, prefix)
            and ip_interface(f"{text}/{length}").network.overlaps(ip_interface(one.address).network)
        ]
        if clash and not force:
            raise FailedPrecondition(
                f"bridge {bridge.name!r}: has the address {clash[0]}, not {one.gateway}",
                hint="set forceAddress, or use another bridge",
            )
        host.netlink.change(address(bridge.index, one.gateway, prefix))
        sysctl.forward(one.family)
        if one.family == 4:
            # first the rules that keep containers away from the host's loopback
            host.rules.keep([Element("bridges", f'"{bridge.name}"')])
            sysctl.write(f"net/ipv4/conf/{bridge.name}/route_localnet", "1")
        host.known.add(key)


def _elements(
    call: Call, bridge: str, veth: Link, mac: str, ips: Sequence[Address]
) -> list[Element]:
    """This attachment's elements in the packet filter."""
    elements: list[Element] = []
    guarded = bool(call.config.get("macspoofchk"))
    port = f'"{veth.name}"'
    if guarded:
        elements.append(Element("ports", port, family="bridge"))
        elements.append(Element("macs", f"{port} . {mac}", family="bridge"))
        local = str(_link_local(mac))
        elements += _guarded6(port, local)
    for one in ips:
        text = one.address.partition("/")[0]
        elements.append(Element(f"own{one.family}", f'"{bridge}" . {text}'))
        if call.config.get("ipMasq"):
            elements.append(Element(f"nat{one.family}", text))
        if guarded and one.family == 4:
            elements.append(Element("addresses4", f"{port} . {text}", family="bridge"))
        elif guarded:
            elements += _guarded6(port, text)
    return elements


def _guarded6(port: str, text: str) -> list[Element]:
    number = IPv6Address(text)
    return [
        Element("addresses6", f"{port} . {number}", family="bridge"),
        Element("targets6", f"{port} . {int(number):#034x}", family="bridge"),
    ]


def _link_local(mac: str) -> IPv6Address:
    """The address that the kernel makes from a hardware address (RFC 4291, appendix A)."""
    octets = bytearray.fromhex(mac.replace(":", ""))
    octets[0] ^= 2
    return IPv6Address(b"\xfe\x80" + bytes(6) + octets[:3] + b"\xff\xfe" + octets[3:])


def _known(call: Call, before: Result) -> list[Element]:
    """The elements of an attachment whose result is known; none otherwise."""
    if len(before.interfaces) < 3:
        return []
    bridge, veth, inside = before.interfaces[:3]
    end = Link(0, veth.name, "", 0, 0, "", True)
    ips = [one for one in before.ips if one.interface in (None, 2)]
    return _elements(call, bridge.name, end, inside.mac, ips)


def _delete_link(host: Host, call: Call, veths: Sequence[str]) -> None:
    """Remove the pair, by its end on the host or, where that is not known, by the other."""
    if veths:
        places: Mapping[str, str] = {veths[0]: ""}
    elif call.netns and namespaces.exists(call.netns):
        places = {call.ifname: call.netns}
    else:
        return  # it went with its namespace
    for name, place in places.items():
        try:
            if place:
                with Netlink(place) as inside:
                    inside.change(delete_link(name))
            else:
                host.netlink.change(delete_link(name))
        except OSError as error:
            if error.errno not in (errno.ENODEV, errno.EINVAL):
                raise from_os_error(f"interface {name!r}", error) from error
