"""What the contract of runtimes plays on: tasks of a busybox, made and cleaned up."""

from __future__ import annotations

import asyncio
import functools
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from cored import scope
from cored.abc.runtime import CreateOptions, ExecOptions, Exit, Runtime, Status, Stdio, Task
from cored.abc.values import Mount, Typed
from cored.errors import CoredError
from cored.scope import Scope

__all__ = ["NAMESPACE", "PATIENCE", "Opened", "Stage", "eventually", "needs", "wait"]

Opened = Callable[[], AbstractAsyncContextManager[Runtime]]

NAMESPACE = "contract"
# a task that hangs is a failure, not a wait; seconds, generous for machines that are busy
PATIENCE = 60.0
_CGROUP = "cored-contract"
_PREFIX = "types.containerd.io/opencontainers/runtime-spec/1"
_ENVIRONMENT = ["PATH=/bin", "TERM=xterm"]


def needs(
    *words: str,
) -> Callable[[Callable[..., Awaitable[None]]], Callable[..., Awaitable[None]]]:
    """Decorate a test with what it needs of the runtime, by :attr:`RuntimeInfo.limits`' words.

    Where one is declared a limit the test must fail, and is reported as an expected failure with
    the reason; a declared limit that is none is a failure.
    """

    def decorate(test: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
        @functools.wraps(test)
        async def checked(self: Any, stage: Stage, *rest: Any, **named: Any) -> None:
            found = [f"{word}: {stage.limits[word]}" for word in words if word in stage.limits]
            if not found:
                await test(self, stage, *rest, **named)
                return
            try:
                await test(self, stage, *rest, **named)
            except (CoredError, AssertionError, TimeoutError, pytest.fail.Exception):
                pytest.xfail(f"declared limit, {'; '.join(found)}")
            pytest.fail(f"declared as a limit, and works: {'; '.join(found)}")

        return checked

    return decorate


async def eventually(condition: Callable[[], bool]) -> None:
    """Return when it is true; TimeoutError."""
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110 - files and processes tell nobody
            await asyncio.sleep(0.02)


@dataclass(slots=True)
class Stage:
    """A runtime that ``open`` opens; containers ask for it with ``name`` and ``options``.

    ``rootfs`` is a tree with a busybox, its links in /bin, and empty dev, proc, sys and tmp;
    ``place`` is for files. ``limits`` are what the runtime is declared not to do.
    """

    open: Opened
    daemon: AsyncExitStack
    runtime: Runtime
    rootfs: Path
    place: Path
    name: str = ""
    options: Typed | None = None
    limits: Mapping[str, str] = field(default_factory=dict)
    tasks: list[Task] = field(default_factory=list)
    fifos: list[Path] = field(default_factory=list)

    @classmethod
    @asynccontextmanager
    async def opened(
        cls,
        open: Opened,
        rootfs: Path,
        place: Path,
        name: str,
        options: Typed | None,
        limits: Mapping[str, str],
    ) -> AsyncIterator[Stage]:
        """All that was made on it is gone at the end. To the limits the runtime's own are added."""
        async with AsyncExitStack() as daemon:
            runtime = await daemon.enter_async_context(open())
            info = await runtime.info(name, options)
            known = {**info.limits, **limits}
            stage = cls(open, daemon, runtime, rootfs, place, name, options, known)
            try:
                yield stage
            finally:
                for task in stage.tasks:
                    await _ended(task)
                for path in stage.fifos:
                    # threads that still wait for the other end have waited enough
                    os.close(os.open(path, os.O_RDWR | os.O_NONBLOCK))
                for parent in (Path("/sys/fs/cgroup"), *Path("/sys/fs/cgroup").iterdir()):
                    with suppress(OSError):
                        (parent / _CGROUP).rmdir()

    async def reopen(self) -> dict[str, Task]:
        """As after a restart of the daemon: the tasks that are found again, by id."""
        await self.daemon.aclose()
        self.runtime = await self.daemon.enter_async_context(self.open())
        with scope.entered(Scope(NAMESPACE)):
            found = await self.runtime.recover()
        self.tasks = list(found.values())
        return {id: task for (_, id), task in found.items()}

    async def create(
        self,
        *arguments: str,
        id: str = "",
        stdio: Stdio | None = None,
        terminal: bool = False,
        spec: Mapping[str, Any] | None = None,
    ) -> Task:
        """A created task; its output goes to the file ``<id>.out`` unless ``stdio`` says other."""
        id = id or f"task{len(self.tasks)}"
        wanted = CreateOptions(
            Typed(
                f"{_PREFIX}/Spec", json.dumps(self._spec(id, arguments, terminal, spec)).encode()
            ),
            [Mount("bind", str(self.rootfs), options=("rbind", "ro"))],
            stdio or self.to_file(id, terminal=terminal),
            options=self.options,
            runtime=self.name,
        )
        with scope.entered(Scope(NAMESPACE)):
            task = await self.runtime.create(id, wanted)
        self.tasks.append(task)
        return task

    async def running(self, *arguments: str, **named: Any) -> Task:
        """A started task."""
        task = await self.create(*arguments, **named)
        await task.start()
        return task

    async def run(self, *arguments: str, **named: Any) -> tuple[Exit, str]:
        """A whole life: how it ended, and what it wrote."""
        task = await self.running(*arguments, **named)
        exit = await wait(task)
        await task.delete()
        return exit, self.output(task.id)

    async def exec(
        self,
        task: Task,
        exec_id: str,
        *arguments: str,
        stdio: Stdio | None = None,
        terminal: bool = False,
    ) -> None:
        """One more process, created; output as for tasks."""
        process = Typed(f"{_PREFIX}/Process", json.dumps(_process(arguments, terminal)).encode())
        to = stdio or self.to_file(f"{task.id}-{exec_id}", terminal=terminal)
        await task.exec(exec_id, ExecOptions(process, to))

    def to_file(self, name: str, *, terminal: bool = False) -> Stdio:
        """Both outputs into one file."""
        uri = f"file://{self.place}/{name}.out"
        return Stdio("", uri, "" if terminal else uri, terminal)

    def output(self, name: str) -> str:
        """What a task ``id``, or an exec ``id-exec_id``, has written to its file."""
        path = self.place / f"{name}.out"
        return path.read_text() if path.exists() else ""

    def fifo(self, name: str) -> str:
        """A new FIFO's path."""
        path = self.place / name
        os.mkfifo(path)
        self.fifos.append(path)
        return str(path)

    def _spec(
        self, id: str, arguments: Sequence[str], terminal: bool, more: Mapping[str, Any] | None
    ) -> dict[str, Any]:
        namespaces = ("pid", "ipc", "uts", "mount", "network")
        return {
            "ociVersion": "1.0.2",
            "process": _process(arguments, terminal),
            "root": {"path": "rootfs", "readonly": True},
            "mounts": [
                {"destination": "/proc", "type": "proc", "source": "proc"},
                {"destination": "/dev", "type": "tmpfs", "source": "tmpfs"},
                {
                    "destination": "/dev/pts",
                    "type": "devpts",
                    "source": "devpts",
                    "options": ["newinstance", "ptmxmode=0666", "mode=0620"],
                },
                {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs"},
            ],
            "linux": {
                "cgroupsPath": f"/{_CGROUP}/{id}",
                "namespaces": [{"type": kind} for kind in namespaces],
            },
            **(more or {}),
        }


async def wait(task: Task, exec_id: str = "") -> Exit:
    """How it ended. TimeoutError."""
    async with asyncio.timeout(PATIENCE):
        return await task.wait(exec_id)


def _process(arguments: Sequence[str], terminal: bool) -> dict[str, Any]:
    return {
        "terminal": terminal,
        "user": {"uid": 0, "gid": 0},
        "args": list(arguments),
        "env": _ENVIRONMENT,
        "cwd": "/",
    }


async def _ended(task: Task) -> None:
    """Whatever state it is in, gone."""
    with suppress(CoredError, TimeoutError):
        state = await task.state()
        if state.status is Status.PAUSED:
            await task.resume()
        if state.status is not Status.STOPPED:
            await task.kill(9, all=state.status is not Status.CREATED)
            await wait(task)
    with suppress(CoredError):
        await task.delete()
