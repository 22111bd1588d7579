"""FIFOs that the daemon makes and holds for clients on other hosts."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from cored.abc.runtime import Stdio

__all__ = ["Pipes"]

_BLOCK = 128 << 10
_RETRY = 0.02


class Pipes:
    """The other ends of a process's FIFOs.

    Made by :meth:`opened`; the outputs are being read from then on, so that nothing is lost.
    ``taken`` tells that somebody has opened the input, or written something.
    """

    def __init__(self, stdio: Stdio) -> None:
        self.stdio = stdio
        self.taken = False
        self._sources: dict[int, str] = {}

    @classmethod
    @contextmanager
    def opened(cls, place: Path, *, stdin: bool, terminal: bool) -> Iterator[Pipes]:
        """Make them in a directory of their own below ``place``.

        All are gone at the end, except those of a terminal that has been taken: it is left for
        who comes next, and removed when its container ends.
        """
        # the name by which whatever ends the container knows what it may remove
        directory = place / f"corectl-{os.urandom(6).hex()}"
        directory.mkdir(mode=0o700, parents=True)
        names = {"stdin": stdin, "stdout": True, "stderr": not terminal}
        paths = {name: str(directory / name) if wanted else "" for name, wanted in names.items()}
        pipes = cls(Stdio(**paths, terminal=terminal))
        try:
            for path in filter(None, paths.values()):
                os.mkfifo(path, 0o600)
            for name in ("stdout", "stderr"):
                if paths[name]:
                    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
                    pipes._sources[os.open(paths[name], flags)] = name
            yield pipes
        finally:
            left = terminal and stdin and pipes.taken and pipes.open
            pipes.close()
            if not left:
                for path in filter(None, paths.values()):
                    Path(path).unlink(missing_ok=True)
                with suppress(FileNotFoundError):  # the container's end was faster
                    directory.rmdir()

    @classmethod
    @contextmanager
    def beside(cls, place: Path, stdio: Stdio) -> Iterator[Pipes]:
        """Outputs of their own for one who joins a container; the input is the container's."""
        with cls.opened(place, stdin=False, terminal=stdio.terminal) as pipes:
            pipes.stdio = replace(pipes.stdio, stdin=stdio.stdin)
            yield pipes

    @property
    def open(self) -> bool:
        """Whether more may come out."""
        return bool(self._sources)

    async def outputs(self) -> AsyncIterator[tuple[str, bytes]]:
        """What comes out of ``stdout`` and ``stderr``, until nobody can write any more."""
        while self._sources:
            for source in await _ready(list(self._sources)):
                try:
                    data = os.read(source, _BLOCK)
                except BlockingIOError:
                    continue
                self.taken = True
                if data:
                    yield self._sources[source], data
                else:
                    del self._sources[source]
                    os.close(source)

    async def feed(self, path: str, data: AsyncIterator[bytes]) -> None:
        """Write ``data`` to the FIFO ``path`` as it is read; its end when there is no more."""
        target = await self._writer(path)
        if target is None:
            return
        try:
            async for piece in data:
                rest = memoryview(piece)
                while rest:
                    try:
                        rest = rest[os.write(target, rest) :]
                    except BlockingIOError:
                        await _writable(target)
        except BrokenPipeError:
            return  # it takes no more
        finally:
            os.close(target)

    def close(self) -> None:
        """Let go of the outputs; the input belongs to who feeds it."""
        for source in self._sources:
            os.close(source)
        self._sources.clear()

    async def _writer(self, path: str) -> int | None:
        """Open the input as soon as somebody reads it: an opening that waits may wait for ever."""
        while True:
            try:
                target = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            except FileNotFoundError:
                return None
            except OSError as error:
                if error.errno != errno.ENXIO:
                    raise
            else:
                self.taken = True
                return target
            await asyncio.sleep(_RETRY)


async def _ready(sources: list[int]) -> list[int]:
    """Those that have something to read, or have ended. Waits for one."""
    loop = asyncio.get_running_loop()
    found: list[int] = []
    waiting = loop.create_future()

    def ready(source: int) -> None:
        found.append(source)
        loop.remove_reader(source)
        if not waiting.done():
            waiting.set_result(None)

    for source in sources:
        loop.add_reader(source, ready, source)
    try:
        await waiting
    finally:
        for source in sources:
            loop.remove_reader(source)
    return found


async def _writable(target: int) -> None:
    loop = asyncio.get_running_loop()
    waiting = loop.create_future()

    def ready() -> None:
        if not waiting.done():
            waiting.set_result(None)

    loop.add_writer(target, ready)
    try:
        await waiting
    finally:
        loop.remove_writer(target)
