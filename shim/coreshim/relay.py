"""Bytes from a descriptor to a sink, no faster than the sink takes them."""

from __future__ import annotations

import fcntl
import os
import termios

from coreshim.hibernation import Luggage, State
from coreshim.loop import READ, WRITE, Future, Loop
from coreshim.sinks import Sink, sink_of

__all__ = ["Relay"]

_BLOCK = 64 << 10
_SPLICE_NONBLOCK = 2


class Relay:
    """Owns both ends; ``done`` is settled when the source has ended or the sink takes no more."""

    def __init__(self, loop: Loop, source: int, sink: Sink, *, splice: bool = False) -> None:
        self._loop = loop
        self._source = source
        self._sink = sink
        self._splice = splice
        self._pending = b""
        self._finishing = False
        # the sink's descriptor while it is full; the sink may have closed it since
        self._full = -1
        self.done = Future(loop)
        loop.watch(source, READ, self._readable)

    @property
    def sink(self) -> Sink | None:
        """Where the bytes go, while they do."""
        return None if self.done.done else self._sink

    @property
    def quiet(self) -> bool:
        """Whether no bytes are here that have been read and not written."""
        return not self._pending and not self._finishing

    def pack(self, luggage: Luggage) -> State:
        """What :meth:`unpacked` needs. A sink that is full will be found to be so again."""
        return {
            "source": luggage.pack(self._source),
            "sink": self._sink.pack(luggage),
            "splice": self._splice,
        }

    @classmethod
    def unpacked(cls, loop: Loop, state: State, luggage: Luggage) -> Relay:
        """The relay that an earlier one has been."""
        source = luggage.unpack(state["source"])
        return cls(loop, source, sink_of(state["sink"], luggage), splice=state["splice"])

    def finish(self) -> None:
        """End after what can be read right now."""
        self._finishing = True
        if not self.done.done and self._full < 0:
            self._readable(READ)

    def close(self) -> None:
        """Let go of both ends."""
        if self.done.done:
            return
        self._loop.unwatch(self._source)
        os.close(self._source)
        self._unblock()
        self._sink.close()
        self.done.set()

    def _readable(self, events: int) -> None:
        try:
            if self._splice:
                count = os.splice(self._source, self._sink.fd, 1 << 20, flags=_SPLICE_NONBLOCK)
                if count == 0:
                    self.close()
                elif self._finishing:
                    self._readable(events)
                return
            data = os.read(self._source, _BLOCK)
        except BlockingIOError:
            self._blocked()
            return
        except OSError:  # EIO: the terminal's other side is gone; EPIPE: nobody reads any more
            self.close()
            return
        if not data:
            self.close()
        else:
            self._write(data)

    def _blocked(self) -> None:
        """Nothing to read, or (splice) no room to write: wait for whichever it is."""
        if self._splice and _readable_now(self._source):
            self._block()
        elif self._finishing:
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
            self._block()
        elif self._finishing:
            self._readable(READ)

    def _block(self) -> None:
        """Wait for room in the sink instead of for the source."""
        self._loop.unwatch(self._source)
        self._full = self._sink.fd
        self._loop.watch(self._full, WRITE, self._writable)

    def _unblock(self) -> None:
        if self._full >= 0:
            self._loop.unwatch(self._full)
            self._full = -1

    def _writable(self, events: int) -> None:
        self._unblock()  # first: writing may close it
        data, self._pending = self._pending, b""
        if data:
            self._write(data)
        if not self._pending and not self.done.done and self._full < 0:
            self._loop.watch(self._source, READ, self._readable)
            if self._finishing:
                self._readable(READ)


def _readable_now(fd: int) -> bool:
    count = bytearray(4)
    fcntl.ioctl(fd, termios.FIONREAD, count)
    return any(count)
