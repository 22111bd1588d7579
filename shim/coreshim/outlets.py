"""What log services have in common: a queue before a socket that is not always there."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Mapping

from coreshim.hibernation import Luggage, State
from coreshim.loop import WRITE

__all__ = ["Outlet"]

# bytes that wait before the container waits, too
_ROOM = 64 << 10
# seconds between two attempts to connect, and until what waits for that is given up
_PAUSE, _PATIENCE = 1.0, 30.0


class Outlet:
    """Messages to a service; all calls return at once, but :meth:`open`.

    docker's options ``mode`` and ``max-buffer-size`` (here in bytes) say what happens when the
    service is slower than the container: it is waited for, or with ``non-blocking`` what does not
    fit is lost. While nobody answers nobody waits, and what does not fit is lost, too.
    """

    def __init__(self, stream: str, options: Mapping[str, str]) -> None:
        self.stream = stream
        self.fd = -1
        self.wants = 0
        self._waits = options.get("mode", "") != "non-blocking"
        self._limit = _ROOM if self._waits else int(options.get("max-buffer-size") or 1 << 20)
        self._queue: deque[bytes] = deque()
        self._size = 0
        # of the first message
        self._sent = 0
        self._lost = 0
        self._next_try = self._given_up = 0.0

    def open(self) -> None:
        """Connect, and wait for that. OSError."""
        raise NotImplementedError

    def connect(self) -> None:
        """Begin to connect again; ``fd`` is set unless OSError."""
        raise NotImplementedError

    def disconnect(self) -> None:
        """Close the socket, if there is one; ``fd`` is -1."""
        raise NotImplementedError

    def message(self, text: bytes) -> bytes:
        """A text as the service wants it."""
        raise NotImplementedError

    def send(self, message: bytes) -> int:
        """How much of it the socket took. OSError; BlockingIOError leaves ``wants`` set."""
        raise NotImplementedError

    def pack(self, luggage: Luggage) -> State:
        """What :meth:`unpack` needs; nothing waits to be sent."""
        return {"fd": luggage.pack(self.fd)}

    def unpack(self, state: State, luggage: Luggage) -> None:
        self.fd = luggage.unpack(state["fd"])

    @property
    def full(self) -> bool:
        """Whether the container has to wait."""
        return self._waits and self._size >= self._limit and self.fd >= 0

    @property
    def pending(self) -> bool:
        return bool(self._queue)

    def offer(self, texts: list[bytes]) -> None:
        """Take texts, and send what can be sent."""
        for text in texts:
            message = self.message(text)
            waits = self._waits and self.fd >= 0
            if self._queue and not waits and self._size + len(message) > self._limit:
                self._lose(1, "its buffer is full")
                continue
            self._queue.append(message)
            self._size += len(message)
        self.flush()

    def flush(self) -> None:
        """Send what can be sent now; ``wants`` are events of ``fd`` after which to come back."""
        self.wants = 0
        while self._queue:
            try:
                if self.fd < 0 and not self._connected():
                    return
                self._sent += self.send(self._queue[0][self._sent :])
            except BlockingIOError:
                self.wants = self.wants or WRITE
                return
            except OSError as error:
                self._broken(error)
                continue
            self._given_up = 0.0
            if self._sent == len(self._queue[0]):
                self._size -= self._sent
                self._sent = 0
                self._queue.popleft()

    def close(self) -> None:
        """Let go; what could not be sent is lost."""
        self.flush()
        if self._queue:
            self._lose(len(self._queue), "the container has ended")
        self.disconnect()

    def _connected(self) -> bool:
        """Begin to connect, unless that was tried just now."""
        now = time.monotonic()
        if now < self._next_try:
            return False
        self._next_try = now + _PAUSE
        self.connect()
        return True

    def _broken(self, error: OSError) -> None:
        """The connection has gone, or does not come; after a while so goes what waits for it."""
        self.disconnect()
        self._sent = 0  # nobody can join the halves of a message
        now = time.monotonic()
        if not self._given_up:
            self._given_up = now + _PATIENCE
        elif now > self._given_up:
            lost, self._size = len(self._queue), 0
            self._queue.clear()
            self._lose(lost, str(error))

    def _lose(self, count: int, why: str) -> None:
        # once, and again when it has become ten times as much
        before, self._lost = self._lost, self._lost + count
        if len(str(before)) < len(str(self._lost)) or not before:
            print(f"log: {self._lost} messages are lost: {why}", file=sys.stderr, flush=True)
