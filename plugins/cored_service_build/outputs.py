"""What a step's processes write, as it comes, without secrets."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

__all__ = ["Masked", "reading"]

_CHUNK = 1 << 16
_MASK = b"***"
# seconds until the next look at a reader that is behind
_PAUSE = 0.05


class Masked:
    """Replaces secrets; holds back what may be the beginning of one."""

    def __init__(self, secrets: Sequence[bytes], tell: Callable[[bytes], None]) -> None:
        # shorter ones would be found in too much that is none
        self._secrets = sorted({s for s in secrets if len(s) > 3}, key=len, reverse=True)
        self._pattern = re.compile(b"|".join(map(re.escape, self._secrets)) or b"(?!)")
        self._tell = tell
        self._kept = b""

    def add(self, data: bytes) -> None:
        text, place, out = self._kept + data, 0, b""
        while True:
            match = self._pattern.search(text, place)
            held = self._beginning(text, place)
            if match is None or held <= match.start():
                break
            out += text[place : match.start()] + _MASK
            place = match.end()
        self._kept = text[held:]
        if out := out + text[place:held]:
            self._tell(out)

    def _beginning(self, text: bytes, place: int) -> int:
        """Where what may become a secret begins; the end where nothing may."""
        longest = len(self._secrets[0]) if self._secrets else 0
        for start in range(max(place, len(text) - longest + 1), len(text)):
            rest = text[start:]
            if any(len(rest) < len(s) and s.startswith(rest) for s in self._secrets):
                return start
        return len(text)

    def end(self) -> None:
        if self._kept:
            self._tell(self._pattern.sub(_MASK, self._kept))
            self._kept = b""


@asynccontextmanager
async def reading(
    path: Path,
    tell: Callable[[bytes], None],
    secrets: Sequence[bytes] = (),
    behind: Callable[[], bool] = lambda: False,
) -> AsyncIterator[str]:
    """A FIFO at ``path`` whose bytes go to ``tell``; all that was written has, at the end.

    While who is told is ``behind`` nothing is read, and who writes waits.
    """
    os.mkfifo(path, 0o600)
    fd = os.open(path, os.O_RDWR | os.O_NONBLOCK)
    loop = asyncio.get_running_loop()
    masked = Masked([part for s in secrets for part in (s, s.rstrip(b"\n"))], tell)
    pause: asyncio.TimerHandle | None = None

    def read() -> bool:
        """One piece: who writes faster than this reads must not keep the loop from all else."""
        try:
            data = os.read(fd, _CHUNK)
        except BlockingIOError:
            return False
        masked.add(data)
        return True

    def ready() -> None:
        nonlocal pause
        if behind():
            loop.remove_reader(fd)
            pause = loop.call_later(_PAUSE, again)
        else:
            read()

    def again() -> None:
        loop.add_reader(fd, ready)

    loop.add_reader(fd, ready)
    try:
        yield os.fspath(path)
    finally:
        if pause is not None:
            pause.cancel()
        loop.remove_reader(fd)
        while read():
            continue
        masked.end()
        os.close(fd)
        path.unlink(missing_ok=True)
