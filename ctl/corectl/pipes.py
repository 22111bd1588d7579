"""The pipes between corectl and a process, wherever the daemon is.

On this host they are FIFOs that the shim opens: whatever becomes of the daemon, they stay. With a
daemon on another host it has FIFOs, we have FIFOs, and a call relays between the two.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from corectl.fifos import Fifos

if TYPE_CHECKING:
    from corectl.session import Session
    from cored._pb.cored.workloads.v1 import workloads_pb2 as pb
    from cored.client.duplex import Duplex
    from cored.errors import CoredError

__all__ = ["Pipes", "pipes"]

_WRITE = os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC


class Pipes:
    """``ours`` are for us to open, ``stdio`` is what the daemon is told."""

    def __init__(self, ours: Fifos) -> None:
        self.ours = ours
        self.stdin, self.stdout, self.stderr = ours.stdin, ours.stdout, ours.stderr
        self.kept = False
        self._cut: CoredError | None = None
        self._tell: Callable[[CoredError], None] | None = None

    @property
    def stdio(self) -> pb.Stdio:
        """For Create and Start."""
        from cored._pb.cored.workloads.v1 import workloads_pb2 as pb

        return pb.Stdio(stdin=self.stdin, stdout=self.stdout, stderr=self.stderr)

    def watch(self, tell: Callable[[CoredError], None]) -> None:
        """Have ``tell`` called when the way to the daemon is cut, from another thread."""
        self._tell = tell
        if self._cut is not None:
            tell(self._cut)

    def relay(self, duplex: Duplex) -> None:
        """Join our FIFOs to the daemon's."""
        there, ours = duplex.opened, self.ours
        stdin = os.open(ours.stdin, _READ) if ours.stdin else -1
        # for reading too: nobody else does until the process is about to start
        stdout = os.open(ours.stdout, _WRITE)
        stderr = os.open(ours.stderr, _WRITE) if ours.stderr else -1
        self.stdin, self.stdout, self.stderr = there.stdin, there.stdout, there.stderr
        duplex.pump(stdin, stdout, stderr, self._ended)

    def _ended(self, error: CoredError | None) -> None:
        if error is not None:
            self._cut = error
            if self._tell is not None:
                self._tell(error)


@contextmanager
def pipes(
    session: Session, *, stdin: bool, terminal: bool, container: str = "", drop: bool = False
) -> Iterator[Pipes]:
    """Pipes for a process. Set ``kept`` to leave those on this host for who comes next.

    ``container`` has input of its own, to which ours goes; with ``drop`` the daemon reads on
    when we are gone: for commands, whose pipes are nobody else's.
    """
    with ExitStack() as stack:
        # the container's own is opened by its path where that is on this host
        made = Fifos.make(stdin=stdin and (session.remote or not container), terminal=terminal)
        stack.callback(made.remove)
        ends = Pipes(made)
        if session.remote:
            from cored._pb.cored.workloads.v1 import streams_pb2
            from cored.client.duplex import Duplex

            wanted = streams_pb2.OpenStreams(
                stdin=stdin, terminal=terminal, container=container, drop=drop
            )
            duplex = Duplex(session.channel, wanted)
            stack.callback(duplex.close)
            ends.relay(duplex)
        yield ends
        if ends.kept and not session.remote:
            stack.pop_all()
