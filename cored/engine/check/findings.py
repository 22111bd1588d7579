"""What a check says on its way."""

from __future__ import annotations

from dataclasses import dataclass

from cored.metadata.graph import Node

__all__ = ["Damage", "Event", "Stage", "Summary"]


@dataclass(frozen=True, slots=True)
class Stage:
    """``what`` is being looked at: number ``done`` of ``total`` of its kind."""

    what: Node
    done: int
    total: int


@dataclass(frozen=True, slots=True)
class Damage:
    """``node`` is not as it should be; ``users`` are the images, containers, leases that need it.

    ``repaired``: it is whole again. Else ``remedy`` says why not, where a repair was asked for.
    """

    node: Node
    reason: str
    users: tuple[Node, ...] = ()
    repaired: bool = False
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Summary:
    """How much was looked at.

    ``contents`` of the ``snapshots`` were compared with their layers' archives; the others are
    containers', views, made by other means than an image's layers, or over something damaged.
    """

    blobs: int
    size: int
    snapshots: int
    contents: int
    damaged: int
    repaired: int
    leftovers: tuple[Node, ...] = ()


Event = Stage | Damage | Summary
