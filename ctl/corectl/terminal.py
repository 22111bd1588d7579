"""The user's terminal: raw while a container has it, and back to what it was."""

from __future__ import annotations

import os
from types import TracebackType
from typing import Any, Self

__all__ = ["RawTerminal", "window"]


class RawTerminal:
    """Keys go to the container as they are, also Ctrl-C, while the context lasts."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._before: list[Any] = []

    def __enter__(self) -> Self:
        import termios
        import tty

        self._before = termios.tcgetattr(self._fd)
        tty.setraw(self._fd, termios.TCSADRAIN)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        import termios

        termios.tcsetattr(self._fd, termios.TCSADRAIN, self._before)


def window() -> tuple[int, int] | None:
    """Columns and rows of the terminal on standard output or input; None when neither is one."""
    for fd in (1, 0):
        try:
            columns, rows = os.get_terminal_size(fd)
        except OSError:
            continue
        if columns and rows:
            return columns, rows
    return None
