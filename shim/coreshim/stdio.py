"""The streams of a process: where they come from and go to, and what the shim relays.

A FIFO for output is handed to the process as it is, kept open here, so that readers may come and
go and nothing is lost. What needs a second look (stdin's end, a terminal, a log) is relayed.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import struct
import termios
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlsplit

from coreshim.logfile import JsonFile
from coreshim.loop import READ, WRITE, Future, Loop
from coreshim.server import INVALID, UNIMPLEMENTED, Failure

__all__ = ["Streams"]

_BLOCK = 64 << 10


class Streams:
    """All of one process's streams; :meth:`files` are for its start, then :meth:`started`."""

    def __init__(self, loop: Loop, stdin: str, stdout: str, stderr: str, terminal: bool) -> None:
        self._loop = loop
        self._theirs: dict[int, int] = {}
        self._kept: list[int] = []
        self._relays: list[_Relay] = []
        self._stdin: _Relay | None = None
        self._console = -1
        self.terminal = terminal
        self._paths = (stdin, stdout)
        try:
            if not terminal:
                self._input(stdin)
                self._output(1, stdout, "stdout")
                self._output(2, stderr, "stderr")
        except OSError as error:
            self.close()
            raise Failure(INVALID, f"stdio {error.filename}: {error.strerror}") from error
        except BaseException:
            self.close()
            raise

    @property
    def files(self) -> dict[int, int]:
        """The process's descriptors by number."""
        return self._theirs

    def started(self) -> None:
        """The process has its own copies: let go of ours."""
        for fd in self._theirs.values():
            os.close(fd)
        self._theirs.clear()

    def attach_console(self, console: int) -> None:
        """Relay a terminal's master to the paths for stdin and stdout."""
        self._console = console
        os.set_blocking(console, False)
        stdin, stdout = self._paths
        if stdout:
            sink = _sink(stdout, "stdout")
            self._relays.append(_Relay(self._loop, os.dup(console), sink))
        if stdin:
            source = os.open(stdin, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            target = _Descriptor(os.dup(console))
            self._stdin = _Relay(self._loop, source, target, eof=self._end_of_terminal_input)

    def resize(self, width: int, height: int) -> None:
        """Set the terminal's size in characters."""
        if self._console >= 0:
            fcntl.ioctl(self._console, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))

    def close_stdin(self) -> None:
        """Let the process see the end of its input, after all that has been written so far."""
        if self._stdin is not None:
            self._stdin.finish()

    def ended(self) -> None:
        """The process has ended: readers of its FIFOs see the end once they have read all."""
        for fd in self._kept:
            os.close(fd)
        self._kept.clear()
        if self._stdin is not None:
            self._stdin.close()

    async def drained(self, seconds: float) -> None:
        """Wait, at most so long, until all that the process has written is where it belongs."""
        gate = Future(self._loop)
        self._loop.later(seconds, gate.set)
        waiting = [relay for relay in self._relays if not relay.done.done]

        async def watch(relay: _Relay) -> None:
            await relay.done
            waiting.remove(relay)
            if not waiting:
                gate.set()

        if waiting:
            for relay in list(waiting):
                self._loop.spawn(watch(relay))
            await gate

    def close(self) -> None:
        """Let go of everything."""
        self.started()
        self.ended()
        for relay in self._relays:
            relay.close()
        if self._console >= 0:
            os.close(self._console)
            self._console = -1

    def _input(self, path: str) -> None:
        if not path:
            self._theirs[0] = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
            return
        if not stat.S_ISFIFO(os.stat(path).st_mode):
            self._theirs[0] = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            return
        # no end of file before the first writer has come and gone: epoll(7) reports none
        source = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        theirs, ours = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(ours, False)
        self._theirs[0] = theirs
        self._stdin = _Relay(self._loop, source, _Descriptor(ours), splice=True)

    def _output(self, number: int, path: str, stream: str) -> None:
        if not path:
            self._theirs[number] = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
        elif path.startswith("json-file://"):
            ours, theirs = os.pipe2(os.O_CLOEXEC)
            self._theirs[number] = theirs
            os.set_blocking(ours, False)
            self._relays.append(_Relay(self._loop, ours, _sink(path, stream)))
        elif path.startswith("binary://"):
            raise Failure(UNIMPLEMENTED, f"stdio {path}: logging binaries are not supported yet")
        else:
            target = path.removeprefix("file://")
            if path is target and stat.S_ISFIFO(os.stat(path).st_mode):
                # both ways, so that opening does not wait for a reader, nor writing fail without
                self._kept.append(os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC))
                self._theirs[number] = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
            else:
                self._theirs[number] = os.open(
                    target, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640
                )

    def _end_of_terminal_input(self) -> None:
        """The client has gone: the terminal stays, somebody else may attach."""


