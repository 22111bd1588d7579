"""Further commands in containers that run."""

from __future__ import annotations

import asyncio
import json
from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

from cored import plainfiles, scope
from cored.abc.records import Container
from cored.abc.runtime import ExecOptions, Exit, Stdio
from cored.abc.values import Typed
from cored.engine import names
from cored.engine.gather import whole
from cored.engine.tasks import Tasks
from cored.errors import CoredError, FailedPrecondition, InvalidArgument, NotFound
from cored.oci import capabilities
from cored.oci.security import Host
from cored.oci.users import User, groups, resolve
from cored.scope import Scope

__all__ = ["ExecConfig", "Execs"]

_PROCESS = "types.containerd.io/opencontainers/runtime-spec/1/Process"
_REMEMBERED = 1000
_Key = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class ExecConfig:
    """What to run; '' and nothing are the container's own."""

    args: tuple[str, ...]
    env: tuple[str, ...] = ()
    working_directory: str = ""
    user: str = ""
    groups: tuple[str, ...] = ()
    terminal: bool = False
    privileged: bool = False


class Execs:
    """Execs end by themselves; how they did is kept for a while for those who ask."""

    def __init__(self, tasks: Tasks, host: Host) -> None:
        self._tasks = tasks
        self._host = host
        self._running: dict[_Key, asyncio.Task[Exit]] = {}
        self._ended: OrderedDict[_Key, Exit] = OrderedDict()
        self._quiet: set[_Key] = set()

    async def begin(
        self, record: Container, config: ExecConfig, stdio: Stdio, *, quiet: bool = False
    ) -> tuple[str, int]:
        """Start a command; its exec id and pid. ``quiet``: it is the daemon's, and not shown.

        FailedPrecondition when the container does not run; else as the runtime has it.
        """
        if not config.args or not config.args[0]:
            raise InvalidArgument("exec: no command", hint="name one after the container")
        task = self._tasks.known().get((scope.namespace(), record.id))
        if task is None or not task.pid:
            raise FailedPrecondition(f"container {record.id[:12]!r}: is not running")
        process = await asyncio.to_thread(_process, record, config, task.pid, self._host)
        # whole or not at all: who asked may be cut off, and nobody would mind what runs
        return await whole(self._begin(record, process, stdio, quiet))

    async def _begin(
        self, record: Container, process: dict[str, Any], stdio: Stdio, quiet: bool
    ) -> tuple[str, int]:
        exec_id = names.new_id()
        spec = Typed(_PROCESS, json.dumps(process).encode())
        await self._tasks.exec(record.id, exec_id, ExecOptions(spec, stdio))
        try:
            pid = await self._tasks.start(record.id, exec_id)
        except BaseException:
            with suppress(CoredError):
                await whole(self._tasks.delete(record.id, exec_id))
            raise
        key = (scope.namespace(), record.id, exec_id)
        if quiet:
            self._quiet.add(key)
        self._running[key] = asyncio.create_task(self._ending(key), name=f"exec {exec_id}")
        return exec_id, pid

    async def wait(self, id: str, exec_id: str) -> Exit:
        """How it ended, once it has. NotFound."""
        key = (scope.namespace(), id, exec_id)
        running = self._running.get(key)
        if running is not None:
            return await asyncio.shield(running)
        if key in self._ended:
            return self._ended[key]
        # of an earlier daemon
        exit = await self._tasks.wait(id, exec_id)
        with suppress(CoredError):
            await self._tasks.delete(id, exec_id)
        return exit

    async def resize(self, id: str, exec_id: str, width: int, height: int) -> None:
        """Set the size of its terminal."""
        await self._tasks.resize(id, width, height, exec_id)

    async def kill(self, id: str, exec_id: str, number: int) -> None:
        """Send it a signal."""
        await self._tasks.kill(id, number, exec_id)

    def of(self, id: str) -> list[str]:
        """Those that run in a container."""
        here = scope.namespace()
        return [key[2] for key in self._running if key[:2] == (here, id) and key not in self._quiet]

    async def close(self) -> None:
        """Stop waiting; they live on."""
        tasks = list(self._running.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _ending(self, key: _Key) -> Exit:
        namespace, id, exec_id = key
        scope.enter(Scope(namespace))
        try:
            exit = await self._tasks.wait(id, exec_id)
            self._ended[key] = exit
            while len(self._ended) > _REMEMBERED:
                self._ended.popitem(last=False)
            with suppress(NotFound):  # the container has ended, too
                await self._tasks.delete(id, exec_id)
            return exit
        finally:
            self._running.pop(key, None)
            self._quiet.discard(key)


def _process(record: Container, config: ExecConfig, pid: int, host: Host) -> dict[str, Any]:
    """The OCI process: the container's first one, but for what is asked for. Blocks."""
    spec = json.loads(record.spec.value) if record.spec else {}
    process: dict[str, Any] = dict(spec.get("process") or {})
    env = dict(entry.partition("=")[::2] for entry in process.get("env", ()))
    if config.terminal:
        env.setdefault("TERM", "xterm")
    env |= dict(entry.partition("=")[::2] for entry in config.env)
    process |= {
        "args": list(config.args),
        "env": [f"{name}={value}" for name, value in env.items()],
        "terminal": config.terminal,
    }
    process.pop("consoleSize", None)
    if config.working_directory:
        process["cwd"] = config.working_directory
    if config.user or config.groups:
        process["user"] = _user(process.get("user") or {}, config, pid)
    _capabilities(process, config, host)
    return process


def _user(before: dict[str, Any], config: ExecConfig, pid: int) -> dict[str, Any]:
    read = partial(plainfiles.text, f"/proc/{pid}/root")
    user = User(before.get("uid", 0), before.get("gid", 0), tuple(before.get("additionalGids", ())))
    if config.user:
        user = resolve(config.user, read)
    more = dict.fromkeys((user.gid, *user.groups, *groups(config.groups, read)))
    found: dict[str, Any] = {"uid": user.uid, "gid": user.gid, "additionalGids": list(more)}
    if "umask" in before:
        found["umask"] = before["umask"]
    return found


def _capabilities(process: dict[str, Any], config: ExecConfig, host: Host) -> None:
    bounding = list((process.get("capabilities") or {}).get("bounding", ()))
    if config.privileged:
        there = host.capabilities
        bounding = [name for name in capabilities.ALL if there is None or name in there]
        process.pop("apparmorProfile", None)
    root = process.get("user", {}).get("uid", 0) == 0
    granted = bounding if root or config.privileged else []
    process["capabilities"] = {
        "bounding": bounding, "effective": granted, "permitted": granted,
    }  # fmt: skip
