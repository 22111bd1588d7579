"""Several streaming calls at once as one stream, each in a thread of its own."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from cored.errors import CoredError

if TYPE_CHECKING:
    from corectl.session import Session

__all__ = ["Streams"]


class Streams:
    """Iterates over what all calls answer, as it comes. Errors wait until :meth:`finished`.

    A single call needs no thread, and its error is raised at once.
    """

    def __init__(self, session: Session, calls: Sequence[Iterator[Any]]) -> None:
        self._session = session
        self._calls = calls
        self._errors: list[CoredError] = []

    def __iter__(self) -> Iterator[Any]:
        if len(self._calls) == 1:
            yield from self._calls[0]
            return
        queue: SimpleQueue[Any] = SimpleQueue()
        for call in self._calls:
            threading.Thread(target=_drain, args=(call, queue), daemon=True).start()
        running = len(self._calls)
        while running:
            item = queue.get()
            if item is None:
                running -= 1
            elif isinstance(item, CoredError):
                self._errors.append(item)
            elif isinstance(item, BaseException):
                raise item
            else:
                yield item

    def finished(self) -> int:
        """Say what went wrong; the exit code."""
        from corectl.report import failed

        for error in self._errors:
            failed(error, debug=self._session.debug)
        return 1 if self._errors else 0


def _drain(call: Iterator[Any], queue: SimpleQueue[Any]) -> None:
    try:
        for item in call:
            queue.put(item)
    except BaseException as error:  # goes on in the thread that waits
        queue.put(error)
    finally:
        queue.put(None)
