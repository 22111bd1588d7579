"""Bytes from a descriptor to a sink, no faster than the sink takes them."""

from __future__ import annotations

import fcntl
import os
import termios

from coreshim.hibernation import Luggage, State
from coreshim.logged import sink_of
from coreshim.loop import READ, Future, Loop
from coreshim.sinks import Sink

__all__ = ["Relay"]

_BLOCK = 64 << 10
_SPLICE_NONBLOCK = 2
_TICK = 0.2


class Relay:
    """Owns both ends; ``done`` is settled when the source has ended or the sink takes no more.

    What a sink has taken and not passed on (to a log service) it goes on with when its descriptor
    is ready, or a moment later; the end of the source waits for that.
    """

    def __init__(self, loop: Loop, source: int, sink: Sink, *, splice: bool = False) -> None:
        self._loop = loop
        self._source = source
        self._sink = sink
        self._splice = splice
        self._pending = b""
        self._finishing = self._ending = False
        # the sink's descriptor while it is full; the sink may have closed it since
        self._full = -1
        # the same while what it has taken is on its way
        self._lingering = -1
        self._ticking = False
        self.done = Future(loop)
        loop.watch(source, READ, self._readable)

    @property
    def sink(self) -> Sink | None:
        """Where the bytes go, while they do."""
        return None if self.done.done else self._sink

    @property
    def quiet(self) -> bool:
        """Whether no bytes are here that have been read and not written."""
        return not (self._pending or self._finishing or self._ending or self._sink.busy)

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
        self._let_go()
        self._sink.close()
        self.done.set()

    def _let_go(self) -> None:
        if not self._ending:
            self._loop.unwatch(self._source)
            os.close(self._source)
        self._ending = True
        self._unblock()
        self._unlinger()

    def _end(self) -> None:
        """The source has ended: close when the sink has passed all on."""
        self._let_go()
        self._sink.tick()
        if self._sink.owing:
            self._linger()
        else:
            self.close()

    def _readable(self, events: int) -> None:
        if self._ending:
            return
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
            self._end()
            return
        if not data:
            self._end()
        else:
            self._write(data)

    def _blocked(self) -> None:
        """Nothing to read, or (splice) no room to write: wait for whichever it is."""
        if self._splice and _readable_now(self._source):
            self._block()
        elif self._finishing:
            self.close()

    def _write(self, data: bytes) -> None:
        self._unlinger()  # first: writing may close its descriptor
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
            return
        self._linger()
        if self._finishing:
            self._readable(READ)

    def _block(self) -> None:
        """Wait for room in the sink instead of for the source."""
        self._loop.unwatch(self._source)
        self._full, events = self._sink.room
        self._loop.watch(self._full, events, self._writable)

    def _unblock(self) -> None:
        if self._full >= 0:
            self._loop.unwatch(self._full)
            self._full = -1

    def _writable(self, events: int) -> None:
        self._unblock()  # first: writing may close it
        self._sink.tick()
        data, self._pending = self._pending, b""
        if data:
            self._write(data)
        if not self._pending and not self.done.done and self._full < 0 and not self._ending:
            self._loop.watch(self._source, READ, self._readable)
            if self._finishing:
                self._readable(READ)

    def _linger(self) -> None:
        """See that what the sink has taken goes on its way."""
        self._lingering, events = self._sink.unsent
        if self._lingering >= 0:
            self._loop.watch(self._lingering, events, self._passed)
        if self._sink.busy and not self._ticking:
            self._ticking = True
            self._loop.later(_TICK, self._tick)

    def _unlinger(self) -> None:
        if self._lingering >= 0:
            self._loop.unwatch(self._lingering)
            self._lingering = -1

    def _passed(self, events: int) -> None:
        if self.done.done:
            return
        self._unlinger()
        if self._full >= 0:
            return  # it is waited for already
        if self._ending:
            self._end()
            return
        self._sink.tick()
        self._linger()

    def _tick(self) -> None:
        self._ticking = False
        self._passed(0)


def _readable_now(fd: int) -> bool:
    count = bytearray(4)
    fcntl.ioctl(fd, termios.FIONREAD, count)
    return any(count)
