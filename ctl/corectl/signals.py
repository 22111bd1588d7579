"""Signals of corectl passed on to a container; Ctrl-C escalates until the container ends."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from corectl.report import say

__all__ = ["Forwarder", "heard"]

_PASSED = (
    signal.SIGINT,
    signal.SIGTERM,
    signal.SIGHUP,
    signal.SIGQUIT,
    signal.SIGUSR1,
    signal.SIGUSR2,
)
_LADDER = (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)
# seconds after which the next step follows: for a process that hears the signal, or does not
_PATIENCE = {signal.SIGINT: 2.0, signal.SIGTERM: 10.0}
_UNHEARD = 0.5


def heard(pid: int, number: int) -> bool:
    """Whether a signal can have an effect on a first process.

    The kernel drops what such a process has no handler for, so that most programs cannot be
    interrupted as pid 1. Blocked signals count as heard: somebody may be waiting for them.
    """
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return True
    for line in status.splitlines():
        name, _, value = line.partition(":")
        if name in ("SigCgt", "SigBlk") and int(value, 16) >> (number - 1) & 1:
            return True
    return False


class Forwarder:
    """Takes this process's signals, in a thread of its own, while the context lasts.

    ``send`` delivers a number to the container and answers whether it could; ``resized`` is
    called when the window changes; ``abandon`` when the user insists and nothing can be sent.
    ``pid`` is the container's first process, 0 while unknown. Enter it before other threads are
    started: they have to inherit the signal mask.
    """

    def __init__(
        self,
        name: str,
        send: Callable[[int], bool],
        *,
        resized: Callable[[], None],
        abandon: Callable[[], None],
        patience: float = 1.0,
    ) -> None:
        self._name = name
        self._send, self._resized, self._abandon = send, resized, abandon
        self._scale = patience
        self.pid = 0
        self._step = -1
        self._failures = 0
        self._next: float | None = None
        self._ending = self._quiet = False
        # what our parent had us ignore (nohup, a shell's background) stays ignored
        self._signals = {s for s in _PASSED if signal.getsignal(s) is not signal.SIG_IGN}
        self._signals.add(signal.SIGWINCH)
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._before = signal.pthread_sigmask(signal.SIG_BLOCK, self._signals)
        return self

    def start(self) -> None:
        """Begin to forward; what came since the context was entered goes first."""
        self._thread.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ending = True
        if self._thread.is_alive() and self._thread.ident is not None:
            signal.pthread_kill(self._thread.ident, signal.SIGWINCH)
            self._thread.join(1.0)
            # the container has ended: a late Ctrl-C has nothing left to end
            while signal.sigtimedwait(self._signals, 0) is not None:
                continue
        signal.pthread_sigmask(signal.SIG_SETMASK, self._before)

    def interrupt(self) -> None:
        """Take the steps of the ladder as after Ctrl-C, but without a word."""
        self._quiet = True
        # to the process: raise_signal would leave it pending for the calling thread
        os.kill(os.getpid(), signal.SIGINT)

    def _run(self) -> None:
        while not self._ending:
            number = self._wait()
            if self._ending:
                return
            if number is None:
                self._escalate(by_user=False)
            elif number == signal.SIGWINCH:
                self._resized()
            elif number == signal.SIGINT:
                self._escalate(by_user=True)
            else:
                self._send(number)

    def _wait(self) -> int | None:
        """The next signal, or None when it is time for the next step."""
        if self._next is None:
            return signal.sigwait(self._signals)
        left = self._next - time.monotonic()
        found = signal.sigtimedwait(self._signals, max(0.0, left))
        return None if found is None else found.si_signo

    def _escalate(self, *, by_user: bool) -> None:
        if by_user and self._step >= 0 and self._failures:
            self._abandon()
            return
        before = _LADDER[self._step] if self._step >= 0 else None
        self._step = min(self._step + 1, len(_LADDER) - 1)
        number = _LADDER[self._step]
        if before is not None and not by_user and before is not number and not self._quiet:
            say(f"{self._name}: {before.name} did not end it, sending {number.name}")
        known = heard(self.pid, number) if self.pid else True
        sent = self._send(number)
        self._failures = 0 if sent else self._failures + 1
        patience = _PATIENCE.get(number)
        if not sent or patience is None:
            self._next = None
        else:
            self._next = time.monotonic() + (patience if known else _UNHEARD) * self._scale
