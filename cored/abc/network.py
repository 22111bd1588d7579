"""The network seam: attaching a network namespace to networks and detaching it again.

Terms (CNI specification 1.1). A *network list* is a network's configuration: a chain of plugins.
An *attachment* is one interface of one container in one network. Its life: attach (ADD) -> check
(CHECK), any number of times -> detach (DEL). Whoever implements this seam keeps every attachment
durably from before its first effect until after its last (:meth:`Network.attachments`), so that
nothing which a crash leaves is out of reach.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Any

from cored.dataclass import dataclass

__all__ = ["Attachment", "Network", "NetworkList"]


@dataclass(frozen=True, slots=True)
class NetworkList:
    """A network configuration list (section 1).

    ``version`` is the protocol's that was chosen; ``plugins`` are the plugins' tables as they were
    read; ``source`` is the file that it comes from, '' for none.
    """

    name: str
    version: str
    plugins: Sequence[Mapping[str, Any]]
    versions: Sequence[str] = ()
    disable_check: bool = False
    disable_gc: bool = False
    source: str = ""


@dataclass(frozen=True, slots=True)
class Attachment:
    """One interface in a network namespace: what was asked for, and the CNI result that it got.

    ``netns`` is a path, '' when the namespace is gone; ``args`` are generic arguments (CNI_ARGS),
    ``capabilities`` those that go to plugins which declare them; ``result`` is in the version of
    its list, what there is so far when the attachment was begun and not ``finished``.
    """

    container_id: str
    netns: str
    ifname: str
    network: NetworkList
    args: Mapping[str, str] = field(default_factory=dict)
    capabilities: Mapping[str, Any] = field(default_factory=dict)
    result: Mapping[str, Any] = field(default_factory=dict)
    finished: bool = True


class Network(ABC):
    """Attaches and detaches (CNI specification 1.1, sections 3 and 4).

    Calls for different attachments run at the same time, except during ``collect``. Errors of all:
    InvalidArgument for a configuration or argument that cannot work; FailedPrecondition when a
    network is not ready, ResourceExhausted when it has no addresses left, Unavailable for what may
    work later, DeadlineExceeded for a plugin that takes too long.
    """

    @abstractmethod
    async def attach(self, wanted: Attachment) -> Attachment:
        """ADD: the same attachment with its result; nothing stays of a failure.

        AlreadyExists when the container has an interface of that name, or a host port is taken.
        """

    @abstractmethod
    async def check(self, attachment: Attachment) -> None:
        """CHECK: FailedPrecondition when the attachment is not as its result says.

        Nothing for lists before version 0.4.0, or with ``disable_check``.
        """

    @abstractmethod
    async def detach(self, attachment: Attachment) -> None:
        """DEL, with the configuration that it was attached by. Succeeds for what is gone."""

    @abstractmethod
    async def collect(self, network: NetworkList, valid: Sequence[Attachment]) -> None:
        """Detach what is kept of ``network`` and none of ``valid``, then GC (from 1.1 on)."""

    @abstractmethod
    async def status(self, network: NetworkList) -> None:
        """STATUS: FailedPrecondition says why the network takes no attachments (from 1.1 on)."""

    @abstractmethod
    async def vacate(self, network: NetworkList) -> None:
        """Remove what a network has on the host beside its attachments, of which it has none."""

    @abstractmethod
    async def attachments(self) -> Sequence[Attachment]:
        """All that were begun and not detached, also by earlier daemons."""
