"""Children: started with posix_spawn, reaped by SIGCHLD, and no exit is ever missed.

What came to be in this worker's time is its child (it is a subreaper), what is older the keeper's,
which tells how it ended.
"""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from coreshim.keeper import EXIT, SIGNALLED
from coreshim.loop import READ, Future, Loop

__all__ = ["Ended", "Reaper"]


_DEFAULT_SIGNALS = [
    signal.SIGCHLD, signal.SIGHUP, signal.SIGINT, signal.SIGPIPE, signal.SIGTERM, signal.SIGXFSZ
]  # fmt: skip


class Ended(NamedTuple):
    """How a child ended: 128+n for signal n, and ``signalled``; ns since the epoch."""

    status: int
    at: int
    signalled: bool = False


class Reaper:
    """Ends come from ``line`` too (see keeper.py), also before anybody has asked for them."""

    def __init__(self, loop: Loop, line: socket.socket) -> None:
        self._loop = loop
        self._line = line
        self._awaited: dict[int, Future] = {}
        self._early: dict[int, Ended] = {}
        self._starting = 0
        self._inbox, self._outbox = socket.socketpair()
        self._inbox.setblocking(False)
        self._outbox.setblocking(False)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        signal.set_wakeup_fd(self._outbox.fileno(), warn_on_full_buffer=False)
        loop.watch(self._inbox.fileno(), READ, self._signalled)
        loop.watch(line.fileno(), READ, self._told)

    def ended(self, pid: int) -> Future:
        """A future for the :class:`Ended` of ``pid``, settled already when it has."""
        future = self._awaited.get(pid)
        if future is None:
            future = self._awaited[pid] = Future(self._loop)
            if pid in self._early:
                del self._awaited[pid]
                future.set(self._early.pop(pid))
        return future

    def spawn(
        self,
        arguments: Sequence[str],
        files: Mapping[int, int],
        environment: Mapping[str, str] | None = None,
    ) -> int:
        """Start a program with ``files`` (its descriptor: ours) and no others; its pid."""
        actions = [(os.POSIX_SPAWN_DUP2, mine, theirs) for theirs, mine in files.items()]
        return os.posix_spawnp(
            arguments[0],
            list(arguments),
            os.environ if environment is None else environment,
            file_actions=actions,
            # what is ignored or blocked here would be so in the container too
            setsigmask=[],
            setsigdef=_DEFAULT_SIGNALS,
        )

    def close(self) -> None:
        """Stop listening for SIGCHLD."""
        signal.set_wakeup_fd(-1)
        self._loop.unwatch(self._line.fileno())
        self._loop.unwatch(self._inbox.fileno())
        self._inbox.close()
        self._outbox.close()

    @property
    def descriptors(self) -> frozenset[int]:
        """What is waited for here, and by nobody who comes after us."""
        return frozenset((self._inbox.fileno(), self._line.fileno()))

    @property
    def starting(self) -> bool:
        """Whether a start is under way: between :meth:`begin` and :meth:`settle`."""
        return self._starting > 0

    def begin(self) -> None:
        """From now on keep the ends of children that nobody knows yet: one will be asked for."""
        self._starting += 1

    def settle(self) -> None:
        """That start is over, and its child has been asked for."""
        self._starting -= 1
        if not self._starting:
            self._early.clear()

    def _signalled(self, events: int) -> None:
        try:
            self._inbox.recv(4096)
        except BlockingIOError:
            return
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            code = os.waitstatus_to_exitcode(status)
            self._ended(pid, Ended(abs(code) + 128 * (code < 0), time.time_ns(), code < 0))

    def _told(self, events: int) -> None:
        pid, status, at = EXIT.unpack(self._line.recv(EXIT.size))
        self._ended(pid, Ended(status & ~SIGNALLED, at, bool(status & SIGNALLED)))

    def _ended(self, pid: int, ended: Ended) -> None:
        future = self._awaited.pop(pid, None)
        if future is not None:
            future.set(ended)
        elif self._starting:
            self._early[pid] = ended
