"""A child that stands for a container which is not one: gVisor's, in the sandbox of another shim.

It waits to be told that the container has started, then runs the runtime's ``wait``, and ends with
the container's exit status: what looks after children looks after it. Until the start it also keeps
the container's streams, which runsc wants then.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress

from coreshim.reaper import Reaper

__all__ = ["begin", "go", "streams"]

# {"id":"…","exitStatus":3}
_SCRIPT = """\
read _ <"$0" || exit 137
said=$("$@" 2>/dev/null) || exit 137
said=${said##*\\"exitStatus\\":}
exit "${said%%[!0-9]*}"
"""


def begin(reaper: Reaper, bundle: str, files: Mapping[int, int], wait: Sequence[str]) -> int:
    """Its pid; ``wait`` is the runtime's command, ``files`` the container's streams. OSError."""
    path = os.path.join(bundle, "started")
    os.mkfifo(path, 0o600)
    return reaper.spawn(["sh", "-c", _SCRIPT, path, *wait], {0: 0, 1: 1, 2: 2, **files})


@contextmanager
def streams(pid: int) -> Iterator[dict[int, int]]:
    """The streams that a stand-in keeps, opened anew. OSError when it has gone."""
    found: dict[int, int] = {}
    try:
        for number, mode in enumerate((os.O_RDONLY, os.O_WRONLY, os.O_WRONLY)):
            found[number] = os.open(f"/proc/{pid}/fd/{number}", mode | os.O_CLOEXEC)
        yield found
    finally:
        for fd in found.values():
            os.close(fd)


def go(bundle: str) -> None:
    """The container has been started; nothing happens where nobody stands for it."""
    path = os.path.join(bundle, "started")
    with suppress(FileNotFoundError):
        # for reading too, so that it does not matter who is there first
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            os.write(fd, b"\n")
            os.unlink(path)
        finally:
            os.close(fd)
