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
from pathlib import Path

from corectl.warm import worker

__all__ = ["Keeper", "leave_one", "main"]

_PATIENCE = 0.25
_LIKENESS = 60_000
_WHO = "iII"
# libraries in C with threads of their own, which a fork does not take along
_NEVER = ("grpc", "uvloop")


def leave_one(place: str, likeness: bytes, seconds: str) -> None:
    """Start a keeper at ``place`` for callers of that likeness; it has nothing else of ours."""
    reading, writing = os.pipe()
    os.write(writing, likeness[:_LIKENESS])
    os.close(writing)
    others = [int(name) for name in os.listdir("/proc/self/fd") if int(name) > 2]
    os.posix_spawn(
        sys.executable,
        [sys.executable, "-m", "corectl.warm.keeper", place, seconds],
        os.environ,
        file_actions=[
            (os.POSIX_SPAWN_DUP2, reading, 0),
            (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
            (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
            *((os.POSIX_SPAWN_CLOSE, file) for file in others),
        ],
        setsid=True,
    )


def main() -> None:
    """Of the process that leave_one has started: arguments are the place and the seconds."""
    _, place, seconds = sys.argv
    likeness = sys.stdin.buffer.read()
    os.chdir("/")
    import_module("corectl.program")
    keeper = Keeper(Path(place), likeness, float(seconds))
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, frame: keeper.end())
    keeper.serve()


class Keeper:
    """Serves callers of one likeness at ``place`` until nobody has called for ``seconds``."""

    def __init__(self, place: Path, likeness: bytes, seconds: float) -> None:
        self._place = place
        self._likeness = likeness
        self._seconds = seconds
        self._selector = selectors.DefaultSelector()
        self._workers = 0
        self._inode = 0
        self._last = False
        self._code = _Code()

    def serve(self) -> None:
        """Until nobody calls any more, or the code is another; workers are waited for."""
        listening = self._listen()
        gc.freeze()
        gc.disable()
        try:
            while self._workers or not self._last:
                ready = self._selector.select(None if self._workers else self._seconds)
                for key, _ in ready:
                    key.data()
                self._last = self._last or not (ready or self._workers)
        finally:
            listening.close()
            with suppress(FileNotFoundError):
                if self._place.stat().st_ino == self._inode:
                    self._place.unlink()

    def end(self) -> None:
        """Serve nobody else; for a handler of signals."""
        self._last = True
        if not self._workers:
            sys.exit()

    def _listen(self) -> socket.socket:
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        own = self._place.with_name(f"{self._place.name}.{os.getpid()}")
        listening.bind(str(own))
        listening.listen(64)
        listening.setblocking(False)
        self._inode = own.stat().st_ino
        # where there is one already nobody finds it any more, and its time runs out
        own.rename(self._place)
        self._selector.register(listening, selectors.EVENT_READ, lambda: self._accept(listening))
        return listening

    def _accept(self, listening: socket.socket) -> None:
        talk, _ = listening.accept()
        who = talk.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize(_WHO))
        if struct.unpack(_WHO, who)[1] != os.geteuid():
            talk.close()
            return
        if self._last or not self._code.is_on_the_disk():
            self._last = True
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
        self._last = self._last or threading.active_count() > 1


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
