"""cored.workloads.v1.Streams: streams of processes, over gRPC."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

from cored import log
from cored._pb.cored.workloads.v1 import streams_pb2 as pb
from cored.abc.service import Service
from cored.engine.containers import Containers
from cored.engine.pipes import Pipes
from cored.errors import InvalidArgument

__all__ = ["StreamsService"]

_LOG = log.get("streams")


class StreamsService(Service):
    """FIFOs in ``place``, each pair of ends with a call of its own."""

    service = "cored.workloads.v1.Streams"
    lasting = frozenset({"Open"})

    def __init__(self, containers: Containers, place: Path) -> None:
        self._containers = containers
        self._place = place
        self._dropping: set[asyncio.Task[None]] = set()

    async def Open(self, requests: AsyncIterator[pb.StreamInput]) -> AsyncIterator[pb.StreamOutput]:
        first = await anext(aiter(requests), None)
        if first is None or first.WhichOneof("what") != "open":
            raise InvalidArgument("streams: the first message must say what to open")
        wanted = first.open
        with ExitStack() as stack:
            pipes = stack.enter_context(await self._pipes(wanted))
            if wanted.container:
                streams = pipes.stdio.stdout, pipes.stdio.stderr
                await self._containers.join(wanted.container, *streams)
            stdin = pipes.stdio.stdin if wanted.stdin else ""
            feeding = asyncio.create_task(_feed(pipes, stdin, requests))
            stack.callback(feeding.cancel)
            yield pb.StreamOutput(
                opened=pb.StreamsOpened(
                    stdin=stdin, stdout=pipes.stdio.stdout, stderr=pipes.stdio.stderr
                )
            )
            try:
                async for name, data in pipes.outputs():
                    if name == "stdout":
                        yield pb.StreamOutput(stdout=data)
                    else:
                        yield pb.StreamOutput(stderr=data)
            finally:
                if wanted.drop and pipes.open:
                    feeding.cancel()
                    self._drop(pipes, stack.pop_all())

    async def close(self) -> None:
        """Stop reading what nobody wants."""
        tasks = list(self._dropping)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _pipes(self, wanted: pb.OpenStreams) -> AbstractContextManager[Pipes]:
        if not wanted.container:
            return Pipes.opened(self._place, stdin=wanted.stdin, terminal=wanted.terminal)
        _, stdio = await self._containers.attachable(wanted.container)
        return Pipes.beside(self._place, stdio)

    def _drop(self, pipes: Pipes, stack: ExitStack) -> None:
        """Read on for a client that is gone; the process must not wait for ever."""

        async def drop() -> None:
            with stack:
                async for _ in pipes.outputs():
                    continue

        task = asyncio.create_task(drop())
        self._dropping.add(task)
        task.add_done_callback(self._dropping.discard)


async def _feed(pipes: Pipes, path: str, requests: AsyncIterator[pb.StreamInput]) -> None:
    """Input until the client has no more; of a client that is gone, the end of the call tells."""

    async def data() -> AsyncIterator[bytes]:
        async for request in requests:
            yield request.stdin

    try:
        if path:
            await pipes.feed(path, data())
        async for _ in requests:
            continue
    except Exception as error:
        _LOG.debug("streams: no more input", error=str(error))
