"""A pool of warm worker processes: a job goes in, its result comes out."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import overload

from cored.archive.jobs import (
    DiffJob,
    DiffResult,
    LayerJob,
    LayerResult,
    Refusal,
    Route,
    VerifyJob,
    VerifyResult,
)
from cored.archive.wire import PREFIX, Done, Failed, Message, Progress, packed, unpacked
from cored.errors import CoredError, FailedPrecondition, Internal, PermissionDenied, by_code

__all__ = ["Renew", "WorkerPool"]

Renew = Callable[[Refusal], Awaitable[Route]]
"""Answers a server's challenge: the route with new headers. PermissionDenied; Unavailable."""


@dataclass(frozen=True, slots=True, eq=False)
class _Worker:
    process: Process
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send(self, message: Message) -> None:
        self.writer.write(packed(message))
        await self.writer.drain()

    async def receive(self) -> Message:
        length = PREFIX.unpack(await self.reader.readexactly(PREFIX.size))[0]
        return unpacked(await self.reader.readexactly(length))

    async def kill(self) -> int:
        """End it at once and wait until it is gone; its exit status."""
        with suppress(ProcessLookupError):
            self.process.kill()
        self.writer.close()
        return await self.process.wait()


class WorkerPool:
    """Runs jobs in at most ``n`` worker processes, the rest wait in line.

    Workers start with the first jobs, and stay.
    """

    def __init__(self, n: int) -> None:
        self._free = asyncio.Semaphore(n)
        self._idle: list[_Worker] = []
        self._all: set[_Worker] = set()
        self._closed = False

    @classmethod
    @asynccontextmanager
    async def opened(cls, n: int) -> AsyncIterator[WorkerPool]:
        """The pool for the length of a ``with`` block; at the end all workers are gone."""
        pool = cls(max(1, n))
        try:
            yield pool
        finally:
            pool._closed = True
            await asyncio.gather(*(worker.kill() for worker in pool._all))

    @overload
    async def run(
        self,
        job: LayerJob,
        progress: Callable[[int], None] | None = None,
        renew: Renew | None = None,
    ) -> LayerResult: ...
    @overload
    async def run(
        self, job: DiffJob, progress: Callable[[int], None] | None = None
    ) -> DiffResult: ...
    @overload
    async def run(
        self, job: VerifyJob, progress: Callable[[int], None] | None = None
    ) -> VerifyResult: ...
    async def run(
        self,
        job: LayerJob | DiffJob | VerifyJob,
        progress: Callable[[int], None] | None = None,
        renew: Renew | None = None,
    ) -> LayerResult | DiffResult | VerifyResult:
        """Run ``job`` in a worker; ``progress`` hears how many bytes of the blob are there.

        ``renew`` answers servers that refuse what a route of the job sends.
        Raises what the worker raised; Internal when the worker died. When the caller is cancelled
        the worker is killed: what it left half-done in files is the caller's to clean up.
        """
        async with self._free:
            if self._closed:
                raise FailedPrecondition("layer workers: the daemon is stopping")
            worker = await self._worker()
            try:
                outcome = await self._answered(worker, job, progress, renew)
            except BaseException:
                # shielded: the half-done job must have stopped before the caller cleans up after it
                await asyncio.shield(self._discard(worker))
                raise
            self._idle.append(worker)
        if isinstance(outcome, Failed):
            raise by_code(outcome.code)(outcome.message, hint=outcome.hint)
        return outcome.result

    async def _answered(
        self,
        worker: _Worker,
        job: LayerJob | DiffJob | VerifyJob,
        progress: Callable[[int], None] | None,
        renew: Renew | None,
    ) -> Done | Failed:
        try:
            await worker.send(job)
            while True:
                match await worker.receive():
                    case Progress(size):
                        if progress is not None:
                            progress(size)
                    case Refusal() as refusal:
                        await worker.send(await _renewed(refusal, renew))
                    case Done() | Failed() as outcome:
                        return outcome
                    case message:
                        raise Internal(f"layer worker: unexpected {type(message).__name__}")
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            status = await worker.kill()
            raise Internal(
                f"layer worker {worker.process.pid}: {_how(status)} during a job",
                hint="see the daemon's log; the kernel's log if memory ran out",
            ) from error

    async def _worker(self) -> _Worker:
        while self._idle:
            worker = self._idle.pop()
            if worker.process.returncode is None and not worker.reader.at_eof():
                return worker
            await self._discard(worker)
        return await self._started()

    async def _started(self) -> _Worker:
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                process = await asyncio.create_subprocess_exec(
                    sys.executable, "-P", "-m", "cored.archive.worker", str(theirs.fileno()),
                    pass_fds=(theirs.fileno(),), stdin=asyncio.subprocess.DEVNULL,
                    stdout=asyncio.subprocess.DEVNULL,
                    start_new_session=True,
                )  # fmt: skip
            reader, writer = await asyncio.open_connection(sock=ours)
        except BaseException:
            ours.close()  # a worker that runs already ends with it
            raise
        worker = _Worker(process, reader, writer)
        self._all.add(worker)
        return worker

    async def _discard(self, worker: _Worker) -> None:
        await worker.kill()
        self._all.discard(worker)


async def _renewed(refusal: Refusal, renew: Renew | None) -> Route | Failed:
    try:
        if renew is None:
            raise PermissionDenied("layer: its server wants credentials")
        return await renew(refusal)
    except CoredError as error:
        return Failed(error.code, error.message, error.hint)


def _how(status: int) -> str:
    if status < 0:
        with suppress(ValueError):
            return f"killed by {signal.Signals(-status).name}"
    return f"ended with status {status}"
