"""The keeper: the process that is the shim, beside workers that come and go.

A worker (a fork) does all that a shim does. When there is nothing to do it leaves its state and
its descriptors here and ends, and with it go all the pages that it has written to; the keeper
waits for something to happen, and forks the next one. Both are subreapers: what a worker starts is
its own child, and the keeper's when it has ended, who passes on how such children end.

What runs here runs in every shim's private memory: few objects, few calls.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import struct
import sys
import time
import traceback
from collections.abc import Callable, Collection

from cored import linux
from coreshim.hibernation import Parcel, receive

__all__ = ["EXIT", "SIGNALLED", "Keeper", "Work", "become_subreaper", "prepare"]

# pid, status (128+n for signal n, and then SIGNALLED, too), ns since the epoch
EXIT = struct.Struct("=iiq")
SIGNALLED = 1 << 16
_PR_SET_PDEATHSIG, _PR_SET_NAME, _PR_SET_CHILD_SUBREAPER = 1, 15, 36
_FULL = 100  # ms between two looks at a worker that takes nothing

Work = Callable[[socket.socket, Parcel | None], None]
"""A worker's life, with its end of the line: from the beginning, or from what the last one left.

The line is a SOCK_SEQPACKET socket. Exits of children come in, a parcel goes out before a worker
ends to sleep. What one worker has not read, the next one reads.
"""


def prepare() -> None:
    """What every keeper needs, for the process that forks them: done once, its pages are shared."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, _noted)
    _protect_manager()
    linux.prctl(_PR_SET_NAME, b"cored-shim")


def become_subreaper(on: bool) -> None:
    """Whether orphans among our descendants become our children (prctl(2))."""
    linux.prctl(_PR_SET_CHILD_SUBREAPER, int(on))


class Keeper:
    """One shim's keeper.

    The descriptors ``passed``, and the standard streams, are for the first worker only.
    """

    def __init__(self, work: Work, passed: Collection[int]) -> None:
        self._work = work
        self._passed = passed
        # a worker's end stays open here too: what is in it survives the worker
        self.line, self.far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._signals, self._signalled = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._worker = 0
        # whose ends matter; all, as far as we know, while there is a worker
        self._awaited: Collection[int] | None = None

    def run(self) -> None:
        """Be it; returns when a worker has ended without leaving anything."""
        os.setsid()
        os.chdir("/")
        become_subreaper(True)
        signal.set_wakeup_fd(self._signalled, warn_on_full_buffer=False)
        self.wake(None)
        self._let_go()
        while True:
            self.wait_for_worker()
            parcel = receive(self.line)
            if parcel is None:
                return
            self.sleep(parcel)
            self.wake(parcel)

    def close(self) -> None:
        """Let go of it, where it does not run."""
        self.line.close()
        self.far.close()
        os.close(self._signals)
        os.close(self._signalled)

    def wake(self, parcel: Parcel | None) -> None:
        """Fork a worker, which begins or goes on."""
        self._awaited = None
        pid = os.getpid()
        self._worker = os.fork()
        if self._worker == 0:
            self._be_worker(pid, parcel)
        if parcel is not None:
            for fd in parcel.descriptors:
                os.close(fd)

    def wait_for_worker(self) -> None:
        """Return when it has ended."""
        poll = select.poll()
        poll.register(self._signals, select.POLLIN)
        while self._worker:
            poll.poll()
            self.reap()

    def sleep(self, parcel: Parcel) -> None:
        """Return when there is something to do."""
        log, listener = parcel.descriptors[:2]
        os.dup2(log, 2)
        # whoever connects sees the keeper at the other end, and not a worker that is gone
        with socket.socket(fileno=os.dup(listener)) as shared:
            shared.listen(64)
        self._awaited = parcel.awaited
        poll = select.poll()
        poll.register(self._signals, select.POLLIN)
        poll.register(self.far, select.POLLIN)
        for fd, events in parcel.watched:
            poll.register(fd, events)
        while True:
            for fd, events in poll.poll():
                if fd == self._signals:
                    self.reap()
                elif events & select.POLLHUP and fd in parcel.callers and _left(fd):
                    # when the manager dies, all shims would wake at once, to find just that out
                    poll.unregister(fd)
                else:
                    return

    def _let_go(self) -> None:
        for fd in self._passed:
            os.close(fd)
        null = os.open(os.devnull, os.O_RDWR)
        for number in (0, 1, 2):
            os.dup2(null, number)
        os.close(null)

    def reap(self) -> None:
        """Pass on the ends of children; the worker's own clears ``_worker``."""
        try:
            os.read(self._signals, 4096)
        except BlockingIOError:
            return
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid == self._worker:
                self._worker = 0
            elif self._awaited is None or pid in self._awaited:
                self.tell(pid, status)

    def tell(self, pid: int, status: int) -> None:
        """Tell the worker, or whichever is the next, of an end (waitpid's status)."""
        code = os.waitstatus_to_exitcode(status)
        ended = EXIT.pack(pid, code if code >= 0 else 128 - code | SIGNALLED, time.time_ns())
        while True:
            try:
                self.line.send(ended, socket.MSG_DONTWAIT)
                return
            except BlockingIOError:
                poll = select.poll()
                poll.register(self.line, select.POLLOUT)
                if not poll.poll(_FULL) and not _alive(self._worker):
                    return  # nobody will read it: the shim ends with its worker

    def _be_worker(self, keeper: int, parcel: Parcel | None) -> None:
        status = 1
        try:
            signal.set_wakeup_fd(-1)
            linux.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() == keeper:  # else it has died before it could be noticed
                self.line.close()
                os.close(self._signals)
                os.close(self._signalled)
                become_subreaper(True)
                self._work(self.far, parcel)
                status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(status)


def _left(fd: int) -> bool:
    """Whether a connection has ended and nothing is to be read from it any more."""
    with socket.socket(fileno=os.dup(fd)) as shared:
        try:
            return not shared.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except OSError:
            return False


def _alive(pid: int) -> bool:
    """Whether a child has not ended yet, or has been reaped; leaves it to be reaped."""
    if not pid:
        return False
    found = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    return found is None


def _noted(number: int, frame: object) -> None:
    """The handler that SIGCHLD needs to have; the wake-up descriptor is what tells."""


def _protect_manager() -> None:
    """Where the manager is protected from the OOM killer, be one step before it."""
    fd = os.open("/proc/self/oom_score_adj", os.O_RDWR | os.O_CLOEXEC)
    score = int(os.read(fd, 16))
    if score < 0:  # otherwise leave it: containers inherit it, and may be unable to lower it
        os.pwrite(fd, b"%d" % (score + 1), 0)
    os.close(fd)
