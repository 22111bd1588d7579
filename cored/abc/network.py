"""The network seam: attaching a network namespace to networks and detaching it again."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

__all__ = ["Attachment", "Network"]


@dataclass(frozen=True, slots=True)
class Attachment:
    """One interface in a network namespace: what was asked for, and the CNI result that it got."""

    container_id: str
    netns: str
    ifname: str
    network: str
    args: Mapping[str, str] = field(default_factory=dict)
    capabilities: Mapping[str, object] = field(default_factory=dict)
    result: Mapping[str, object] = field(default_factory=dict)


class Network(ABC):
    """Attaches and detaches (CNI specification 1.1, sections 3 and 4).

    ``detach`` succeeds for what is gone. FailedPrecondition when the network is not ready.
    """

    @abstractmethod
    async def attach(self, wanted: Attachment) -> Attachment:
        """ADD: the same attachment with its result; nothing stays of a failure."""

    @abstractmethod
    async def check(self, attachment: Attachment) -> None:
        """CHECK: FailedPrecondition when the attachment is not as its result says."""

    @abstractmethod
    async def detach(self, attachment: Attachment) -> None:
        """DEL."""

    @abstractmethod
    async def collect(self, valid: Sequence[Attachment]) -> None:
        """GC: release what belongs to none of ``valid``."""

    @abstractmethod
    async def networks(self) -> list[str]:
        """Names of the networks that can be attached to, the default first."""
