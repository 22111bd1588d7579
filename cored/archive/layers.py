"""A read-only view of stacked overlay layers, without mounting them."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from typing import NamedTuple

from cored.archive.marks import is_opaque, is_whiteout
from cored.archive.tree import joined

__all__ = ["Layers", "Node"]

_MOST_LINKS = 40


class Node(NamedTuple):
    """Something in the merged tree: its path there, where it really is, and lstat of the first.

    Directories may be in several layers (``places``, top first), all else is in one.
    """

    path: bytes
    places: tuple[bytes, ...]
    stat: os.stat_result

    @property
    def place(self) -> bytes:
        return self.places[0]

    @property
    def is_directory(self) -> bool:
        return stat.S_ISDIR(self.stat.st_mode)

    @property
    def is_link(self) -> bool:
        return stat.S_ISLNK(self.stat.st_mode)


class Layers:
    """The upper directories ``tops`` (top first) as overlayfs would merge them.

    Layers must be complete. No part of a place is a symbolic link, whatever the layers hold.
    """

    def __init__(self, tops: Sequence[str]) -> None:
        places = tuple(os.fsencode(top) for top in tops)
        self._root = Node(b"", places, os.stat(places[0])) if places else None

    def find(self, path: bytes) -> Node | None:
        """What is at ``path``, links followed on the way but not at its end; None for nothing."""
        above, _, name = path.rpartition(b"/")
        if not name:
            return self._root
        parent = self.resolve(above)
        return self._child(parent, name) if parent and parent.is_directory else None

    def resolve(self, path: bytes) -> Node | None:
        """What is at ``path`` with all links followed, as below a chroot; None for nothing."""
        if self._root is None:
            return None
        chain = [self._root]
        todo = path.split(b"/")[::-1]
        links = _MOST_LINKS
        while todo:
            part = todo.pop()
            if part in (b"", b"."):
                continue
            if part == b"..":
                chain = chain[:-1] or chain
                continue
            if not chain[-1].is_directory:
                return None
            node = self._child(chain[-1], part)
            if node is None:
                return None
            if not node.is_link:
                chain.append(node)
                continue
            links -= 1
            if links < 0:
                return None
            goal = os.readlink(node.place)
            if goal.startswith(b"/"):
                chain = chain[:1]
            todo += goal.split(b"/")[::-1]
        return chain[-1]

    def _child(self, parent: Node, name: bytes) -> Node | None:
        found: list[bytes] = []
        first: os.stat_result | None = None
        for place in parent.places:
            candidate = place + b"/" + name
            try:
                there = os.lstat(candidate)
            except FileNotFoundError:
                continue
            if is_whiteout(there):
                break
            if not stat.S_ISDIR(there.st_mode):
                if first is None:
                    found, first = [candidate], there
                break
            found.append(candidate)
            first = first or there
            if is_opaque(candidate):
                break
        return Node(joined(parent.path, name), tuple(found), first) if first else None
