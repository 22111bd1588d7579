"""One call of one plugin: its parameters, and its errors as ours (CNI specification, section 2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from cored.abc.network import Attachment, NetworkList
from cored.errors import (
    AlreadyExists,
    CoredError,
    FailedPrecondition,
    Internal,
    InvalidArgument,
    NotFound,
    ResourceExhausted,
    Unavailable,
)

__all__ = ["Call", "Caller", "failure", "prepared", "request"]

# codes of the specification; those from 100 on are the plugins' own
_ERRORS: Mapping[int, type[CoredError]] = {
    1: FailedPrecondition,
    2: InvalidArgument,
    3: NotFound,
    4: InvalidArgument,
    5: Internal,
    6: InvalidArgument,
    7: InvalidArgument,
    11: Unavailable,
    50: FailedPrecondition,
    51: FailedPrecondition,
}
# what plugins say without a code of its own
_PHRASES: Sequence[tuple[str, type[CoredError]]] = (
    ("no IP addresses available", ResourceExhausted),
    ("no addresses left", ResourceExhausted),
    ("already exists", AlreadyExists),
    ("is in use by", AlreadyExists),
    ("is published by", AlreadyExists),
    ("already in use", AlreadyExists),
)


@dataclass(frozen=True, slots=True)
class Call:
    """The parameters of a call; ``config`` is the request configuration for standard input."""

    command: str
    container_id: str = ""
    netns: str = ""
    ifname: str = ""
    args: Mapping[str, str] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)

    @property
    def version(self) -> str:
        return str(self.config["cniVersion"])

    @property
    def network(self) -> str:
        return str(self.config.get("name", ""))


class Caller(Protocol):
    """Runs plugins by type."""

    async def call(self, type: str, call: Call) -> Mapping[str, Any] | None:
        """Run one; ADD answers a result in the version of the call. CoredError."""

    async def versions(self, type: str) -> Sequence[str]:
        """The versions that a plugin speaks. InvalidArgument when there is none of that type."""

    async def vacate(self, network: NetworkList) -> None:
        """Remove what plugins made for a network as a whole, if they know how."""


def request(network: NetworkList, plugin: Mapping[str, Any]) -> dict[str, Any]:
    """A plugin's table as it is sent (section 3, "Deriving request configuration")."""
    kept = {
        key: value
        for key, value in plugin.items()
        if key not in ("capabilities", "runtimeConfig", "prevResult")
        and not key.startswith("cni.dev/")
    }
    return {**kept, "cniVersion": network.version, "name": network.name}


def prepared(
    command: str,
    attachment: Attachment,
    plugin: Mapping[str, Any],
    previous: Mapping[str, Any] | None,
) -> Call:
    """A call of one of the plugins that an attachment's network has."""
    config = request(attachment.network, plugin)
    declared = plugin.get("capabilities") or {}
    given = {key: value for key, value in attachment.capabilities.items() if declared.get(key)}
    if given:
        config["runtimeConfig"] = given
    if previous is not None:
        config["prevResult"] = previous
    return Call(
        command,
        attachment.container_id,
        attachment.netns,
        attachment.ifname,
        attachment.args,
        config,
    )


def failure(network: str, type: str, table: Mapping[str, Any]) -> CoredError:
    """The error for a plugin's error object: the plugin's own words under our class."""
    code = table.get("code", 0)
    words = [str(table.get(key) or "").strip() for key in ("msg", "details")]
    text = ": ".join(word for word in words if word) or f"error {code}"
    cls = _ERRORS.get(code, Internal)
    if cls is Internal:
        cls = next((found for phrase, found in _PHRASES if phrase in text), Internal)
    return cls(f"network {network!r}: plugin {type}: {text}")
