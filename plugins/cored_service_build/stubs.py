"""Places for mounts: a runtime makes those that are missing, and no image should keep them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from cored_service_build.trees import resolved

__all__ = ["Stubs"]


@dataclass(frozen=True, slots=True)
class Stubs:
    """What was missing before a step ran, deepest first, and its directories' times (path, ns)."""

    missing: tuple[str, ...]
    times: tuple[tuple[str, int, int], ...]

    @classmethod
    def before(cls, root: Path, targets: Sequence[str]) -> Stubs:
        """Look for the mounts' targets below ``root``. Blocks."""
        missing: set[str] = set()
        times: dict[str, tuple[int, int]] = {}
        for target in targets:
            place = resolved(root, target)
            if os.path.lexists(place):
                continue
            while not os.path.lexists(place):
                missing.add(os.fspath(place.relative_to(root)))
                place = place.parent
            there = os.lstat(place)
            times[os.fspath(place.relative_to(root))] = (there.st_atime_ns, there.st_mtime_ns)
        deepest = sorted(missing, key=lambda path: -path.count("/"))
        return cls(tuple(deepest), tuple((path, *ns) for path, ns in times.items()))

    def remove(self, root: Path) -> None:
        """Take away those that are empty still, and set the times back. Blocks.

        ``root`` may be an overlay's upper directory: what was missing can be nowhere else.
        """
        removed = False
        for path in self.missing:
            place = root / path
            with suppress(OSError):  # the step has put something into it, or taken it away
                if place.is_symlink() or resolved(root, path) != place:
                    continue
                if place.is_dir():
                    place.rmdir()
                    removed = True
                elif place.stat().st_size == 0:
                    place.unlink()
                    removed = True
        for path, accessed, modified in self.times if removed else ():
            with suppress(FileNotFoundError):
                os.utime(root / path, ns=(accessed, modified))
