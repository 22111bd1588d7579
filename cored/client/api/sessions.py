"""A process whose streams are ours, as :class:`subprocess.Popen` has them."""

from __future__ import annotations

import os
import selectors
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Self

from cored._pb.cored.workloads.v1 import streams_pb2 as pb
from cored.client.api.values import Output
from cored.client.channel import Channel
from cored.client.duplex import Duplex
from cored.errors import FailedPrecondition, InvalidArgument

__all__ = ["Session", "Streams"]

_BLOCK = 256 << 10


class Streams:
    """The ends of a process's pipes; what it writes is read by iterating."""

    def __init__(
        self,
        channel: Channel,
        *,
        stdin: bool,
        terminal: bool,
        container: str = "",
        drop: bool = False,
    ) -> None:
        wanted = pb.OpenStreams(stdin=stdin, terminal=terminal, container=container, drop=drop)
        self._duplex = Duplex(channel, wanted)
        self.paths = self._duplex.opened
        theirs = {"stdin": -1, "stdout": -1, "stderr": -1}
        self._stdin = -1
        self._outputs: dict[int, str] = {}
        if stdin:
            theirs["stdin"], self._stdin = os.pipe2(os.O_CLOEXEC)
        for name in ("stdout",) if terminal else ("stdout", "stderr"):
            ours, theirs[name] = os.pipe2(os.O_CLOEXEC)
            self._outputs[ours] = name
        self._reading = False
        self._duplex.pump(theirs["stdin"], theirs["stdout"], theirs["stderr"])

    def write(self, data: bytes) -> None:
        if self._stdin < 0:
            raise InvalidArgument("session: has no input, or it is closed", hint="stdin=True")
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[os.write(self._stdin, rest) :]
            except BrokenPipeError as error:
                raise FailedPrecondition("session: it takes no more input") from error

    def close_stdin(self) -> None:
        if self._stdin >= 0:
            os.close(self._stdin)
            self._stdin = -1

    def pieces(self, data: bytes = b"") -> Iterator[tuple[str, bytes]]:
        """All outputs, while ``data`` is written; then the input is closed, if there was any."""
        self._reading = True
        try:
            yield from self._pieces(memoryview(data))
        finally:
            self._reading = False
        if self._duplex.error is not None:
            raise self._duplex.error

    def _pieces(self, rest: memoryview) -> Iterator[tuple[str, bytes]]:
        with selectors.DefaultSelector() as selector:
            for fd in self._outputs:
                selector.register(fd, selectors.EVENT_READ)
            if rest and self._stdin >= 0:
                os.set_blocking(self._stdin, False)
                selector.register(self._stdin, selectors.EVENT_WRITE)
            while self._outputs:
                for key, _ in selector.select():
                    if key.fd == self._stdin:
                        rest = self._fed(rest)
                        if not rest:
                            selector.unregister(self._stdin)
                            self.close_stdin()
                        continue
                    piece = os.read(key.fd, _BLOCK)
                    if piece:
                        yield self._outputs[key.fd], piece
                    else:
                        selector.unregister(key.fd)
                        self._close(key.fd)

    def close(self) -> None:
        self.close_stdin()
        # the end for who reads in another thread, and closes them
        self._duplex.close()
        if not self._reading:
            for fd in list(self._outputs):
                self._close(fd)

    def _close(self, fd: int) -> None:
        os.close(fd)
        self._outputs.pop(fd, None)

    def _fed(self, rest: memoryview) -> memoryview:
        try:
            return rest[os.write(self._stdin, rest) :]
        except BlockingIOError:
            return rest
        except BrokenPipeError:
            return rest[:0]  # it takes no more


class Session:
    """A container, or a command in one, with its streams; made by :class:`Containers`.

    Leaving the context closes the streams; the process lives on. Iterating yields ``(stream,
    bytes)``, stream being stdout or stderr, until nobody can write any more.
    """

    def __init__(
        self,
        id: str,
        streams: Streams,
        wait: Callable[[], int],
        kill: Callable[[int], None],
        resize: Callable[[int, int], None],
    ) -> None:
        self.id = id
        self._streams = streams
        self._wait, self._kill, self._resize = wait, kill, resize
        self._status: int | None = None
        self._after: list[Callable[[], None]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __iter__(self) -> Iterator[tuple[str, bytes]]:
        return self.output()

    def output(self) -> Iterator[tuple[str, bytes]]:
        """What it writes, as it comes: ``(stream, bytes)``. Disconnected when the way is cut."""
        return self._streams.pieces()

    def write(self, data: bytes) -> None:
        """Send it input; waits while it takes none.

        InvalidArgument without ``stdin``, FailedPrecondition when it has ended.
        """
        self._streams.write(data)

    def close_stdin(self) -> None:
        """Let it see the end of its input."""
        self._streams.close_stdin()

    def communicate(self, data: bytes = b"") -> Output:
        """Send ``data`` and the end of the input, and wait for all that it writes and its end."""
        found = {"stdout": bytearray(), "stderr": bytearray()}
        if not data:
            self._streams.close_stdin()
        for stream, piece in self._streams.pieces(data):
            found[stream] += piece
        return Output(self.wait(), bytes(found["stdout"]), bytes(found["stderr"]))

    def wait(self) -> int:
        """Its exit status, once it has ended."""
        if self._status is None:
            self._status = self._wait()
        return self._status

    def kill(self, signal: int = 15) -> None:
        """Send it a signal."""
        self._kill(signal)

    def resize(self, columns: int, rows: int) -> None:
        """Tell its terminal how large it is."""
        self._resize(columns, rows)

    def close(self) -> None:
        """Let go of the streams; the process goes on."""
        self._streams.close()
        if self._status is None:
            for call in self._after:
                call()
        self._after.clear()

    def at_close(self, call: Callable[[], None]) -> None:
        """What to do when it is closed without having ended."""
        self._after.append(call)
