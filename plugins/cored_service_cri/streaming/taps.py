"""Containers' output for several who listen at once: a FIFO's bytes go to one reader only."""

from __future__ import annotations

import asyncio

from cored_service_cri.fifos import Reader
from cored_service_cri.output import Output
from cored_service_cri.streaming.channels import Channel

__all__ = ["Taps"]

# pieces of output that wait for a slow client; the rest is lost to it, the log has all
_BEHIND = 256


class Taps:
    """Reads a stream while anybody listens; nobody listening, the shim keeps it to the log."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._queues: dict[tuple[str, str], set[asyncio.Queue[bytes]]] = {}
        self._readers: dict[tuple[str, str], asyncio.Task[None]] = {}

    async def pump(self, id: str, stream: str, channel: Channel) -> None:
        """Send a stream's output from now on, until it ends. OSError: the client is gone."""
        key = (id, stream)
        queue: asyncio.Queue[bytes] = asyncio.Queue(_BEHIND)
        listeners = self._queues.setdefault(key, set())
        listeners.add(queue)
        if key not in self._readers:
            self._readers[key] = asyncio.create_task(self._read(key), name=f"tap {id}/{stream}")
        try:
            while chunk := await queue.get():
                await channel.write(chunk)
            await channel.close()
        finally:
            listeners.discard(queue)
            if not listeners and self._queues.get(key) is listeners:
                del self._queues[key]
                reader = self._readers.pop(key, None)
                if reader is not None:
                    reader.cancel()
                    await asyncio.gather(reader, return_exceptions=True)

    async def _read(self, key: tuple[str, str]) -> None:
        try:
            with Reader(self._output.path(*key)) as reader:
                async for chunk in reader.chunks():
                    self._tell(key, chunk)
        finally:
            self._tell(key, b"")

    def _tell(self, key: tuple[str, str], chunk: bytes) -> None:
        for queue in self._queues.get(key, ()):
            if queue.full():
                queue.get_nowait()
            queue.put_nowait(chunk)
