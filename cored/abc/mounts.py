"""Activated mounts: chains of mounts that the daemon makes ready, under a name.

A chain's mounts may need preparing (a formatted path, a directory, a filesystem image) or a
handler (a loop device): those the daemon does itself. What is left is the caller's to mount.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import field
from pathlib import Path

from cored.abc.values import Labels, Mount
from cored.dataclass import dataclass

__all__ = ["Activation", "ActiveMount", "MountHandler"]


@dataclass(frozen=True, slots=True)
class ActiveMount:
    """A mount that was made: what, where (``point``), when (ns), and what it left for the next."""

    mount: Mount
    point: str
    mounted_at: int
    data: Labels = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Activation:
    """A chain under its name: the mounts that were made, and those left for the caller."""

    name: str
    active: tuple[ActiveMount, ...] = ()
    system: tuple[Mount, ...] = ()
    labels: Labels = field(default_factory=dict)
    created_at: int = 0
    updated_at: int = 0


class MountHandler(ABC):
    """Makes mounts of one type that mount(2) does not know. Both may block."""

    @abstractmethod
    def mount(self, mount: Mount, point: Path, before: Sequence[ActiveMount]) -> ActiveMount:
        """Make ``mount`` appear at ``point``, which does not exist yet."""

    @abstractmethod
    def unmount(self, point: Path) -> None:
        """Undo it; fine when it is gone."""
