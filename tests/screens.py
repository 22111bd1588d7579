"""Programs on a terminal of ours."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

__all__ = ["Screen", "screen"]

_PATIENCE = 60.0


class Screen:
    """What a program shows, and the keyboard."""

    def __init__(self, fd: int, process: subprocess.Popen[bytes]) -> None:
        self._fd = fd
        self.process = process
        self.seen = b""

    def type(self, keys: bytes) -> None:
        os.write(self._fd, keys)

    def resize(self, columns: int, rows: int) -> None:
        """Change the window's size, as a terminal emulator does."""
        fcntl.ioctl(self._fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.process.send_signal(signal.SIGWINCH)

    def shows(self, pattern: bytes) -> None:
        """Wait for something on the screen; what was shown until then is forgotten."""
        end = time.monotonic() + _PATIENCE
        while not (found := re.search(pattern, self.seen)):
            assert self._more(end), f"{pattern!r} is not in {self.seen!r}"
        self.seen = self.seen[found.end() :]

    def ends(self) -> int:
        """The exit code, once all is shown."""
        end = time.monotonic() + _PATIENCE
        while self._more(end):
            continue
        return self.process.wait(_PATIENCE)

    def _more(self, end: float) -> bool:
        if not select.select([self._fd], [], [], max(0.0, end - time.monotonic()))[0]:
            return False
        try:
            data = os.read(self._fd, 1 << 16)
        except OSError:  # nobody has the other side any more
            return False
        self.seen += data
        return bool(data)


@contextmanager
def screen(
    command: Sequence[str], environment: Mapping[str, str], columns: int = 80, rows: int = 24
) -> Iterator[Screen]:
    """``command`` on a terminal of its own; killed at the end."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(ours, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    process = subprocess.Popen(
        command,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=dict(environment),
        start_new_session=True,
    )
    os.close(theirs)
    try:
        yield Screen(ours, process)
    finally:
        process.kill()
        process.wait()
        os.close(ours)
