"""The streams of a process: where they come from and go to, and what the shim relays.

A FIFO for output is handed to the process as it is; the shim holds its reading end, so that
readers may come and go, nobody dies of SIGPIPE, and what has not been read waits until the process
is deleted. What needs a second look (stdin's end, a terminal, a log) is relayed.
"""

from __future__ import annotations

import fcntl
import os
import struct
import termios

from coreshim.copies import open_reader
from coreshim.hibernation import Luggage, State
from coreshim.logged import Logged, open_log
from coreshim.logger import Logger, is_binary
from coreshim.loop import Future, Loop
from coreshim.relay import Relay
from coreshim.server import INVALID, UNIMPLEMENTED, Failure
from coreshim.sinks import Descriptor, Sink, is_fifo, open_sink

__all__ = ["Streams"]

_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
# for writing too: a client that leaves does not end it, another may come
_KEPT = os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC
# of an input's path: that it stays open so
_OPEN = "open://"


class Streams:
    """All of one process's streams; :attr:`files` are for its start, then :meth:`started`.

    ``owner`` is the container's (id, namespace), for logging binaries.
    """

    def __init__(self, loop: Loop, owner: tuple[str, str] = ("", "")) -> None:
        self._loop = loop
        self._owner = owner
        self._logger: Logger | None = None
        self._theirs: dict[int, int] = {}
        self._unread: list[int] = []
        self._relays: list[Relay] = []
        self._stdin: Relay | None = None
        self._console = -1
        # a terminal's, until it is there
        self._source = -1
        self._sink: Sink | None = None

    def open(self, stdin: str, stdout: str, stderr: str, terminal: bool) -> None:
        """Open what a request names. Failure."""
        try:
            if terminal:
                self._open_for_terminal(stdin, stdout)
            else:
                self._input(stdin)
                if is_binary(stdout):
                    self._logger = Logger(self._loop, stdout, *self._owner)
                    self._theirs[1], self._theirs[2] = self._logger.out, self._logger.err
                else:
                    self._output(1, stdout, "stdout")
                    self._output(2, stderr, "stderr")
        except OSError as error:
            self.close()
            raise Failure(INVALID, f"stdio {error.filename}: {error.strerror}") from error
        except BaseException:
            self.close()
            raise

    @property
    def quiet(self) -> bool:
        """Whether the process has started, and nothing is under way."""
        relays = [*self._relays, self._stdin] if self._stdin else self._relays
        return not self._theirs and self._sink is None and all(
            relay.done.done or relay.quiet for relay in relays
        )  # fmt: skip

    def pack(self, luggage: Luggage) -> State:
        """What :meth:`unpacked` needs; only while :attr:`quiet`."""
        relays = [relay.pack(luggage) for relay in self._relays if not relay.done.done]
        state: State = {
            "relays": relays,
            "console": luggage.pack(self._console),
            "unread": [luggage.pack(fd) for fd in self._unread],
        }
        if self._stdin is not None and not self._stdin.done.done:
            state["stdin"] = self._stdin.pack(luggage)
        return state

    @classmethod
    def unpacked(cls, loop: Loop, state: State, luggage: Luggage) -> Streams:
        """The streams that an earlier worker had."""
        streams = cls(loop)
        streams._relays = [Relay.unpacked(loop, relay, luggage) for relay in state["relays"]]
        streams._console = luggage.unpack(state["console"])
        streams._unread = [luggage.unpack(place) for place in state["unread"]]
        if "stdin" in state:
            streams._stdin = Relay.unpacked(loop, state["stdin"], luggage)
        return streams

    @property
    def files(self) -> dict[int, int]:
        """The process's descriptors by number."""
        return self._theirs

    async def ready(self) -> None:
        """Return when whoever takes the output is there. Failure."""
        if self._logger is not None:
            await self._logger.ready()

    def started(self) -> None:
        """The process has its own copies: let go of ours."""
        for fd in self._theirs.values():
            os.close(fd)
        self._theirs.clear()

    def attach_console(self, console: int) -> None:
        """Relay a terminal's master, which is ours now, to the paths for stdin and stdout."""
        self._console = console
        os.set_blocking(console, False)
        assert self._sink is not None
        sink, self._sink = self._sink, None
        self._relays.append(Relay(self._loop, os.dup(console), sink))
        if self._source >= 0:
            source, self._source = self._source, -1
            self._stdin = Relay(self._loop, source, Descriptor(os.dup(console)))

    def join(self, stdout: str, stderr: str) -> None:
        """Copy what comes from now on to these FIFOs, too, which somebody reads. Failure."""
        sinks = [self._sink, *(relay.sink for relay in self._relays)]
        logs = {sink.stream: sink for sink in sinks if isinstance(sink, Logged)}
        for stream, path in (("stdout", stdout), ("stderr", stderr)):
            if not path:
                continue
            try:
                fd = open_reader(path)
            except OSError as error:
                raise Failure(INVALID, f"stdio {path}: {error.strerror}") from error
            if self._logger is not None:  # a program of its own writes its log
                os.close(fd)
                raise Failure(UNIMPLEMENTED, "stdio: nobody can join it")
            if stream in logs:
                logs[stream].copies.join(fd)
            else:
                os.close(fd)  # it has ended, and its reader sees that

    def resize(self, width: int, height: int) -> None:
        """Set the terminal's size in characters."""
        if self._console >= 0:
            fcntl.ioctl(self._console, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))

    def close_stdin(self) -> None:
        """Let the process see the end of its input, after all that has been written so far."""
        if self._stdin is not None:
            self._stdin.finish()

    def ended(self) -> None:
        """The process has ended: it takes no more input."""
        if self._stdin is not None:
            self._stdin.close()

    async def drained(self, seconds: float) -> None:
        """Wait, at most so long, until all that the process has written is where it belongs."""
        gate = Future(self._loop)
        waiting = [relay for relay in self._relays if not relay.done.done]

        async def watch(relay: Relay) -> None:
            await relay.done
            waiting.remove(relay)
            if not waiting:
                gate.set()

        if waiting:
            self._loop.later(seconds, gate.set)
            for relay in list(waiting):
                self._loop.spawn(watch(relay))
            await gate

    def close(self) -> None:
        """Let go of everything."""
        if self._logger is not None:
            self._logger.close()
        self.started()
        self.ended()
        for relay in self._relays:
            relay.close()
        if self._sink is not None:
            self._sink.close()
            self._sink = None
        for fd in (self._console, self._source, *self._unread):
            if fd >= 0:
                os.close(fd)
        self._console = self._source = -1
        self._unread.clear()

    def _input(self, path: str) -> None:
        kept = path.startswith(_OPEN)
        path = path.removeprefix(_OPEN)
        if not path or not is_fifo(path):
            self._theirs[0] = os.open(path or os.devnull, os.O_RDONLY | os.O_CLOEXEC)
            return
        # no end of file before the first writer has come and gone: epoll(7) reports none
        source = os.open(path, _KEPT if kept else _READ)
        theirs, ours = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(ours, False)
        self._theirs[0] = theirs
        self._stdin = Relay(self._loop, source, Descriptor(ours), splice=True)

    def _output(self, number: int, path: str, stream: str) -> None:
        log = open_log(path, stream)
        if log is None:
            self._theirs[number] = self._open_output(path)
            return
        ours, theirs = os.pipe2(os.O_CLOEXEC)
        self._theirs[number] = theirs
        os.set_blocking(ours, False)
        self._relays.append(Relay(self._loop, ours, log))

    def _open_output(self, path: str) -> int:
        """A descriptor for writing; of a FIFO its other end stays here."""
        if path and not path.startswith("file://") and is_fifo(path):
            self._unread.append(os.open(path, _READ))
        return open_sink(path)

    def _open_for_terminal(self, stdin: str, stdout: str) -> None:
        stdin = stdin.removeprefix(_OPEN)
        if stdin and not is_fifo(stdin):
            raise Failure(INVALID, f"stdio {stdin}: a terminal's input must be a FIFO")
        if stdin:
            self._source = os.open(stdin, _KEPT)
        log = open_log(stdout, "stdout")
        if log is not None:
            self._sink = log
            return
        if is_binary(stdout):
            self._logger = Logger(self._loop, stdout, *self._owner)
            os.close(self._logger.err)
            os.set_blocking(self._logger.out, False)
            self._sink = Descriptor(self._logger.out)
            return
        sink = self._open_output(stdout)
        os.set_blocking(sink, False)
        self._sink = Descriptor(sink)
