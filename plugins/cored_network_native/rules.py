"""The packet filter of all our networks: two tables whose rules never change, only their sets.

Table ``inet cored`` publishes ports, masquerades and keeps networks apart; table ``bridge cored``
lets nobody send under another's address. An attachment is some elements of their sets, each with
its owner in the comment, so that what a crash leaves can be told from what is used.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from cored.errors import AlreadyExists, Internal
from cored_network_native.nftables import Nftables, Refused

__all__ = ["Element", "Rules"]

_TABLES = """
table inet cored
delete table inet cored
table bridge cored
delete table bridge cored
table inet cored {
  chain VERSION { }
  set closed { type ifname; }
  set bridges { type ifname; }
  set isolated { type ifname; }
  set same { type ifname . ifname; }
  set nat4 { type ipv4_addr; }
  set nat6 { type ipv6_addr; }
  set own4 { type ifname . ipv4_addr; }
  set own6 { type ifname . ipv6_addr; }
  map ports4 { type inet_proto . inet_service : ipv4_addr . inet_service; }
  map ports6 { type inet_proto . inet_service : ipv6_addr . inet_service; }
  map ports4at { type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service; }
  map ports6at { type ipv6_addr . inet_proto . inet_service : ipv6_addr . inet_service; }
  chain guard {
    type filter hook prerouting priority raw; policy accept;
    iifname @bridges ip daddr 127.0.0.0/8 drop
    iifname @bridges ip saddr 127.0.0.0/8 drop
  }
  chain publish {
    dnat ip to ip daddr . meta l4proto . th dport map @ports4at
    dnat ip to meta l4proto . th dport map @ports4
    dnat ip6 to ip6 daddr . meta l4proto . th dport map @ports6at
    dnat ip6 to meta l4proto . th dport map @ports6
  }
  chain arriving {
    type nat hook prerouting priority dstnat; policy accept;
    fib daddr type local jump publish
  }
  chain leaving {
    type nat hook output priority -100; policy accept;
    fib daddr type local jump publish
  }
  chain translate {
    type nat hook postrouting priority srcnat; policy accept;
    ct status dnat oifname . ip saddr @own4 masquerade
    ct status dnat oifname . ip6 saddr @own6 masquerade
    ct status dnat oifname @bridges ip saddr 127.0.0.0/8 masquerade
    oifname . ip saddr @own4 return
    oifname . ip6 saddr @own6 return
    ip daddr 224.0.0.0/4 return
    ip6 daddr ff00::/8 return
    ip saddr @nat4 masquerade
    ip6 saddr @nat6 masquerade
  }
  chain between {
    type filter hook forward priority filter; policy accept;
    ct state established,related accept
    ct status dnat accept
    iifname . oifname @same accept
    iifname @isolated oifname @isolated drop
    iifname != @bridges oifname @closed drop
  }
}
table bridge cored {
  chain VERSION { }
  set ports { type ifname; }
  set macs { type ifname . ether_addr; }
  set addresses4 { type ifname . ipv4_addr; }
  set addresses6 { type ifname . ipv6_addr; }
  set targets6 { typeof iifname . @th,64,128; }
  chain arriving {
    type filter hook prerouting priority -300; policy accept;
    iifname != @ports accept
    iifname . ether saddr != @macs drop
    ether type arp iifname . arp saddr ether != @macs drop
    ether type arp arp saddr ip 0.0.0.0 accept
    ether type arp iifname . arp saddr ip @addresses4 accept
    ether type ip iifname . ip saddr @addresses4 accept
    ether type ip6 icmpv6 type { nd-router-advert, nd-redirect } drop
    ether type ip6 icmpv6 type nd-neighbor-advert iifname . @th,64,128 != @targets6 drop
    ether type ip6 ip6 saddr :: meta l4proto icmpv6 accept
    ether type ip6 iifname . ip6 saddr @addresses6 accept
    drop
  }
}
"""
_FAMILIES = ("inet", "bridge")
# tables of another version of these rules are replaced
_VERSION = "v" + sha256(_TABLES.encode()).hexdigest()[:12]


@dataclass(frozen=True, slots=True)
class Element:
    """An element of a set, or of a map when it has ``data``, in nft's language."""

    set: str
    key: str
    data: str = ""
    family: str = "inet"

    def text(self, owner: str = "") -> str:
        """As it stands between braces."""
        comment = f' comment "{owner}"' if owner else ""
        return f"{self.key}{comment}" + (f" : {self.data}" if self.data else "")


