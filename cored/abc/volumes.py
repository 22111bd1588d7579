"""The volume seam: where the directories come from that outlive containers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import field
from pathlib import Path

from cored.dataclass import dataclass

__all__ = ["ANONYMOUS", "Volume", "VolumeDriver"]

ANONYMOUS = "com.docker.volume.anonymous"
"""The label of those that nobody named; docker's."""


@dataclass(frozen=True, slots=True)
class Volume:
    """``created_at`` in ns; ``options`` are the driver's."""

    name: str
    driver: str = "local"
    options: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    created_at: int = 0

    @property
    def anonymous(self) -> bool:
        return ANONYMOUS in self.labels


class VolumeDriver(ABC):
    """Where volumes come from. ``place`` is a directory of the volume's own, kept by the daemon.

    All methods block. Errors are those of :mod:`cored.errors`.
    """

    @abstractmethod
    def check(self, options: Mapping[str, str]) -> None:
        """InvalidArgument for options that mean nothing."""

    @abstractmethod
    def create(self, volume: Volume, place: Path) -> None:
        """Make what :meth:`directory` answers, or what it can be mounted on."""

    @abstractmethod
    def remove(self, volume: Volume, place: Path) -> None:
        """Give up what is outside of ``place``; the daemon removes that."""

    @abstractmethod
    def directory(self, volume: Volume, place: Path) -> Path:
        """Where the volume's files are, while it is in use."""

    @abstractmethod
    def attach(self, volume: Volume, place: Path) -> None:
        """Make it usable; fine when it is already."""

    @abstractmethod
    def detach(self, volume: Volume, place: Path) -> None:
        """The last container that had it has ended; fine when it is not attached."""
