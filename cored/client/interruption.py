"""Calls of a thread that another thread can break off."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Protocol, Self

__all__ = ["Scope", "forget", "note"]


class _Interruptible(Protocol):
    def interrupt(self) -> None: ...


class Scope:
    """While it is entered by a thread, :meth:`interrupt` breaks the connections of its calls."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside: list[_Interruptible] = []
        self._over = False

    def __enter__(self) -> Self:
        _HERE.scope = self
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        _HERE.scope = None
        with self._lock:
            self._inside.clear()

    def add(self, connection: _Interruptible) -> None:
        """A connection that a call begins on."""
        with self._lock:
            self._inside.append(connection)
            over = self._over
        if over:
            connection.interrupt()

    def remove(self, connection: _Interruptible) -> None:
        """One whose call is over: another may have it next."""
        with self._lock:
            self._inside = [one for one in self._inside if one is not connection]

    def interrupt(self) -> None:
        """Break them, and those to come."""
        with self._lock:
            self._over = True
            inside = list(self._inside)
        for connection in inside:
            connection.interrupt()


class _Here(threading.local):
    scope: Scope | None = None


_HERE = _Here()


def note(connection: _Interruptible) -> None:
    """Called for each call that begins: it belongs to the scope of this thread, if there is one."""
    if _HERE.scope is not None:
        _HERE.scope.add(connection)


def forget(connection: _Interruptible) -> None:
    """Called when a call is over."""
    if _HERE.scope is not None:
        _HERE.scope.remove(connection)
