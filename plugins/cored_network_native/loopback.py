"""The plugin ``loopback``: brings up ``lo``."""

from __future__ import annotations

from dataclasses import replace

from cored.cni import namespaces
from cored.cni.calls import Call
from cored.cni.results import Address, Interface, Result
from cored.errors import FailedPrecondition, NotFound
from cored_network_native.kinds import Host, Kind, previous
from cored_network_native.netlink import Netlink, link

__all__ = ["Loopback"]


class Loopback(Kind):
    def add(self, host: Host, call: Call) -> Result:
        if not namespaces.exists(call.netns):
            raise NotFound(f"network namespace {call.netns!r}: not found")
        before = previous(call)
        with Netlink(call.netns) as inside:
            inside.change(link("lo", up=True))
            found = inside.find("lo")
            assert found is not None
            ips = [
                Address(f"{text}/{prefix}", interface=0)
                for text, prefix in inside.addresses(found.index)
            ]
        if before.interfaces:
            return before
        return replace(
            before, interfaces=[Interface("lo", "00:00:00:00:00:00", call.netns)], ips=ips
        )

    def delete(self, host: Host, call: Call) -> None:
        if call.netns and namespaces.exists(call.netns):
            with Netlink(call.netns) as inside:
                down = link("lo")
                down["change"] = 1
                inside.change(down)

    def check(self, host: Host, call: Call) -> None:
        with Netlink(call.netns) as inside:
            found = inside.find("lo")
        if found is None or not found.up:
            raise FailedPrecondition(f"container {call.container_id}: its loopback is down")
