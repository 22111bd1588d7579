"""The plugin ``bandwidth``: token buckets on both ways of an interface (tc-tbf(8))."""

from __future__ import annotations

import errno
import hashlib
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from cored.cni.calls import Call
from cored.cni.results import Interface, Result
from cored.errors import FailedPrecondition, InvalidArgument, from_os_error
from cored_network_native.kinds import Host, Kind, previous
from cored_network_native.netlink import Link, delete_link, link

if TYPE_CHECKING:
    from pyroute2 import IPRoute

__all__ = ["Bandwidth"]

_LATENCY = "25ms"
_KEYS = ("ingressRate", "ingressBurst", "egressRate", "egressBurst")


class Bandwidth(Kind):
    """Rates are bits a second, bursts bits; ingress is what the container receives."""

    keys = frozenset(_KEYS)

    def add(self, host: Host, call: Call) -> Result:
        from pyroute2 import IPRoute

        limits, before = _limits(call), previous(call)
        if not any(limits.values()):
            return before
        veth = _veth(host, call, before)
        interfaces = list(before.interfaces)
        with IPRoute() as tc:
            if limits["ingressRate"]:
                _bucket(tc, veth.index, limits["ingressRate"], limits["ingressBurst"])
            if limits["egressRate"]:
                # only what is sent can be shaped: let a device of its own send it
                name = _name(call)
                host.netlink.change(
                    link(name, flags=0x600, up=True, mtu=veth.mtu,
                         linkinfo={"attrs": [("IFLA_INFO_KIND", "ifb")]})
                )  # fmt: skip
                device = host.netlink.find(name)
                assert device is not None
                _redirect(tc, veth.index, device.index)
                _bucket(tc, device.index, limits["egressRate"], limits["egressBurst"])
                interfaces.append(Interface(name, device.mac, mtu=device.mtu))
        return replace(before, interfaces=interfaces)

    def delete(self, host: Host, call: Call) -> None:
        try:
            host.netlink.change(delete_link(_name(call)))
        except OSError as error:
            if error.errno not in (errno.ENODEV, errno.EINVAL):
                raise from_os_error(f"interface {_name(call)!r}", error) from error

    def check(self, host: Host, call: Call) -> None:
        limits = _limits(call)
        if limits["egressRate"] and host.netlink.find(_name(call)) is None:
            raise FailedPrecondition(
                f"network {call.network!r}: the bandwidth limit of {call.container_id} is gone"
            )


def _limits(call: Call) -> Mapping[str, int]:
    """The capability ``bandwidth``, or the table's own; 0 is none. InvalidArgument."""
    asked = (call.config.get("runtimeConfig") or {}).get("bandwidth")
    given: Mapping[str, Any] = asked or call.config
    limits = {key: given.get(key) or 0 for key in _KEYS}
    for key, value in limits.items():
        if not isinstance(value, int) or value < 0:
            raise InvalidArgument(
                f"network {call.network!r}: bandwidth: {key} {value!r}: no number"
            )
    for way in ("ingress", "egress"):
        if bool(limits[f"{way}Rate"]) != bool(limits[f"{way}Burst"]):
            raise InvalidArgument(
                f"network {call.network!r}: bandwidth: {way}Rate and {way}Burst go together"
            )
    return limits


def _veth(host: Host, call: Call, before: Result) -> Link:
    for one in before.interfaces:
        found = None if one.sandbox else host.netlink.find(one.name)
        if found is not None and found.kind == "veth":
            return found
    raise FailedPrecondition(
        f"network {call.network!r}: bandwidth: {call.container_id} has no veth on the host"
    )


def _name(call: Call) -> str:
    """The device's name: its own, and short enough."""
    text = f"{call.network}\0{call.container_id}\0{call.ifname}"
    return "bwp" + hashlib.sha256(text.encode()).hexdigest()[:11]


def _bucket(tc: IPRoute, index: int, rate: int, burst: int) -> None:
    tc.tc(
        "add", "tbf", index, 0x10000,
        rate=rate // 8, burst=max(burst // 8, 1600), latency=_LATENCY, parent=0xFFFFFFFF,
    )  # fmt: skip


def _redirect(tc: IPRoute, source: int, target: int) -> None:
    tc.tc("add", "ingress", source, 0xFFFF0000)
    tc.tc(
        "add-filter", "u32", source, parent=0xFFFF0000, prio=1, protocol=3,  # ETH_P_ALL
        target=0x10001, keys=["0x0/0x0+0"],
        action={"kind": "mirred", "direction": "egress", "action": "redirect", "ifindex": target},
    )  # fmt: skip
