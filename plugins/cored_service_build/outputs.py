"""What a step's processes write, as it comes, without secrets."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

__all__ = ["reading"]

_CHUNK = 1 << 16


class _Masked:
    """Replaces secrets; holds back what may be the beginning of one."""

    def __init__(self, secrets: Sequence[bytes], tell: Callable[[bytes], None]) -> None:
        self._secrets = sorted((s for s in secrets if len(s) > 3), key=len, reverse=True)
        self._tell = tell
        self._kept = b""

    def add(self, data: bytes) -> None:
        text = self._kept + data
        self._kept = b""
        for secret in self._secrets:
            text = text.replace(secret, b"***")
        for length in range(
            min(len(text), len(self._secrets[0]) - 1 if self._secrets else 0), 0, -1
        ):
            if any(secret.startswith(text[-length:]) for secret in self._secrets):
                text, self._kept = text[:-length], text[-length:]
                break
        if text:
            self._tell(text)

    def end(self) -> None:
        if self._kept:
            self._tell(self._kept)


@asynccontextmanager
async def reading(
    path: Path, tell: Callable[[bytes], None], secrets: Sequence[bytes] = ()
) -> AsyncIterator[str]:
    """A FIFO at ``path`` whose bytes go to ``tell``; all that was written has, at the end."""
    os.mkfifo(path, 0o600)
    fd = os.open(path, os.O_RDWR | os.O_NONBLOCK)
    loop = asyncio.get_running_loop()
    masked = _Masked([part for s in secrets for part in (s, s.rstrip(b"\n"))], tell)

    def read() -> None:
        try:
            while data := os.read(fd, _CHUNK):
                masked.add(data)
        except BlockingIOError:
            return

    loop.add_reader(fd, read)
    try:
        yield os.fspath(path)
    finally:
        loop.remove_reader(fd)
        read()
        masked.end()
        os.close(fd)
        path.unlink(missing_ok=True)
