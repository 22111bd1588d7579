"""A keeper: everything imported, it waits for callers and forks a worker for each.

It stays while somebody calls within the given seconds, and only as long as the code that it has
imported is the code on the disk. One thread, one loop; a conversation is a SOCK_SEQPACKET:

    keeper  its likeness             from the request on there is no way back
    caller  request and open files   (caller.py, worker.py)
    caller  a signal's number        any number of times
    keeper  the worker's status      as wait(2) has it
"""

from __future__ import annotations

import gc
import os
import selectors
import signal
import socket
import struct
import sys
import threading
from contextlib import suppress
from importlib import import_module

from corectl.warm import leaving, worker

__all__ = ["Keeper", "main"]

_PATIENCE = 0.25
_WHO = "iII"
# libraries in C with threads of their own, which a fork does not take along
_NEVER = ("grpc", "uvloop")


def main() -> None:
    """Of the process that leave_one has started: arguments are the place and the seconds."""
    _, place, seconds = sys.argv
    likeness = sys.stdin.buffer.read()
    os.set_inheritable(leaving.CLAIM, False)
    os.chdir("/")
    import_module("corectl.program")
    leaving.swept(place)
    keeper = Keeper(place, likeness, float(seconds))
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, frame: keeper.end())
    keeper.serve()


class Keeper:
    """Serves callers of one likeness at ``place``, whose lock it has, until nobody has called for
    ``seconds``."""

    def __init__(self, place: str, likeness: bytes, seconds: float) -> None:
        self._place = place
        self._likeness = likeness
        self._seconds = seconds
        self._selector = selectors.DefaultSelector()
        self._listening = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._workers = 0
        self._last = False
        self._code = _Code()

    def serve(self) -> None:
        """Until nobody calls any more, or the code is another; workers are waited for."""
        self._listen()
        gc.freeze()
        gc.disable()
        try:
            while self._workers or not self._last:
                ready = self._selector.select(None if self._workers else self._seconds)
                for key, _ in ready:
                    key.data()
                if not (ready or self._workers):
                    self._close()
        finally:
            self._close()

    def end(self) -> None:
        """Serve nobody else; for a handler of signals."""
        self._close()
        if not self._workers:
            sys.exit()

    def _listen(self) -> None:
        own = f"{self._place}.new"
        with suppress(FileNotFoundError):
            os.unlink(own)
        self._listening.bind(own)
        self._listening.listen(64)
        self._listening.setblocking(False)
        # nobody finds it before it listens
        os.rename(own, self._place)
        self._selector.register(self._listening, selectors.EVENT_READ, self._accept)

    def _close(self) -> None:
        """From now on another keeper may be there."""
        if not self._last:
            self._last = True
            self._selector.unregister(self._listening)
            leaving.removed(self._place, leaving.CLAIM)
            self._listening.close()

    def _accept(self) -> None:
        talk, _ = self._listening.accept()
        who = talk.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize(_WHO))
        if struct.unpack(_WHO, who)[1] != os.geteuid():
            talk.close()
            return
        if not self._code.is_on_the_disk():
            self._close()
            talk.close()
            return
        talk.settimeout(_PATIENCE)
        try:
            talk.send(self._likeness)
            taken = worker.taken(talk)
        except OSError:
            # another kind of caller, or one that could not wait
            talk.close()
            return
        self._work(talk, taken)

    def _work(self, talk: socket.socket, taken: worker.Taken) -> None:
        learning, telling = os.pipe()
        pid = os.fork()
        if pid == 0:
            worker.work(taken, telling)
        os.setpgid(pid, pid)
        os.close(telling)
        taken.close()
        ended = os.pidfd_open(pid)
        self._workers += 1

        def says() -> None:
            try:
                number = talk.recv(1)
            except OSError:
                number = b""
            # without a word: the caller was killed, and so is who acts for it
            os.killpg(pid, number[0] if number else signal.SIGKILL)
            if not number:
                self._selector.unregister(talk)
                talk.close()

        def ends() -> None:
            _, status = os.waitpid(pid, 0)
            self._workers -= 1
            self._selector.unregister(ended)
            os.close(ended)
            if talk.fileno() >= 0:
                with suppress(OSError):
                    talk.send(str(status).encode())
                self._selector.unregister(talk)
                talk.close()
            self._learn(learning)

        self._selector.register(ended, selectors.EVENT_READ, ends)
        self._selector.register(talk, selectors.EVENT_READ, says)

    def _learn(self, learning: int) -> None:
        """Import what the worker had to import: the next one has it."""
        names = os.read(learning, worker.TOLD).decode().split()
        os.close(learning)
        for name in names:
            if name not in sys.modules and not name.startswith(_NEVER):
                import_module(name)
        if names:
            self._code = _Code()
            gc.freeze()
        # a thread would not be in a worker, and its locks would
        if threading.active_count() > 1:
            self._close()


class _Code:
    """The files of all that is imported, as they are now."""

    def __init__(self) -> None:
        modules = [getattr(module, "__file__", None) for module in list(sys.modules.values())]
        self._files = sorted({file for file in modules if file})
        self._times = self._now()

    def is_on_the_disk(self) -> bool:
        """Whether nobody has changed or removed one."""
        return self._times == self._now()

    def _now(self) -> list[int]:
        try:
            return [os.stat(file).st_mtime_ns for file in self._files]
        except OSError:
            return []


if __name__ == "__main__":
    main()
