"""A process whose streams are ours, as :class:`subprocess.Popen` has them.

Awaited; written by tests/surfaces.py.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

from cored.client.aio.verbs import Verbs, iteration
from cored.client.api import sessions as api
from cored.client.api.values import Output

__all__ = ["Session"]


class Session(Verbs):
    """A container, or a command in one, with its streams; made by :class:`Containers`.

    Leaving the context closes the streams; the process lives on. Iterating yields ``(stream,
    bytes)``, stream being stdout or stderr, until nobody can write any more.
    """

    _inner: api.Session

    def __aiter__(self) -> AsyncIterator[tuple[str, bytes]]:
        return self.output()

    def output(self) -> AsyncIterator[tuple[str, bytes]]:
        """What it writes, as it comes: ``(stream, bytes)``. Disconnected when the way is cut."""
        return iteration(lambda: self._inner.output())

    async def write(self, data: bytes) -> None:
        """Send it input; waits while it takes none.

        InvalidArgument without ``stdin``, FailedPrecondition when it has ended.
        """
        await self._call(self._inner.write, data)

    async def close_stdin(self) -> None:
        """Let it see the end of its input."""
        await self._call(self._inner.close_stdin)

    async def communicate(self, data: bytes = b"") -> Output:
        """Send ``data`` and the end of the input, and wait for all that it writes and its end."""
        return await self._call(self._inner.communicate, data)

    async def wait(self) -> int:
        """Its exit status, once it has ended."""
        return await self._call(self._inner.wait)

    async def kill(self, signal: int = 15) -> None:
        """Send it a signal."""
        await self._call(self._inner.kill, signal)

    async def resize(self, columns: int, rows: int) -> None:
        """Tell its terminal how large it is."""
        await self._call(self._inner.resize, columns, rows)

    async def close(self) -> None:
        """Let go of the streams; the process goes on."""
        await self._call(self._inner.close)
