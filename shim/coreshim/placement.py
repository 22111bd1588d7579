"""Where runc's options want a shim and its streams: in a cgroup, and somebody's."""

from __future__ import annotations

import glob
import os
import stat
from collections.abc import Iterable, Sequence

from coreshim.server import INVALID, Failure

__all__ = ["give", "join_cgroup"]

_CGROUP = "/sys/fs/cgroup"


def join_cgroup(path: str, pids: Sequence[int], root: str = _CGROUP) -> None:
    """Move processes into an existing cgroup, in every hierarchy that has it. Failure."""
    inside = os.path.normpath(f"/{path}").lstrip("/")
    if os.path.exists(f"{root}/cgroup.controllers"):
        places = [f"{root}/{inside}"]
    else:
        places = [f"{hierarchy}/{inside}" for hierarchy in sorted(glob.glob(f"{root}/*"))]
    found = [place for place in places if os.path.isfile(f"{place}/cgroup.procs")]
    if not found:
        raise Failure(INVALID, f"shim cgroup {path!r}: does not exist")
    for place in found:
        try:
            for pid in pids:
                with open(f"{place}/cgroup.procs", "w") as file:
                    file.write(str(pid))
        except OSError as error:
            raise Failure(
                INVALID, f"shim cgroup {path!r}: cannot be joined: {error.strerror}"
            ) from error


def give(files: Iterable[int], uid: int, gid: int) -> None:
    """Let pipes and FIFOs be a user's, who may open them anew by /dev/stdout."""
    if not uid and not gid:
        return
    for fd in files:
        if stat.S_ISFIFO(os.fstat(fd).st_mode):
            os.fchown(fd, uid, gid)
