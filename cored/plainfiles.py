"""Files of images and containers, read by a daemon that trusts neither."""

from __future__ import annotations

import errno
import os
import stat

from cored import linux

__all__ = ["head", "text"]

_MOST = 4 << 20


def head(root: str, path: str, most: int) -> bytes:
    """The beginning of a file, looked up as a process with that root would. Blocks. OSError.

    Only a plain file is opened: to open a FIFO or to read a device may never come to an end.
    """
    with linux.opened_below(root, path) as place:
        if not stat.S_ISREG(os.stat(place).st_mode):  # noqa: PTH116 - a descriptor's path
            raise OSError(errno.EINVAL, "not a plain file", path)
        with os.fdopen(os.open(place, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            return file.read(most)


def text(root: str, path: str) -> str:
    """A file such as /etc/passwd; '' where there is none. Lines from 4 MiB on are left out."""
    try:
        data = head(root, path, _MOST)
    except OSError:
        return ""
    if len(data) == _MOST:
        data = data[: data.rfind(b"\n") + 1]  # half a line could name another user
    return data.decode(errors="replace")
