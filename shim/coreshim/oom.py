"""The kernel's kills for want of memory: seen as they happen, counted once.

cgroup v1 tells through an eventfd (memory.oom_control), v2 by making memory.events readable anew
(EPOLLPRI); the counters in those files say how many there were.
"""

from __future__ import annotations

import os
import select
from collections.abc import Callable, Sequence
from contextlib import suppress

from coreshim.hibernation import Luggage, State
from coreshim.loop import READ, Loop

__all__ = ["OomWatch"]


class OomWatch:
    """Calls ``tell`` for each kill that it sees."""

    def __init__(self, loop: Loop, tell: Callable[[], None]) -> None:
        self._loop = loop
        self._tell = tell
        self._seen = 0
        self._counts = -1
        self._signal = -1

    def open(self, places: Sequence[str]) -> None:
        """Watch that cgroup among ``places`` which counts kills, if any."""
        for place in places:
            if self._open(f"{place}/memory.events"):
                self._watch()
                return
            if self._open(f"{place}/memory.oom_control"):
                self._signal = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
                self._watch()
                with open(f"{place}/cgroup.event_control", "w") as file:
                    file.write(f"{self._signal} {self._counts}")
                return

    def pack(self, luggage: Luggage) -> State:
        """What :meth:`unpack` needs."""
        counts, signal = luggage.pack(self._counts), luggage.pack(self._signal)
        return {"counts": counts, "signal": signal, "seen": self._seen}

    def unpack(self, state: State, luggage: Luggage) -> None:
        """Go on where an earlier watch has stopped."""
        self._counts, self._signal = (
            luggage.unpack(state["counts"]),
            luggage.unpack(state["signal"]),
        )
        self._seen = state["seen"]
        self._watch()

    def check(self) -> bool:
        """Look now, before something else is told; whether there were kills nobody had heard of."""
        if self._counts < 0:
            return False
        try:
            text = os.pread(self._counts, 4096, 0)
        except OSError:  # ENODEV: the cgroup has gone
            self.close()
            return False
        counts = dict(line.split() for line in text.splitlines())
        found = int(counts.get(b"oom_kill", 0))
        news = found > self._seen
        while self._seen < found:
            self._seen += 1
            self._tell()
        return news

    @property
    def seen(self) -> int:
        """How many kills there were."""
        return self._seen

    def close(self) -> None:
        """Stop watching. May be called twice."""
        for fd in (self._signal, self._counts):
            if fd >= 0:
                self._loop.unwatch(fd)
                os.close(fd)
        self._signal = self._counts = -1

    def _watch(self) -> None:
        if self._signal >= 0:
            self._loop.watch(self._signal, READ, self._ready)
        elif self._counts >= 0:
            self._loop.watch(self._counts, select.EPOLLPRI, self._ready)

    def _open(self, path: str) -> bool:
        with suppress(FileNotFoundError):
            self._counts = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        return self._counts >= 0

    def _ready(self, events: int) -> None:
        if self._signal >= 0:
            with suppress(BlockingIOError):
                os.eventfd_read(self._signal)
        self.check()
