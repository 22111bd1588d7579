"""The plugin ``firewall``: keeps networks apart from one another."""

from __future__ import annotations

from cored.cni.calls import Call
from cored.cni.results import Result
from cored.errors import InvalidArgument
from cored_network_native.kinds import Host, Kind, previous
from cored_network_native.rules import Element

__all__ = ["Firewall"]

_POLICIES = ("", "open", "same-bridge", "isolated")


class Firewall(Kind):
    """``ingressPolicy``: ``same-bridge`` refuses what comes from other bridges of that policy.

    ``isolated`` refuses what comes from the same bridge as well; published ports stay open to all.
    What comes from outside is not filtered here, so there is nothing to open.
    """

    keys = frozenset(("backend", "ingressPolicy", "iptablesAdminChainName", "firewalldZone"))

    def add(self, host: Host, call: Call) -> Result:
        policy = str(call.config.get("ingressPolicy") or "")
        if policy not in _POLICIES:
            raise InvalidArgument(
                f"network {call.network!r}: firewall: ingressPolicy {policy!r}: unknown",
                hint=f"one of {', '.join(filter(None, _POLICIES))}",
            )
        before = previous(call)
        bridge = next((f'"{one.name}"' for one in before.interfaces if not one.sandbox), "")
        if policy in ("same-bridge", "isolated") and bridge:
            host.rules.keep([Element("isolated", bridge)])
            if policy == "same-bridge":
                host.rules.keep([Element("same", f"{bridge} . {bridge}")])
        if bridge:
            host.rules.keep([Element("bridges", bridge)])
        return before

    def delete(self, host: Host, call: Call) -> None:
        """Nothing: the elements are the bridge's, and go with it."""