class _Descriptor:
    """A sink that is a descriptor."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def write(self, data: bytes) -> int:
        return os.write(self.fd, data)

    def close(self) -> None:
        os.close(self.fd)


class _Logged:
    """A log, and a FIFO with a copy for whoever reads it; without a reader the copy is dropped."""

    def __init__(self, log: JsonFile, copy: str) -> None:
        self._log = log
        self._copy = copy
        self.fd = -1

    def _reader(self) -> bool:
        """Whether somebody reads the FIFO; a reader that left does not come back."""
        if self.fd < 0 and self._copy:
            try:
                self.fd = os.open(self._copy, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            except OSError as error:
                if error.errno != errno.ENXIO:
                    self._copy = ""
        return self.fd >= 0

    def write(self, data: bytes) -> int:
        sent = len(data)
        if self._reader():
            try:
                sent = os.write(self.fd, data)
            except BrokenPipeError:
                os.close(self.fd)
                self.fd, self._copy = -1, ""
        self._log.write(data[:sent])
        return sent

    def close(self) -> None:
        self._log.close()
        # a reader that got nothing sees the end all the same: a writer has come and gone
        if self._reader():
            os.close(self.fd)
            self.fd = -1


def _sink(path: str, stream: str) -> Any:
    if path.startswith("json-file://"):
        parts = urlsplit(path)
        copy = parse_qs(parts.query).get("copy", [""])[0]
        return _Logged(JsonFile(parts.path, stream), copy)
    if path.startswith("binary://"):
        raise Failure(UNIMPLEMENTED, f"stdio {path}: logging binaries are not supported yet")
    target = path.removeprefix("file://")
    if path is target:
        return _Descriptor(os.open(target, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC))
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
    return _Descriptor(os.open(target, flags, 0o640))


class _Relay:
    """Moves bytes from a descriptor to a sink, no faster than the sink takes them."""

    def __init__(
        self,
        loop: Loop,
        source: int,
        sink: Any,
        *,
        splice: bool = False,
        eof: Callable[[], None] | None = None,
    ) -> None:
        self._loop = loop
        self._source = source
        self._sink = sink
        self._splice = splice
        self._eof = eof
        self._pending = b""
        self._finishing = False
        self.done = Future(loop)
        loop.watch(source, READ, self._readable)

    def finish(self) -> None:
        """End after what can be read right now."""
        self._finishing = True
        if not self.done.done and not self._pending:
            self._readable(READ)

    def close(self) -> None:
        """Let go of both ends."""
        if self.done.done:
            return
        self._loop.unwatch(self._source)
        os.close(self._source)
        if self._sink.fd >= 0:
            self._loop.unwatch(self._sink.fd)
        self._sink.close()
        self.done.set()

    def _readable(self, events: int) -> None:
        try:
            if self._splice:
                count = os.splice(self._source, self._sink.fd, 1 << 20, flags=_SPLICE_NONBLOCK)
                if count == 0:
                    self._ended()
                return
            data = os.read(self._source, _BLOCK)
        except BlockingIOError:
            self._blocked()
            return
        except OSError:  # EIO: the terminal's other side is gone; EPIPE: nobody reads any more
            self.close()
            return
        if not data:
            self._ended()
        else:
            self._write(data)

    def _blocked(self) -> None:
        """Nothing to read, or (splice) no room to write: wait for whichever it is."""
        if self._splice and _readable_now(self._source):
            self._loop.unwatch(self._source)
            self._loop.watch(self._sink.fd, WRITE, self._writable)
        elif self._finishing:
            self.close()

    def _ended(self) -> None:
        if self._eof is not None and not self._finishing:
            self._eof()
        self.close()

    def _write(self, data: bytes) -> None:
        try:
            sent = self._sink.write(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            self.close()
            return
        self._pending = data[sent:]
        if self._pending:
            self._loop.unwatch(self._source)
            self._loop.watch(self._sink.fd, WRITE, self._writable)

    def _writable(self, events: int) -> None:
        data, self._pending = self._pending, b""
        if data:
            self._write(data)
        if not self._pending and not self.done.done:
            self._loop.unwatch(self._sink.fd)
            self._loop.watch(self._source, READ, self._readable)
            if self._finishing:
                self._readable(READ)


_SPLICE_NONBLOCK = 2


def _readable_now(fd: int) -> bool:
    count = bytearray(4)
    fcntl.ioctl(fd, termios.FIONREAD, count)
    return any(count)
