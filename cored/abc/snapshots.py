"""The snapshotter seam: filesystem trees stacked on parents, made of mounts.

Terms. A *snapshot* has a key, a kind and perhaps a parent. *Active* ones are writable,
*views* are read-only, *committed* ones never change again and are the only possible parents.
``prepare`` or ``view`` makes one and answers the mounts that show it; ``commit`` turns an active
snapshot into a committed one under a new name, the old key is gone. Mounting is the caller's
business, and the mounts stay valid until the snapshot is removed or committed.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import field
from enum import StrEnum

from cored.abc.values import NO_LABELS, Labels, Mount
from cored.dataclass import dataclass

__all__ = ["Kind", "Snapshot", "Snapshotter", "Usage"]


class Kind(StrEnum):
    """The three kinds of snapshot; names as in filters (``kind==active``)."""

    VIEW = "view"
    ACTIVE = "active"
    COMMITTED = "committed"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What is known of one snapshot; ``parent`` is '' at the bottom."""

    name: str
    kind: Kind
    parent: str = ""
    labels: Labels = field(default_factory=dict)
    created_at: int = 0
    updated_at: int = 0


@dataclass(frozen=True, slots=True)
class Usage:
    """Disk used by one snapshot without its parents: bytes and inodes."""

    size: int
    inodes: int


class Snapshotter(ABC):
    """A store of snapshots.

    Errors: NotFound for a key or parent that is not there, AlreadyExists for a key or name that
    is, InvalidArgument for a parent that is not committed, FailedPrecondition for a commit of what
    is not active, and removal of what has children. Nothing half-made stays after an error or a
    crash.
    """

    capabilities: frozenset[str] = frozenset()
    """Words about what it can do beyond the contract: ``rebase`` (see :meth:`commit`)."""

    @abstractmethod
    async def stat(self, key: str) -> Snapshot:
        """What is known of ``key``. NotFound."""

    @abstractmethod
    async def update(
        self, key: str, labels: Mapping[str, str | None], *, replace: bool = False
    ) -> Snapshot:
        """Set labels (None removes one); with ``replace`` all others go. NotFound."""

    @abstractmethod
    async def usage(self, key: str) -> Usage:
        """Disk used by ``key`` itself; for an active one, as of now. NotFound."""

    @abstractmethod
    async def mounts(self, key: str) -> list[Mount]:
        """The mounts that show an active snapshot or view. NotFound, FailedPrecondition."""

    @abstractmethod
    async def prepare(self, key: str, parent: str = "", labels: Labels = NO_LABELS) -> list[Mount]:
        """Make an active snapshot over ``parent`` ('' for an empty tree)."""

    @abstractmethod
    async def view(self, key: str, parent: str = "", labels: Labels = NO_LABELS) -> list[Mount]:
        """Make a read-only view of ``parent``."""

    @abstractmethod
    async def commit(
        self, name: str, key: str, labels: Labels = NO_LABELS, *, parent: str | None = None
    ) -> None:
        """Turn the active ``key`` into the committed ``name``.

        Labels of ``key`` are not carried over. ``parent`` puts a snapshot that was prepared
        without a parent on top of one (only with the capability ``rebase``; else Unimplemented).
        """

    @abstractmethod
    async def remove(self, key: str) -> None:
        """Forget ``key`` and free its disk. NotFound; FailedPrecondition while it has children."""

    @abstractmethod
    def walk(self, filters: Sequence[str] = ()) -> AsyncIterator[Snapshot]:
        """All snapshots that match one of ``filters`` (:mod:`cored.filters`), or all."""

    async def check(self, key: str) -> Sequence[str]:
        """What is wrong with the files of ``key``, as far as can be told without knowing what was
        written to them; nothing unless overridden. NotFound."""
        return ()

    async def leftovers(self) -> Sequence[str]:
        """What lies on the disk and belongs to no snapshot; :meth:`cleanup` removes it."""
        return ()

    async def cleanup(self) -> None:
        """Free disk that removals left for later. Does nothing unless overridden."""
        return
