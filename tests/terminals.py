"""Programs at a terminal: what a person types, and what comes on the screen."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress

__all__ = ["Terminal", "terminal"]

_CODES = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]|\x1b[=>()][0-9A-B]?|\x1b\][^\x07]*\x07|\r|\x07")


class Terminal:
    """``screen`` is what has come since the last look, without codes; ``seen`` what came before."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self.raw = self.seen = b""

    @property
    def screen(self) -> str:
        return _CODES.sub("", self.raw.decode(errors="replace"))

    def type(self, text: str) -> None:
        os.write(self._fd, text.encode())

    def see(self, words: str, seconds: float = 60.0) -> str:
        """Wait for words; what has come until then, which is forgotten."""
        end = time.monotonic() + seconds
        while words not in self.screen:
            assert time.monotonic() < end, f"{words!r} does not come: {self.screen[-2000:]!r}"
            if select.select([self._fd], [], [], 0.5)[0]:
                self.raw += os.read(self._fd, 1 << 16)
        screen, self.seen, self.raw = self.screen, self.raw, b""
        return screen


@contextmanager
def terminal(command: Sequence[str], environment: Mapping[str, str]) -> Iterator[Terminal]:
    """Run a program at a terminal of its own; it is killed at the end."""
    pid, fd = pty.fork()
    if pid == 0:
        os.execvpe(command[0], list(command), dict(environment))
    try:
        yield Terminal(fd)
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(fd)
