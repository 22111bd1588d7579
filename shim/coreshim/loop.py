"""An event loop in a page: epoll callbacks, timers, and coroutines that await :class:`Future`."""

from __future__ import annotations

import heapq
import select
import sys
import time
import traceback
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from typing import Any

__all__ = ["Future", "Loop"]

READ, WRITE = select.EPOLLIN, select.EPOLLOUT


class Future:
    """A value to come. ``await`` it from a coroutine of the loop; many may."""

    __slots__ = ("_error", "_loop", "_value", "_waiters", "done")

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._value: Any = None
        self._error: BaseException | None = None
        self._waiters: list[Coroutine[Any, Any, Any]] = []
        self.done = False

    def set(self, value: Any = None, error: BaseException | None = None) -> None:
        """Settle it; what waits goes on in the loop's next turn. Settling twice does nothing."""
        if self.done:
            return
        self.done, self._value, self._error = True, value, error
        self._loop.ready.extend(self._waiters)
        self._waiters.clear()

    def __await__(self) -> Generator[Future, None, Any]:
        if not self.done:
            yield self
        if self._error is not None:
            raise self._error
        return self._value

    def add_waiter(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        """Used by the loop."""
        self._waiters.append(coroutine)

    def drop_waiter(self, coroutine: Coroutine[Any, Any, Any]) -> bool:
        """Used by the loop; whether it was waiting here."""
        if coroutine not in self._waiters:
            return False
        self._waiters.remove(coroutine)
        return True


class Loop:
    """One thread's loop; ``run`` returns after ``stop``."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._callbacks: dict[int, Callable[[int], None]] = {}
        self._events: dict[int, int] = {}
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0
        self._stopped = False
        self._rest: tuple[float, Callable[[], None]] | None = None
        self._restless = -1.0
        # coroutines that were spawned and have not ended
        self.running = 0
        self.ready: deque[Coroutine[Any, Any, Any]] = deque()

    def watch(self, fd: int, events: int, callback: Callable[[int], None]) -> None:
        """Call ``callback(events)`` when ``fd`` is ready; replaces an earlier watch of it."""
        if fd in self._callbacks:
            self._epoll.modify(fd, events)
        else:
            self._epoll.register(fd, events)
        self._callbacks[fd] = callback
        self._events[fd] = events

    def unwatch(self, fd: int) -> None:
        """Forget ``fd``, before it is closed. Fine when it is not watched."""
        if self._callbacks.pop(fd, None) is not None:
            del self._events[fd]
            self._epoll.unregister(fd)

    def later(self, seconds: float, callback: Callable[[], None]) -> None:
        """Call ``callback`` in so many seconds."""
        self._count += 1
        heapq.heappush(self._timers, (time.monotonic() + seconds, self._count, callback))

    def sleep(self, seconds: float) -> Future:
        """A future that is settled in so many seconds."""
        future = Future(self)
        self.later(seconds, future.set)
        return future

    def spawn(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        """Run a coroutine on its own; what it raises is printed."""
        self.running += 1
        self._step(coroutine)

    def abandon(self, coroutine: Coroutine[Any, Any, Any], future: Future) -> None:
        """End a spawned coroutine if it still waits for ``future``."""
        if future.drop_waiter(coroutine):
            coroutine.close()
            self.running -= 1

    def when_nothing_happens(self, seconds: float, callback: Callable[[], None]) -> None:
        """Call ``callback`` each time that nothing else has been called for so many seconds."""
        self._rest = seconds, callback
        self._restless = time.monotonic() + seconds

    @property
    def watched(self) -> dict[int, int]:
        """The events of each descriptor that is waited for."""
        return dict(self._events)

    def stop(self) -> None:
        """Let ``run`` return after this turn."""
        self._stopped = True

    def run(self) -> None:
        while True:
            while self.ready:
                self._step(self.ready.popleft())
            if self._stopped:
                return
            for fd, events in self._epoll.poll(self._timeout()):
                callback = self._callbacks.get(fd)
                if callback is not None:
                    self._stir()
                    self._guarded(callback, events)
            while self._timers and self._timers[0][0] <= time.monotonic():
                self._stir()
                self._guarded(heapq.heappop(self._timers)[2])
            if 0 <= self._restless <= time.monotonic() and not self.ready:
                self._restless = -1.0
                assert self._rest is not None
                self._guarded(self._rest[1])

    def close(self) -> None:
        """Close the epoll handle."""
        self._epoll.close()

    def _timeout(self) -> float:
        """Seconds until something is due; -1 for never."""
        due = [self._timers[0][0]] if self._timers else []
        if self._restless >= 0:
            due.append(self._restless)
        return max(0.0, min(due) - time.monotonic()) if due else -1.0

    def _stir(self) -> None:
        """Something happens: rest begins anew."""
        if self._rest is not None:
            self._restless = time.monotonic() + self._rest[0]

    def _step(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        try:
            future: Future = coroutine.send(None)
        except StopIteration:
            self.running -= 1
            return
        except Exception:
            self.running -= 1
            traceback.print_exc()
            return
        future.add_waiter(coroutine)

    def _guarded(self, callback: Callable[..., None], *arguments: Any) -> None:
        try:
            callback(*arguments)
        except Exception:
            # a shim must outlive its own mistakes: it is all that its container has
            traceback.print_exc(file=sys.stderr)
