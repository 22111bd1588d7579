"""The plugin ``firewall``: keeps networks apart from one another."""

from __future__ import annotations

from cored.cni.calls import Call
from cored.cni.results import Result
from cored.errors import InvalidArgument
from cored_network_native import ways
from cored_network_native.kinds import Host, Kind, previous
from cored_network_native.rules import Element

__all__ = ["Firewall"]

_POLICIES = ("", "open", "same-bridge", "isolated")


class Firewall(Kind):
    """``ingressPolicy``: ``same-bridge`` refuses what comes from other bridges of that policy.

    ``isolated`` refuses what comes from the same bridge as well; published ports stay open to all.
    What comes from outside is refused only where the host forwards nothing by default.
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
        self._keep(host, policy, before)
        return before

    def restore(self, host: Host, call: Call) -> None:
        self._keep(host, str(call.config.get("ingressPolicy") or ""), previous(call))

    def _keep(self, host: Host, policy: str, before: Result) -> None:
        bridge = next((one.name for one in before.interfaces if not one.sandbox), "")
        if not bridge:
            return
        quoted = f'"{bridge}"'
        elements = []
        if policy in ("same-bridge", "isolated"):
            elements.append(Element("isolated", quoted))
        if policy == "same-bridge":
            elements.append(Element("same", f"{quoted} . {quoted}"))
        if ways.open(host.rules.nft, bridge):
            elements += [Element("bridges", quoted), Element("closed", quoted)]
        host.rules.keep(elements)

    def delete(self, host: Host, call: Call) -> None:
        """Nothing: the elements are the bridge's, and go with it."""
