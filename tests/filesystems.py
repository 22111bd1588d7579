"""Filesystems in files, for what only some of them can do."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["btrfs"]


@contextmanager
def btrfs(scratch: Path, size: int = 256 << 20) -> Iterator[Path]:
    """A btrfs in a sparse file below ``scratch``, mounted there while the body runs."""
    image, top = scratch / "btrfs.img", scratch / "btrfs"
    with image.open("wb") as file:
        file.truncate(size)
    subprocess.run(["mkfs.btrfs", "--quiet", str(image)], check=True)
    top.mkdir()
    # mount(8) gives the file a loop device that goes with the mount
    subprocess.run(["mount", "-o", "loop", str(image), str(top)], check=True)
    try:
        yield top
    finally:
        subprocess.run(["umount", str(top)], check=True)
        image.unlink()
