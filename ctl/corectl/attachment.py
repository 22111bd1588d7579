"""A container in the foreground: its streams, signals and terminal are ours until it ends."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING

from corectl.relay import Relays
from corectl.report import say
from corectl.signals import Forwarder
from corectl.terminal import RawTerminal, window
from cored.client.connection import Disconnected
from cored.errors import (
    Cancelled,
    CoredError,
    DeadlineExceeded,
    FailedPrecondition,
    NotFound,
    Unavailable,
)

if TYPE_CHECKING:
    from corectl.fifos import Fifos
    from corectl.keys import DetachKeys
    from cored._pb.cored.workloads.v1 import processes_pb2
    from cored._pb.cored.workloads.v1 import workloads_pb2 as pb
    from cored.client.channel import Pending
    from cored.client.workloads import Workloads

__all__ = ["LOST", "Attachment", "ExecAttachment"]

# what calls end with when the daemon goes away under them
LOST = (Disconnected, Unavailable, Cancelled)
_CALL = 10.0
_ABSENCE = 60.0
_RETRY = 0.2
_SILENCE = 10.0


class Attachment:
    """Joins a container that exists, with the pipes it was made with, to this process.

    ``terminal`` when the container has one, ``raw`` when keys go to it; ``keys`` leave it, and
    without ``proxy`` signals stay here; ``remote`` is one on another host. :meth:`run` returns its
    exit code, also when the daemon dies meanwhile and another one comes (on this host); 0 when it
    was left, and ``detached`` says so.
    """

    _errors_later = False

    def __init__(
        self,
        workloads: Workloads,
        container: str,
        name: str,
        fifos: Fifos,
        *,
        terminal: bool,
        raw: bool,
        keys: DetachKeys | None = None,
        proxy: bool = True,
        remote: bool = False,
    ) -> None:
        self._workloads = workloads
        self._container, self._name = container, name
        self._fifos = fifos
        self._terminal, self._raw = terminal, raw
        self._keys, self._proxy = keys, proxy
        self._remote = remote
        self.detached = False
        self._pending: Pending[pb.WaitResponse] | None = None
        self._cut: CoredError | None = None
        self._abandoned = threading.Event()

    def run(self, start: Callable[[], int], *, wait_first: bool, input_first: bool = True) -> int:
        """Start the container with ``start`` (its pid) and stay until it ends and all is copied.

        ``wait_first`` for a container that has never run: its end is then awaited before it
        begins, and cannot be missed by one that removes itself. Without ``input_first`` input is
        passed on when ``start`` is over: one who joins sees what comes of it only then.
        """
        forwarder = Forwarder(self._name, self._send, resized=self._resize, abandon=self._abandon)
        relays = Relays(
            self._fifos, broken=forwarder.interrupt, keys=self._keys, detached=self._detach,
            errors_later=self._errors_later,
        )  # fmt: skip
        with ExitStack() as stack:
            stack.enter_context(forwarder)
            if self._raw:
                stack.enter_context(RawTerminal(0))
            stack.enter_context(relays)
            forwarder.start()
            try:
                if wait_first:
                    self._pending = self._ask()
                if input_first:
                    relays.begin_input()
                pid = self._begun(start)
                relays.begin_errors()
                forwarder.pid = 0 if self._remote else pid
                if not input_first:
                    relays.begin_input()
                if self._terminal:
                    self._resize()
                status = self._outcome(relays)
            finally:
                if self._pending is not None:
                    self._pending.cancel()
            if self.detached:
                return 0
            if not relays.drain(_SILENCE):
                say(f"{self._name}: its output stays open after its end: some may be missing")
            return status

    def _begun(self, start: Callable[[], int]) -> int:
        """Start it; its pid. A daemon that dies over it leaves the next one to say how far it got.

        0 when it has ended already.
        """
        try:
            return start()
        except LOST as error:
            found = self._found(error)
        return start() if found.status == "created" else found.pid

    def _found(self, lost: CoredError) -> pb.Container:
        """What the next daemon knows of it; ``lost`` when none comes."""
        end = time.monotonic() + _ABSENCE
        while True:
            try:
                return self._workloads.inspect(self._container).container
            except LOST as error:
                if self._abandoned.is_set() or time.monotonic() > end:
                    raise lost from error
                self._abandoned.wait(_RETRY)

    def _outcome(self, relays: Relays) -> int:
        """The exit code; asks the next daemon when this one goes away."""
        lost = time.monotonic()
        while True:
            try:
                if self._pending is None:
                    self._pending = self._ask()
                if self.detached:
                    return 0
                if self._cut is not None:
                    raise self._cut
                return self._pending.result().exit_status
            except LOST as error:
                if self.detached:
                    return 0
                if self._cut is not None:
                    raise self._left(self._cut) from error
                self._pending = None
                if relays.open:
                    # it lives on under its shim, and so do we
                    lost = time.monotonic()
                if self._abandoned.is_set() or time.monotonic() - lost > _ABSENCE:
                    raise Unavailable(
                        f"container '{self._name}': exit code unknown: {error.message}"
                    ) from error
                self._abandoned.wait(_RETRY)

    def cut(self, error: CoredError) -> None:
        """Give up: its streams come no more. For other threads."""
        self._cut = error
        self._abandon()

    def _left(self, error: CoredError) -> CoredError:
        """What is to be said of one that goes on without us."""
        return Unavailable(
            f"container '{self._name}': {error.message}; it goes on",
            hint=f"join it again with: corectl attach {self._name}",
        )

    def _ask(self) -> Pending[pb.WaitResponse]:
        return self._workloads.wait(self._container)

    def _kill(self, number: int) -> None:
        self._workloads.kill(self._container, number, timeout=_CALL)

    def _set_size(self, width: int, height: int) -> None:
        self._workloads.resize(self._container, width, height, timeout=_CALL)

    def _detach(self) -> None:
        self.detached = True
        pending = self._pending
        if pending is not None:
            pending.interrupt()

    def _send(self, number: int) -> bool:
        if not self._proxy:
            if number == signal.SIGINT:
                self._detach()
            return True
        try:
            self._kill(number)
        except (NotFound, FailedPrecondition):
            # ended, or not started yet
            return True
        except (Unavailable, DeadlineExceeded) as error:
            say(f"{error}; Ctrl-C again leaves the container alone")
            return False
        except CoredError as error:
            say(str(error))
            return False
        return True

    def _abandon(self) -> None:
        self._abandoned.set()
        pending = self._pending
        if pending is not None:
            pending.interrupt()

    def _resize(self) -> None:
        size = window() if self._terminal else None
        if size is None:
            return
        try:
            self._set_size(*size)
        except (NotFound, FailedPrecondition, Unavailable, DeadlineExceeded):
            # ended already, or nobody to tell: the next change of size tells again
            return


class ExecAttachment(Attachment):
    """The same with one more command in a container, which :meth:`begin` starts."""

    _exec_id = ""
    # runtimes write why they could not start it there, and the daemon says it to us
    _errors_later = True

    def begin(self, request: processes_pb2.ExecRequest) -> int:
        """Start it; its pid."""
        started = self._workloads.exec(request)
        self._exec_id = started.exec_id
        return started.pid

    def _begun(self, start: Callable[[], int]) -> int:
        # nothing is known of a command whose start was not answered
        return start()

    def _left(self, error: CoredError) -> CoredError:
        return Unavailable(
            f"container '{self._name}': {error.message}; the command goes on without us",
            hint="see corectl top",
        )

    def _ask(self) -> Pending[pb.WaitResponse]:
        return self._workloads.wait_exec(self._container, self._exec_id)

    def _kill(self, number: int) -> None:
        if self._exec_id:
            self._workloads.kill_exec(self._container, self._exec_id, number, timeout=_CALL)

    def _set_size(self, width: int, height: int) -> None:
        self._workloads.resize_exec(self._container, self._exec_id, width, height, timeout=_CALL)
