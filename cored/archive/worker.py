"""The worker process: ``python -m cored.archive.worker FD``, a socket to the daemon at FD.

Takes one job after the other; ends when the daemon closes the socket, or dies, at once and in the
middle of a job too.
"""

from __future__ import annotations

import gc
import os
import signal
import socket
import sys
import time
import traceback
from queue import SimpleQueue
from threading import Lock, Thread

from cored.archive.fetch import Fetcher
from cored.archive.jobs import DiffJob, LayerJob, Refusal, Route, VerifyJob
from cored.archive.wire import PREFIX, Done, Failed, Message, Progress, packed, unpacked
from cored.errors import CoredError, Internal, by_code, from_os_error

_REPORT_EVERY = 0.1  # seconds


class _Line:
    """The way to the daemon, for several threads."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._lock = Lock()

    def send(self, message: Message) -> None:
        with self._lock:
            self._channel.sendall(packed(message))


class _Reports:
    """Progress, told to the daemon a few times a second."""

    def __init__(self, line: _Line) -> None:
        self._line = line
        self._next = 0.0

    def __call__(self, size: int) -> None:
        now = time.monotonic()
        if now >= self._next:
            self._next = now + _REPORT_EVERY
            self._line.send(Progress(size))


class _Daemon:
    """What only the daemon knows: credentials. One question at a time, from any thread."""

    def __init__(self, line: _Line, answers: SimpleQueue[Message]) -> None:
        self._line = line
        self._answers = answers

    def ask(self, refusal: Refusal) -> Route:
        """The refused route with headers that should do; raises why there are none."""
        self._line.send(refusal)
        match self._answers.get():
            case Route() as route:
                return route
            case Failed(code, message, hint):
                raise by_code(code)(message, hint=hint)
            case other:
                raise Internal(f"layer worker: {type(other).__name__} is not an answer")


def main() -> None:
    """Serve jobs until the daemon goes away."""
    channel = socket.socket(fileno=int(sys.argv[1]))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the daemon's business
    os.umask(0)  # modes are the archive's
    gc.disable()  # an archive's entries are no cycles, and there are many
    jobs: SimpleQueue[Message] = SimpleQueue()
    answers: SimpleQueue[Message] = SimpleQueue()
    queues = (channel, jobs, answers)
    Thread(target=_receive, args=queues, name="receive", daemon=True).start()
    line = _Line(channel)
    fetcher = Fetcher(_Daemon(line, answers).ask)
    while True:
        job = jobs.get()
        line.send(_done(job, _Reports(line), fetcher))
        del job
        gc.collect()  # of errors, which are


def _receive(
    channel: socket.socket, jobs: SimpleQueue[Message], answers: SimpleQueue[Message]
) -> None:
    while True:
        length = PREFIX.unpack(_exactly(channel, PREFIX.size))[0]
        message = unpacked(_exactly(channel, length))
        (jobs if isinstance(message, LayerJob | DiffJob | VerifyJob) else answers).put(message)


def _exactly(channel: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        try:
            part = channel.recv(count - len(data))
        except ConnectionResetError:  # it was killed before it had read all that we said
            part = b""
        if not part:
            os._exit(0)  # nobody is left to work for, and threads may be in the middle of things
        data += part
    return data


def _done(job: Message, reports: _Reports, fetcher: Fetcher) -> Message:
    try:
        match job:
            case LayerJob():
                from cored.archive.pipeline import run_layer

                return Done(run_layer(job, reports, fetcher))
            case DiffJob():
                from cored.archive.create import run_diff

                return Done(run_diff(job, reports))
            case VerifyJob():
                from cored.archive.verify import run_verify

                return Done(run_verify(job, reports))
            case _:
                raise Internal(f"layer worker: not a job: {job!r}")
    except CoredError as error:
        return Failed(error.code, error.message, error.hint)
    except OSError as error:
        name = error.filename or (job.digest if isinstance(job, LayerJob) else "")
        failure = from_os_error(f"layer: {os.fsdecode(str(name))}", error)
        return Failed(failure.code, failure.message, failure.hint)
    except Exception as error:
        traceback.print_exc()  # stderr is the daemon's
        return Failed(Internal.code, f"layer worker: {type(error).__name__}: {error}")


if __name__ == "__main__":
    main()
