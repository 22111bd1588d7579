"""Directories that the daemon keeps things in."""

from __future__ import annotations

from pathlib import Path

from cored import linux
from cored.errors import from_os_error

__all__ = ["directory", "emptied", "private"]


def directory(path: Path, mode: int) -> Path:
    """See that a directory is there."""
    try:
        path.mkdir(mode=mode, parents=True, exist_ok=True)
    except OSError as error:
        raise from_os_error(f"directory {path}", error) from error
    return path


def private(path: Path) -> Path:
    """A directory that nobody else looks into, also one that somebody has made for us."""
    directory(path, 0o700)
    path.chmod(0o700)
    return path


def emptied(path: Path) -> Path:
    """A directory for mounts of the moment, without those that a crash has left."""
    directory(path, 0o700)
    for place in path.iterdir():
        linux.unmount_all(place, lazy=True)
        place.rmdir()
    return path
