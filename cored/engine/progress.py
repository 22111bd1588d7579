"""How far a transfer got."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["Progress", "Report", "silent"]


@dataclass(frozen=True, slots=True)
class Progress:
    """A step of one blob, or of the whole.

    ``id`` is a digest or a name; ``status`` one of resolving, waiting, receiving, downloading,
    extracting, done, exists; ``offset`` and ``total`` are bytes, ``total`` 0 where nobody knows.
    """

    id: str
    status: str
    offset: int = 0
    total: int = 0


Report = Callable[[Progress], None]


def silent(progress: Progress) -> None:
    """For those who do not want to know."""
    del progress
