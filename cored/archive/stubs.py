"""What a runtime makes to mount on: empty files and directories that no layer should keep."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable

from cored.archive.tree import joined

__all__ = ["Stubs"]


class Stubs:
    """Those in the tree ``upper`` that ``lower`` does not have, at the ``places`` of mounts."""

    def __init__(self, lower: bytes, upper: bytes, places: Iterable[str]) -> None:
        self._lower, self._upper = lower, upper
        self._places: set[bytes] = set()
        for place in places:
            path = os.fsencode(place).strip(b"/")
            while path:
                self._places.add(path)
                path = path.rpartition(b"/")[0]

    def has(self, path: bytes) -> bool:
        """Whether this is one, or a directory with nothing else in it. OSError."""
        if path not in self._places:
            return False
        if self._lower and os.path.lexists(joined(self._lower, path)):
            return False
        there = os.lstat(joined(self._upper, path))
        if stat.S_ISREG(there.st_mode):
            return there.st_size == 0
        return stat.S_ISDIR(there.st_mode) and all(
            self.has(joined(path, os.fsencode(name)))
            for name in os.listdir(joined(self._upper, path))
        )
