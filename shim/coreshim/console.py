"""Where the runtime sends a terminal's master: ``--console-socket``."""

from __future__ import annotations

import os
import socket

from coreshim.loop import READ, Future, Loop
from coreshim.server import UNKNOWN, Failure

__all__ = ["SOCKETS", "Console"]

SOCKETS = "/run/cored-shim"
_PATIENCE = 10.0


class Console:
    """A listening socket of its own; ``close`` removes it, and the master if nobody took it."""

    def __init__(self, loop: Loop, name: str) -> None:
        self._loop = loop
        # short: sun_path has 107 bytes, and bundles have longer names
        self.path = f"{SOCKETS}/{name}.console"
        self._received = Future(loop)
        self._master = -1
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        previous = os.umask(0o177)
        try:
            self._listener.bind(self.path)
        except BaseException:
            self._listener.close()
            raise
        finally:
            os.umask(previous)
        self._listener.listen(1)
        self._listener.setblocking(False)
        loop.watch(self._listener.fileno(), READ, self._ready)

    async def take(self) -> int:
        """The master's descriptor, which is the caller's from now on. Failure."""
        late = Failure(UNKNOWN, "terminal: the OCI runtime has sent none")
        self._loop.later(_PATIENCE, lambda: self._received.set(error=late))
        await self._received
        master, self._master = self._master, -1
        return master

    def close(self) -> None:
        self._loop.unwatch(self._listener.fileno())
        self._listener.close()
        os.unlink(self.path)
        if self._master >= 0:
            os.close(self._master)
            self._master = -1

    def _ready(self, events: int) -> None:
        try:
            channel, _ = self._listener.accept()
            with channel:
                channel.settimeout(_PATIENCE)
                _, fds, _, _ = socket.recv_fds(channel, 4096, 1)
        except BlockingIOError:
            return
        except OSError as error:
            self._received.set(error=Failure(UNKNOWN, f"terminal: {error.strerror}"))
            return
        if fds and self._master < 0:
            os.set_inheritable(fds[0], False)
            self._master = fds[0]
            self._received.set()
