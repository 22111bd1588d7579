"""Ways for our bridges through filters of others that forward nothing by default.

docker, ufw, firewalld and many a ruleset by hand have a chain at the hook forward whose policy is
drop, and what any chain drops is gone, whoever accepts it. So two rules go into each such chain,
marked as ours; they are plain enough for iptables to show. That what comes from outside stays
refused, as the policy has it, is then our own table's business (its set ``closed``).
"""

from __future__ import annotations

from collections.abc import Iterator

from cored_network_native.nftables import Nftables, Refused

__all__ = ["close", "open"]

_FAMILIES = ("ip", "ip6", "inet")


def open(nft: Nftables, bridge: str) -> bool:
    """See that a bridge has its ways; whether it needs any. Refused."""
    found = list(_chains(nft, policy="drop"))
    for chain in found:
        if not list(_handles(nft, chain, bridge)):
            nft.run(
                "\n".join(
                    f'insert rule {chain} {way} "{bridge}" counter accept comment "{_mark(bridge)}"'
                    for way in ("iifname", "oifname")
                )
            )
    return bool(found)


def close(nft: Nftables, bridge: str) -> None:
    """Remove a bridge's ways; fine when it has none."""
    for chain in _chains(nft):
        for handle in _handles(nft, chain, bridge):
            nft.run(f"delete rule {chain} handle {handle}")


def _mark(bridge: str) -> str:
    return f"cored {bridge}"


def _chains(nft: Nftables, policy: str = "") -> Iterator[str]:
    """Others' chains that filter what is forwarded: family, table and name."""
    for entry in nft.list("chains"):
        chain = entry.get("chain", {})
        if chain.get("hook") != "forward" or chain.get("type") != "filter":
            continue
        if chain["family"] not in _FAMILIES or chain["table"] == "cored":
            continue
        if not policy or chain.get("policy") == policy:
            yield f"{chain['family']} {chain['table']} {chain['name']}"


def _handles(nft: Nftables, chain: str, bridge: str) -> Iterator[int]:
    try:
        entries = nft.list(f"chain {chain}")
    except Refused:
        return  # it is gone since
    for entry in entries:
        if entry.get("rule", {}).get("comment") == _mark(bridge):
            yield int(entry["rule"]["handle"])
