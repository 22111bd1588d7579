"""Commands in running containers: to their end at once (ExecSync), or with streams."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from cored._pb.cri.v1 import api_pb2 as pb
from cored.abc.runtime import ExecOptions, Stdio
from cored.abc.values import Typed
from cored.engine.tasks import Tasks
from cored.errors import CoredError, DeadlineExceeded, FailedPrecondition, InvalidArgument, NotFound
from cored_service_cri.fifos import Reader
from cored_service_cri.registry import Registry
from cored_service_cri.values import Container

__all__ = ["Exec", "Execs"]

_PROCESS = "types.containerd.io/opencontainers/runtime-spec/1/Process"
# of each stream; more is thrown away (CVE-2022-31030)
_MOST_OUTPUT = 16 << 20
# seconds for what a command that ended has left in the pipes, or to its children
_DRAIN = 2.0


@dataclass(frozen=True, slots=True)
class Exec:
    """A process that has been added and waits for its start; its streams by name."""

    id: str
    container: str
    place: Path
    tty: bool

    def path(self, stream: str) -> Path:
        """The FIFO of one."""
        return self.place / stream


class Execs:
    """``state`` is for the FIFOs."""

    def __init__(self, tasks: Tasks, registry: Registry, state: Path) -> None:
        self._tasks = tasks
        self._registry = registry
        self._state = state

    async def recover(self) -> None:
        """Remove the FIFOs of daemons that were killed."""
        if self._state.is_dir():
            await asyncio.to_thread(shutil.rmtree, self._state)

    async def sync(
        self, one: Container, command: Sequence[str], timeout: float
    ) -> tuple[int, bytes, bytes]:
        """(exit code, output, errors) of a command. DeadlineExceeded after ``timeout`` seconds,
        0 for none; the command is killed then."""
        async with self.added(one, command, ("stdout", "stderr")) as process:
            with ExitStack() as stack:
                readers = [
                    stack.enter_context(Reader(process.path(name))) for name in ("stdout", "stderr")
                ]
                texts = bytearray(), bytearray()
                drains = [
                    asyncio.create_task(_drain(reader, text))
                    for reader, text in zip(readers, texts, strict=True)
                ]
                try:
                    status = await self._run(process, command, timeout)
                    await asyncio.wait(drains, timeout=_DRAIN)
                finally:
                    for drain in drains:
                        drain.cancel()
                    await asyncio.gather(*drains, return_exceptions=True)
            return status, bytes(texts[0]), bytes(texts[1])

    @asynccontextmanager
    async def added(
        self, one: Container, command: Sequence[str], streams: Sequence[str], *, tty: bool = False
    ) -> AsyncIterator[Exec]:
        """A process with FIFOs for ``streams``; killed if need be, and deleted at the end."""
        if not command:
            raise InvalidArgument("exec: no command given")
        if one.state.phase != pb.CONTAINER_RUNNING:
            raise FailedPrecondition(f"container {one.id!r}: is not running")
        table = (await self._registry.spec(one.id))["process"]
        table |= {"args": list(command), "terminal": tty}
        self._state.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="exec-", dir=self._state) as place:
            made = Exec(secrets.token_hex(16), one.id, Path(place), tty)
            for name in streams:
                os.mkfifo(made.path(name), 0o600)
            paths = {name: str(made.path(name)) for name in streams}
            stdio = Stdio(
                paths.get("stdin", ""), paths.get("stdout", ""), paths.get("stderr", ""), tty
            )
            process = Typed(_PROCESS, json.dumps(table).encode())
            await self._tasks.exec(one.id, made.id, ExecOptions(process, stdio))
            try:
                yield made
            finally:
                await asyncio.shield(self._end(made))

    async def start(self, process: Exec) -> None:
        """Start it. CoredError for a command that cannot be run."""
        await self._tasks.start(process.container, process.id)

    async def wait(self, process: Exec) -> int:
        """Its exit code, once it has ended."""
        return (await self._tasks.wait(process.container, process.id)).status

    async def resize(self, process: Exec, width: int, height: int) -> None:
        """The size of its terminal."""
        with suppress(CoredError):  # it has just ended
            await self._tasks.resize(process.container, width, height, process.id)

    async def close_stdin(self, process: Exec) -> None:
        """It gets no more input."""
        with suppress(CoredError):
            await self._tasks.close_stdin(process.container, process.id)

    async def _run(self, process: Exec, command: Sequence[str], timeout: float) -> int:
        try:
            async with asyncio.timeout(timeout or None):
                await self.start(process)
                return await self.wait(process)
        except TimeoutError as error:
            raise DeadlineExceeded(
                f"command {command[0]!r} in container {process.container!r}: timeout {timeout:g}s"
                " exceeded"
            ) from error

    async def _end(self, process: Exec) -> None:
        with suppress(NotFound, FailedPrecondition):
            state = await self._tasks.state(process.container, process.id)
            if not state.exited_at and state.pid:
                with suppress(CoredError):
                    await self._tasks.kill(process.container, signal.SIGKILL, process.id)
                await self._tasks.wait(process.container, process.id)
            await self._tasks.delete(process.container, process.id)


async def _drain(reader: Reader, text: bytearray) -> None:
    async for chunk in reader.chunks():
        text += chunk[: max(0, _MOST_OUTPUT - len(text))]
