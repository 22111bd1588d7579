"""A compose file as a tree whose every node knows its file and line."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from cored.errors import InvalidArgument

__all__ = ["Node", "Place", "Scalar", "Value", "child", "each_scalar", "graft", "invalid", "plain"]

Scalar: TypeAlias = str | int | float | bool | None
Value: TypeAlias = "Scalar | dict[str, Node] | list[Node]"


@dataclass(frozen=True, slots=True)
class Place:
    """Where something was written; lines begin at 1."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


@dataclass(frozen=True, slots=True)
class Node:
    """A scalar, a mapping or a list. ``tag`` is ``reset``, ``override`` or nothing.

    Nodes are not changed once they are made: anchors share them.
    """

    value: Value
    place: Place
    tag: str = ""

    @property
    def mapping(self) -> dict[str, Node]:
        """Its children by key; none where it is something else."""
        return self.value if isinstance(self.value, dict) else {}

    @property
    def items(self) -> list[Node]:
        """Its children in order; none where it is something else."""
        return self.value if isinstance(self.value, list) else []

    def with_keys(self, changes: Mapping[str, Node]) -> Node:
        """A mapping with some keys replaced or added."""
        return replace(self, value={**self.mapping, **changes})


def invalid(node: Node, path: str, problem: str, *, hint: str | None = None) -> InvalidArgument:
    """The error that something at a node is wrong; ``path`` as services.web.ports."""
    return InvalidArgument(f"{node.place}: {path}: {problem}", hint=hint)


def child(path: str, key: str | int) -> str:
    """The path of what is below another."""
    return f"{path}.{key}" if path else str(key)


def plain(node: Node) -> Any:
    """The tree without places."""
    match node.value:
        case dict() as mapping:
            return {key: plain(value) for key, value in mapping.items()}
        case list() as items:
            return [plain(value) for value in items]
        case scalar:
            return scalar


def graft(value: Any, place: Place) -> Node:
    """A tree, all of it at one place, from plain values; nodes among them stay as they are."""
    match value:
        case Node():
            return value
        case dict():
            return Node({key: graft(inner, place) for key, inner in value.items()}, place)
        case list() | tuple():
            return Node([graft(inner, place) for inner in value], place)
        case _:
            return Node(value, place)


def each_scalar(node: Node, path: str, change: Callable[[Node, str], Node]) -> Node:
    """The tree with every scalar passed through ``change``, which also learns the path."""
    match node.value:
        case dict() as mapping:
            found = {k: each_scalar(v, child(path, k), change) for k, v in mapping.items()}
            return replace(node, value=found)
        case list() as items:
            listed = [each_scalar(v, child(path, i), change) for i, v in enumerate(items)]
            return replace(node, value=listed)
        case _:
            return change(node, path)
