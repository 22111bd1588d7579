"""What a plugin in process is, and what it works with."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, ClassVar

from cored.cni import results
from cored.cni.calls import Call
from cored.cni.results import Result
from cored_network_native.netlink import Netlink
from cored_network_native.rules import Rules

__all__ = ["Host", "Kind", "mark", "owner", "previous"]

# keys that every plugin's table may have
_COMMON = frozenset(
    (
        "args",
        "capabilities",
        "cniVersion",
        "dns",
        "ipam",
        "name",
        "prevResult",
        "runtimeConfig",
        "type",
    )
)


@dataclass(slots=True)
class Host:
    """The host's side: a socket, the packet filter, and a way to plugins that are not ours.

    ``known`` are bridges that were seen to be as configured; all belongs to one thread.
    """

    netlink: Netlink
    rules: Rules
    delegate: Callable[[str, Call], Mapping[str, Any] | None]
    known: set[tuple[str, ...]] = field(default_factory=set)


class Kind(ABC):
    """A type of plugin, stateless; its methods block. Errors as in :class:`Network`."""

    keys: ClassVar[frozenset[str]] = frozenset()
    """What it understands of a table; with anything else the executable is called."""

    def takes(self, config: Mapping[str, Any]) -> bool:
        """Whether all of a configuration is understood here."""
        return all(
            key in _COMMON or key in self.keys or value in (None, False, "", 0)
            for key, value in config.items()
            if not key.startswith("cni.dev/")
        )

    @abstractmethod
    def add(self, host: Host, call: Call) -> Result:
        """ADD."""

    @abstractmethod
    def delete(self, host: Host, call: Call) -> None:
        """DEL; what is gone is fine."""

    def check(self, host: Host, call: Call) -> None:  # noqa: B027 - most need none
        """CHECK. FailedPrecondition."""

    def collect(self, host: Host, call: Call, owners: Collection[tuple[str, str]]) -> None:  # noqa: B027 - most need none
        """GC: remove what belongs to none of ``owners`` (container id, interface)."""

    def restore(self, host: Host, call: Call) -> None:  # noqa: B027 - most need none
        """See that an attachment has what it had in the packet filter, which was emptied."""

    def status(self, host: Host, call: Call) -> None:  # noqa: B027 - most need none
        """STATUS. FailedPrecondition."""


def previous(call: Call) -> Result:
    """The result so far; empty for the first of a chain, or when none is known."""
    return results.from_json(call.config.get("prevResult") or {})


def mark(network: str, container_id: str = "", ifname: str = "") -> str:
    """What elements of the packet filter are marked with; a network's marks begin alike.

    At most 128 bytes, as nft's comments are: names that are too long are hashed.
    """
    return f"{_short(network, 32)}/" + (f"{_short(container_id, 76)}/{ifname}" if ifname else "")


def owner(call: Call) -> str:
    """The mark of an attachment."""
    return mark(call.network, call.container_id, call.ifname)


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else sha256(text.encode()).hexdigest()[:most]
