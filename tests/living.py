"""Directories that somebody works in while they are looked at, and removed."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path

from tests.patience import eventually

__all__ = ["glob", "remove", "remove_cgroups"]


def glob(place: Path, pattern: str) -> list[Path]:
    """As Path.glob, which fails when a directory goes while it is below it."""
    while True:
        try:
            return list(place.glob(pattern))
        except (FileNotFoundError, NotADirectoryError):
            continue


def remove_cgroups(pattern: str) -> None:
    """Remove cgroups that are, or soon will be, without processes, in every hierarchy."""

    def gone() -> bool:
        for path in sorted(glob(Path("/sys/fs/cgroup"), pattern), reverse=True):
            with suppress(OSError):  # what was killed takes a moment to be gone
                path.rmdir()
        return not glob(Path("/sys/fs/cgroup"), pattern)

    eventually(gone, why=lambda: f"in use: {glob(Path('/sys/fs/cgroup'), pattern)}")


def remove(place: Path) -> None:
    """Remove a tree in which a process that ends may still make files."""

    def gone() -> bool:
        shutil.rmtree(place, ignore_errors=True)
        return not place.exists()

    eventually(gone, why=lambda: f"cannot be removed: {[*os.walk(place)]}")
