"""One change of a project at a time, whoever asks for it on this machine."""

from __future__ import annotations

import fcntl
import hashlib
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["locked"]


@contextmanager
def locked(*project: str) -> Iterator[None]:
    """Hold the lock of what ``project`` names: the daemon's address, a namespace, a name.

    The file is gone when nobody holds it.
    """
    key = hashlib.sha256("\0".join(project).encode()).hexdigest()[:24]
    place = Path(os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir())
    path = place / f"corectl-compose-{os.getuid()}-{key}.lock"
    fd = _held(path)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(fd)


def _held(path: Path) -> int:
    told = False
    while True:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if not told:
                    print("corectl: another compose changes this project: waiting", file=sys.stderr)
                    told = True
                fcntl.flock(fd, fcntl.LOCK_EX)
            # the one that held it before may have removed it: that file is nobody's any more
            if _is_still(path, fd):
                return fd
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)


def _is_still(path: Path, fd: int) -> bool:
    try:
        there = path.stat(follow_symlinks=False)
    except FileNotFoundError:
        return False
    return os.path.samestat(there, os.fstat(fd))
