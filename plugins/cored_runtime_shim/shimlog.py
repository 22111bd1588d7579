"""The ``log`` FIFOs of strangers' shims, which will not start without one."""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress

from cored import log
from cored_runtime_shim.bundle import Bundle

__all__ = ["ShimLogs"]


class ShimLogs:
    """One reader for each bundle that has such a FIFO."""

    def __init__(self) -> None:
        self._open: dict[str, int] = {}

    def open(self, bundle: Bundle) -> None:
        """Make the FIFO if need be, and read it from now on."""
        path = bundle.path / "log"
        with suppress(FileExistsError):
            os.mkfifo(path, 0o600)
        # for writing too: there is no end of file when a shim opens it anew
        fd = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        self._open[os.fspath(bundle.path)] = fd
        logger = log.get("shim").bind(namespace=bundle.namespace, container=bundle.id)

        def ready() -> None:
            with suppress(BlockingIOError):
                text = os.read(fd, 1 << 16).decode(errors="replace")
                for line in text.splitlines():
                    logger.debug("shim says", line=line)

        asyncio.get_running_loop().add_reader(fd, ready)

    def close(self, bundle: Bundle) -> None:
        """Stop reading; fine where nothing is read."""
        fd = self._open.pop(os.fspath(bundle.path), None)
        if fd is not None:
            asyncio.get_running_loop().remove_reader(fd)
            os.close(fd)

    def close_all(self) -> None:
        """Stop reading all of them; the shims live on, and wait when the pipe is full."""
        loop = asyncio.get_running_loop()
        for fd in self._open.values():
            loop.remove_reader(fd)
            os.close(fd)
        self._open.clear()