class Rules:
    """The tables in this thread's network namespace; all methods belong to one thread.

    ``anew`` becomes true when the tables had to be made: whatever was in them is gone.
    """

    def __init__(self) -> None:
        self._nft = Nftables()
        self._there = False
        self.anew = False

    @property
    def nft(self) -> Nftables:
        """For what is in other tables."""
        return self._nft

    def close(self) -> None:
        """Let go of the library; the rules stay."""
        self._nft.close()

    def add(self, owner: str, elements: Sequence[Element]) -> None:
        """Add an attachment's elements, all or none. AlreadyExists for a port that is published."""
        if elements:
            self.ensure()
            self._run("add", elements, owner)

    def keep(self, elements: Sequence[Element]) -> None:
        """See that elements which belong to a bridge are there."""
        if elements:
            self.ensure()
            self._run("add", elements, "")

    def remove(self, owner: str, elements: Sequence[Element] = ()) -> None:
        """Remove what ``owner`` has: ``elements``, or where those are not all, what is found."""
        if elements:
            try:
                self._nft.run(_commands("delete", elements, ""))
                return
            except Refused:
                pass  # part of it is gone, or has never been: look what there is
        found = [element for one, element in self.owned() if one == owner]
        if found:
            self._nft.run(_commands("delete", found, ""))

    def forget(self, elements: Sequence[Element]) -> None:
        """Remove a bridge's elements, as far as they are there."""
        if self._lost():
            return
        for element in elements:
            try:
                self._nft.run(_commands("delete", (element,), ""))
            except Refused:
                continue  # gone already, or never there
        self._remove_unused()

    def _remove_unused(self) -> None:
        """Tables whose sets are all empty do nothing: remove them."""
        entries = [e for family in _FAMILIES for e in self._nft.list(f"table {family} cored")]
        sets = [entry[kind] for entry in entries for kind in ("set", "map") if kind in entry]
        if not any(one.get("elem") for one in sets):
            self._nft.run("\n".join(f"delete table {family} cored" for family in _FAMILIES))
            self._there = False

    def owned(self) -> list[tuple[str, Element]]:
        """Every element that has an owner."""
        found: list[tuple[str, Element]] = []
        for family in _FAMILIES:
            try:
                entries = self._nft.list(f"table {family} cored")
            except Refused:
                continue  # there is no such table (any more)
            for entry in entries:
                for kind in ("set", "map"):
                    found += _elements(family, entry.get(kind))
        return found

    def collect(self, beginning: str, owners: Collection[str]) -> None:
        """Remove what has a mark that begins so and is none of ``owners``."""
        stale = [
            element
            for owner, element in self.owned()
            if owner.startswith(beginning) and owner not in owners
        ]
        if stale:
            self._nft.run(_commands("delete", stale, ""))

    def has(self, owner: str, elements: Iterable[Element]) -> bool:
        """Whether an attachment's elements are all there."""
        there = {(one.family, one.set) for name, one in self.owned() if name == owner}
        return all((one.family, one.set) in there for one in elements)

    def _run(self, verb: str, elements: Sequence[Element], owner: str) -> None:
        try:
            self._nft.run(_commands(verb, elements, owner))
        except Refused as error:
            if "File exists" in str(error):
                raise AlreadyExists(_taken(elements, str(error))) from error
            if not self._lost():
                raise Internal(f"packet filter: {error}") from error
            # somebody has flushed the rule set
            self._there = False
            self.ensure()
            self._nft.run(_commands(verb, elements, owner))

    def ensure(self) -> None:
        """See that the tables are there, as far as nobody has said that they are not."""
        if not self._there:
            if self._lost():
                try:
                    self._nft.run(_TABLES.replace("VERSION", _VERSION))
                except Refused as error:
                    raise Internal(f"packet filter: {error}") from error
                self.anew = True
            self._there = True

    def _lost(self) -> bool:
        try:
            chains = [entry.get("chain", {}) for entry in self._nft.list("chains")]
        except Refused as error:
            raise Internal(f"packet filter: {error}") from error
        ours = [one["family"] for one in chains if one.get("name") == _VERSION]
        return sorted(ours) != sorted(_FAMILIES)


def _commands(verb: str, elements: Sequence[Element], owner: str) -> str:
    return "\n".join(
        f"{verb} element {one.family} cored {one.set} {{ {one.text(owner)} }}" for one in elements
    )


def _taken(elements: Sequence[Element], text: str) -> str:
    """Which port is published already; nft shows the line that it stumbled over."""
    for one in elements:
        if one.set.startswith("ports") and one.family == "inet" and one.key in text:
            words = one.key.split(" . ")
            return f"port {words[-1]}/{words[-2]}: is published by another container already"
    return f"packet filter: {text}"


def _elements(family: str, table: dict[str, Any] | None) -> list[tuple[str, Element]]:
    found = []
    for entry in (table or {}).get("elem", ()):
        data = ""
        if isinstance(entry, list):  # of a map: [key, data]
            entry, data = entry[0], _text(entry[1])
        if isinstance(entry, dict) and "elem" in entry:
            owner = entry["elem"].get("comment", "")
            if owner and table is not None:
                key = _text(entry["elem"]["val"])
                found.append((owner, Element(table["name"], key, data, family)))
    return found


def _text(value: Any) -> str:
    if isinstance(value, dict) and "concat" in value:
        return " . ".join(_text(part) for part in value["concat"])
    return str(value)
