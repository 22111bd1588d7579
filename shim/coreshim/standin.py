"""A child that stands for a container which is not one: gVisor's, in the sandbox of another shim.

It waits to be told that the container has started, then runs the runtime's ``wait``, and ends with
the container's exit status: what looks after children looks after it. Until the start it also keeps
the container's streams, which runsc wants then.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from coreshim.reaper import Reaper

__all__ = ["begin", "go", "streams", "there"]

_TRIES = 2000

# {"id":"…","exitStatus":3}
_SCRIPT = """\
read _ <"$0" || exit 137
said=$("$@" 2>/dev/null) || exit 137
said=${said##*\\"exitStatus\\":}
exit "${said%%[!0-9]*}"
"""


def begin(reaper: Reaper, bundle: str, files: Mapping[int, int], wait: Sequence[str]) -> int:
    """Its pid; ``wait`` is the runtime's command, ``files`` the container's streams. OSError."""
    path = _path(bundle)
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
    """The container has been started."""
    for _ in range(_TRIES):
        try:
            fd = os.open(_path(bundle), os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            time.sleep(0.005)  # it does not listen yet
            continue
        os.write(fd, b"\n")
        os.close(fd)
        return


def there(bundle: str) -> bool:
    """Whether a container is in the sandbox of another shim."""
    return os.path.exists(_path(bundle))


def _path(bundle: str) -> str:
    return os.path.join(bundle, "started")
