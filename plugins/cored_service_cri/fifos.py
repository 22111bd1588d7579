"""The daemon's ends of FIFOs, without blocking."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["Reader", "writing"]

_CHUNK = 64 << 10


class Reader:
    """One FIFO's reading end. It is opened at once; the end comes when all writers have gone."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_: object) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    async def chunks(self) -> AsyncIterator[bytes]:
        """What is written, as it comes."""
        # not connect_read_pipe: uvloop closes what that is given twice, and the second time it may
        # be the descriptor of another thread
        fd = os.dup(self._fd)
        try:
            while True:
                # first: nobody may have opened it for writing yet, which looks like the end
                await _ready(fd)
                try:
                    data = os.read(fd, _CHUNK)
                except BlockingIOError:
                    continue
                if not data:
                    return
                yield data
        finally:
            os.close(fd)


async def _ready(fd: int) -> None:
    """Until there is something to read, or the end."""
    loop = asyncio.get_running_loop()
    gate = asyncio.Event()
    loop.add_reader(fd, gate.set)
    try:
        await gate.wait()
    finally:
        loop.remove_reader(fd)


class Writer:
    """One FIFO's writing end."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    async def write(self, data: bytes) -> None:
        """Write all of it. BrokenPipeError when nobody reads any more."""
        view = memoryview(data)
        while view:
            try:
                view = view[os.write(self._fd, view) :]
            except BlockingIOError:
                await _writable(self._fd)


async def _writable(fd: int) -> None:
    loop = asyncio.get_running_loop()
    gate = asyncio.Event()
    loop.add_writer(fd, gate.set)
    try:
        await gate.wait()
    finally:
        loop.remove_writer(fd)


@contextmanager
def writing(path: Path) -> Iterator[Writer]:
    """The writing end, for a FIFO that somebody reads. OSError (ENXIO) when nobody does."""
    fd = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        yield Writer(fd)
    finally:
        os.close(fd)
