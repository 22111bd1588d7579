"""Overlay mounts of steps: without the wait for a disk that each unmounting would be.

An overlay that goes has its whole upper file system synced first, unless it is volatile (5.10).
The kernel marks the work directory of such a mount, and mounts it no more until the mark is gone.
A step's files are then as durable as those of a layer that was pulled: ``corectl content check``
looks at both.
"""

from __future__ import annotations

import platform
import re
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from cored.abc.values import Mount

__all__ = ["beneath", "unmarked", "volatile"]


def volatile(mounts: Sequence[Mount]) -> Sequence[Mount]:
    """The same, volatile where that can be; to be :func:`unmarked` each time they go."""
    if _work(mounts) is None or not _known(platform.release()):
        return mounts
    (mount,) = mounts
    return [replace(mount, options=(*mount.options, "volatile"))]


def unmarked(mounts: Sequence[Mount]) -> None:
    """Take the kernel's mark away. Blocks."""
    work = _work(mounts)
    if work is not None and "volatile" in mounts[0].options:
        shutil.rmtree(Path(work) / "work/incompat", ignore_errors=True)


def beneath(mounts: Sequence[Mount]) -> Sequence[Mount]:
    """What lies below a writable overlay, to look at."""
    if _work(mounts) is None:
        return mounts
    (mount,) = mounts
    values = dict(option.partition("=")[::2] for option in mount.options)
    lowers = values["lowerdir"]
    if ":" in lowers:
        return [replace(mount, options=("ro", f"lowerdir={lowers}"))]
    return [Mount("bind", lowers.replace("\\", ""), "", ("rbind", "ro"))]


def _work(mounts: Sequence[Mount]) -> str | None:
    """The work directory of a writable overlay."""
    if len(mounts) != 1 or mounts[0].type != "overlay" or mounts[0].target:
        return None
    values = dict(option.partition("=")[::2] for option in mounts[0].options)
    return values.get("workdir") if "upperdir" in values else None


def _known(release: str) -> bool:
    match = re.match(r"(\d+)\.(\d+)", release)
    return match is not None and (int(match[1]), int(match[2])) >= (5, 10)
