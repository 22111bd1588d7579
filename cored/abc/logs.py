"""The seam of log drivers: somewhere else for containers' output to go."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["LogDriver", "LogMessage", "LogSource", "LogWriter"]


@dataclass(frozen=True, slots=True)
class LogMessage:
    """A line without its end, or a piece of a long one: ``partial`` says that it goes on.

    ``stream`` is stdout or stderr, ``time`` ns since the epoch.
    """

    stream: str
    time: int
    data: bytes
    partial: bool = False


@dataclass(frozen=True, slots=True)
class LogSource:
    """Whose output it is; ``attributes`` are what ``labels``, ``env`` and their like ask for."""

    id: str
    name: str
    namespace: str
    image: str
    tag: str
    attributes: Mapping[str, str] = field(default_factory=dict)


class LogWriter(ABC):
    """One container's output on its way. Calls come from one thread at a time, and may block.

    Who blocks in :meth:`write` holds the container up, unless it asked for ``mode=non-blocking``.
    """

    @abstractmethod
    def write(self, message: LogMessage) -> None:
        """Take it. Any error costs this message, and no more."""

    @abstractmethod
    def close(self) -> None:
        """There is no more."""


class LogDriver(ABC):
    """Opened by the daemon, which asks it to :meth:`check`, and again in a process of its own
    beside each container, which asks it for a writer: that process outlives the daemon.
    """

    @abstractmethod
    def check(self, options: Mapping[str, str]) -> None:
        """InvalidArgument for options that mean nothing; those of all drivers are not among them.

        Blocks the event loop: be quick.
        """

    @abstractmethod
    def open(self, source: LogSource, options: Mapping[str, str]) -> LogWriter:
        """Begin; blocks. Whatever it raises keeps the container from starting."""
