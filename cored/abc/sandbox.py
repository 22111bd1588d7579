"""The sandbox seam: environments that containers share, and who keeps them.

A sandbox goes created -> ready -> not ready -> gone. Its record (cored.abc.records.Sandbox) is the
store's; a controller has the running side.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import field

from cored.abc.records import Sandbox
from cored.abc.values import Labels, Mount, Platform, Typed
from cored.dataclass import dataclass

__all__ = [
    "SandboxController",
    "SandboxExit",
    "SandboxInstance",
    "SandboxOptions",
    "SandboxStatus",
]


@dataclass(frozen=True, slots=True)
class SandboxOptions:
    """What a sandbox is made with, beyond its record."""

    rootfs: Sequence[Mount] = ()
    options: Typed | None = None
    netns: str = ""
    annotations: Labels = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SandboxInstance:
    """A sandbox that was started; ``address`` and ``version`` are those of its Task service."""

    id: str
    pid: int
    created_at: int
    labels: Labels = field(default_factory=dict)
    address: str = ""
    version: int = 0
    spec: Typed | None = None


@dataclass(frozen=True, slots=True)
class SandboxExit:
    """How a sandbox ended: exit status and time in ns."""

    status: int
    exited_at: int


@dataclass(frozen=True, slots=True)
class SandboxStatus:
    """Where a sandbox stands; ``state`` is SANDBOX_READY or SANDBOX_NOTREADY."""

    id: str
    pid: int = 0
    state: str = ""
    info: Labels = field(default_factory=dict)
    created_at: int = 0
    exited_at: int = 0
    extra: Typed | None = None
    address: str = ""
    version: int = 0


class SandboxController(ABC):
    """Runs sandboxes of the current scope's namespace.

    Errors: NotFound for a sandbox that it does not have, AlreadyExists for one that it has.
    """

    @abstractmethod
    async def create(self, record: Sandbox, options: SandboxOptions) -> None:
        """Make the environment; nothing stays of a failure."""

    @abstractmethod
    async def start(self, id: str) -> SandboxInstance: ...

    @abstractmethod
    async def platform(self, id: str) -> Platform:
        """The platform of containers in it."""

    @abstractmethod
    async def stop(self, id: str, timeout: float) -> None:
        """End it; fine when it is not there."""

    @abstractmethod
    async def wait(self, id: str) -> SandboxExit:
        """How it ended, as soon as it did."""

    @abstractmethod
    async def status(self, id: str, *, verbose: bool = False) -> SandboxStatus: ...

    @abstractmethod
    async def shutdown(self, id: str) -> None:
        """End it and whatever runs in it, and free all that it had."""

    @abstractmethod
    async def metrics(self, id: str) -> tuple[int, Typed | None]:
        """(time in ns, what it uses)."""

    @abstractmethod
    async def update(self, record: Sandbox, fields: Sequence[str]) -> None:
        """Its record has changed in ``fields``."""
