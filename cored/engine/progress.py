"""How far a transfer got."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cored.abc.values import Descriptor

__all__ = ["Progress", "Report", "silent"]


@dataclass(frozen=True, slots=True)
class Progress:
    """A step of one blob, or of the whole.

    ``id`` is a digest or a name; ``status`` one of resolving, waiting, receiving, downloading,
    uploading, extracting, done, exists; ``offset`` and ``total`` are bytes, ``total`` 0 where
    nobody knows. ``blob`` is what a digest stands for, ``children`` what a manifest or index names.
    """

    id: str
    status: str
    offset: int = 0
    total: int = 0
    blob: Descriptor | None = None
    children: Sequence[Descriptor] = ()


Report = Callable[[Progress], None]


def silent(progress: Progress) -> None:
    """For those who do not want to know."""
    del progress
