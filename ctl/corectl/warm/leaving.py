"""Leave a keeper behind: one for each likeness, whoever else wants to at the same time.

Who leaves one holds the lock beside its socket and hands it on. The kernel gives it back, however
the keeper ends, and the next keeper of any likeness removes what is left of it.
"""

from __future__ import annotations

import fcntl
import os
import sys
from contextlib import suppress

__all__ = ["CLAIM", "claimed", "leave_one", "removed", "swept"]

CLAIM = 3  # the number that the lock has in a keeper
_LIKENESS = 60_000  # a pipe takes it without anybody who reads
_LOCK = ".lock"


def leave_one(place: str, likeness: bytes, seconds: str) -> None:
    """Start a keeper at ``place`` if there is none; it has nothing else of this process's."""
    claim = claimed(place)
    if claim is None:
        return
    reading, writing = os.pipe()
    os.write(writing, likeness[:_LIKENESS])
    os.close(writing)
    others = {int(name) for name in os.listdir("/proc/self/fd")} - {0, 1, 2, CLAIM}
    os.posix_spawn(
        sys.executable,
        [sys.executable, "-m", "corectl.warm.keeper", place, seconds],
        os.environ,
        file_actions=[
            (os.POSIX_SPAWN_DUP2, reading, 0),
            (os.POSIX_SPAWN_DUP2, claim, CLAIM),
            (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
            (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
            *((os.POSIX_SPAWN_CLOSE, file) for file in others),
        ],
        setsid=True,
    )


def claimed(place: str) -> int | None:
    """The lock of ``place``, an open file; None when somebody has it, or there can be none."""
    try:
        file = os.open(place + _LOCK, os.O_CREAT | os.O_RDONLY | os.O_CLOEXEC, 0o600)
    except OSError:
        # the directory has just gone with the last pipe in it
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(file)
        return None
    return file


def swept(place: str) -> None:
    """Remove what killed keepers have left beside ``place``."""
    directory, _, own = place.rpartition("/")
    for name in os.listdir(directory):
        if name.startswith("warm-") and name.endswith(_LOCK) and name != own + _LOCK:
            other = f"{directory}/{name.removesuffix(_LOCK)}"
            claim = claimed(other)
            if claim is not None:
                removed(other, claim)


def removed(place: str, claim: int) -> None:
    """Remove a keeper's files and give its lock back."""
    for path in (place, place + _LOCK):
        with suppress(FileNotFoundError):
            os.unlink(path)
    os.close(claim)
