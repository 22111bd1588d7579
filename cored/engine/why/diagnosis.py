"""Gathers what the daemon knows of a container's end, and finds out what it does not."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from cored import linux, log, scope
from cored.abc.records import Container
from cored.abc.values import Mount
from cored.archive.place import to_read
from cored.engine import logs
from cored.engine.images import Images
from cored.engine.logdrivers import LogDrivers
from cored.engine.networking import Networking
from cored.engine.views import Views
from cored.engine.why import executables, hints, holders
from cored.engine.why.endings import ending
from cored.engine.why.executables import Root
from cored.engine.why.values import Cause, Report
from cored.engine.workload import NAME, ContainerState, ContainerView, decoded, with_state
from cored.errors import CoredError, NotFound

__all__ = ["Diagnosis"]

_REMEMBERED = 200
_LINES = 10
# a command that cannot be run has ended by then, seconds
_AT_ONCE = 5
_CANNOT_RUN = (1, 126, 127, 255)
_PORT = re.compile(r"port (\d+)/(tcp|udp|sctp)")
_PATH = re.compile(r"(?<![\w.])/[^\s'\"`:,)]+")
_RUNTIME = re.compile(r"\bexec(utable)?\b")


class Diagnosis:
    """``place`` is a container's directory, ``rootfs`` what its root filesystem is mounted from."""

    def __init__(
        self,
        views: Views,
        images: Images,
        networking: Networking,
        drivers: LogDrivers,
        place: Callable[[str], Path],
        rootfs: Callable[[Container], Awaitable[Sequence[Mount]]],
    ) -> None:
        self._views = views
        self._images = images
        self._networking = networking
        self._logs = drivers
        self._place = place
        self._rootfs = rootfs
        # of containers that are gone; or never were
        self._gone: OrderedDict[tuple[str, str], Report] = OrderedDict()

    async def why(self, name: str) -> Report:
        """What is known of a container, also of one that removed itself lately. NotFound."""
        try:
            record = await self._views.find(name)
        except NotFound:
            found = [
                report
                for (namespace, id), report in reversed(self._gone.items())
                if namespace == scope.namespace() and (report.name == name or id.startswith(name))
            ]
            if not found or not name:
                raise
            return found[0]
        return await self._report(await self._views.view(record))

    async def remember(self, record: Container, status: str = "removed") -> None:
        """Keep a report of a container that is about to go, with its last state in the record."""
        try:
            report = await self._report(await self._views.view(record))
        except (CoredError, OSError, ValueError) as error:
            # that nobody can say why must not keep it from going
            log.get("why").warning("no report", id=record.id, error=str(error))
            return
        self._gone[scope.namespace(), record.id] = replace(report, status=status)
        while len(self._gone) > _REMEMBERED:
            self._gone.popitem(last=False)

    async def remember_failure(self, record: Container, error: CoredError) -> None:
        """The same for one that could not be made."""
        state = ContainerState(exited_at=time.time_ns(), exit_status=128, error=str(error))
        await self.remember(with_state(record, state), "never made")

    async def explained(self, record: Container, error: CoredError) -> CoredError:
        """The error of a start, with what is behind it as its hint."""
        try:
            found = await self._explanation(record, error.message)
        except (CoredError, OSError, ValueError) as failed:
            log.get("why").warning("no explanation", id=record.id, error=str(failed))
            return error
        return type(error)(error.message, hint=found) if found else error

    async def _explanation(self, record: Container, message: str) -> str:
        port = _PORT.search(message)
        if port is not None:
            return await self._port_holder(record, port[2], int(port[1]))
        if "busy" in message.lower():
            return await asyncio.to_thread(_busy_words, message)
        mount = hints.mount_problem(message)
        if mount is not None:
            return await asyncio.to_thread(_mount_words, *mount, message)
        if not _RUNTIME.search(message):
            return ""
        return await self._command_problem(record)

    async def _port_holder(self, record: Container, protocol: str, number: int) -> str:
        found = []
        for other in await self._views.records():
            ports = [port for one in self._networking.of(other.id) for port in one.ports]
            taken = any((p.protocol or "tcp", p.host) == (protocol, number) for p in ports)
            if taken and other.id != record.id:
                found.append(f"container {other.labels.get(NAME, other.id[:12])!r}")
        found += await asyncio.to_thread(holders.port_holders, protocol, number)
        who = f"{', '.join(dict.fromkeys(found))} has it; " if found else ""
        return f"{who}publish another port of the host"

    async def _command_problem(self, record: Container) -> str:
        """Why its command cannot be run; '' when it can."""
        config, _ = decoded(record)
        document: dict[str, Any] = json.loads(record.spec.value) if record.spec else {}
        process = document.get("process") or {}
        words = (process.get("args") or [])[2 if config.init else 0 :]
        if not words:
            return ""
        mounts = to_read(await self._rootfs(record))
        binds = [
            (each["destination"], each["source"])
            for each in document.get("mounts") or ()
            if each.get("type") == "bind"
        ]

        def look() -> str:
            with linux.mounted(mounts) as place:
                return executables.problem(Root(str(place), binds), process, words[0])

        return await asyncio.to_thread(look)

    async def _report(self, view: ContainerView) -> Report:
        record, state = view.record, view.state
        lines = await self._last_lines(record)
        causes: list[Cause] = []
        if state.error and state.started_at:
            causes.append(Cause("exit", state.error))
        elif state.error:
            causes.append(_start_cause(state.error))
        elif state.exited_at:
            causes += await self._end_causes(view, lines)
        causes += _health_causes(view)
        causes += _restart_causes(view)
        try:
            await self._images.resolve(record.image)
        except CoredError:
            hint = f"pull it with: corectl pull {view.config.image}"
            causes.append(Cause("image", f"its image {record.image} is not here any more", hint))
        return Report(
            record.id,
            view.name,
            view.config.image,
            view.status,
            state.exit_status,
            state.started_at,
            state.exited_at,
            tuple(causes),
            tuple(lines),
            state.lives,
        )

    async def _end_causes(self, view: ContainerView, lines: Sequence[str]) -> list[Cause]:
        state, found = view.state, list[Cause]()
        if state.oom_killed:
            found.append(_out_of_memory(view))
        if state.asked and state.exit_status:
            found.append(Cause("asked", state.asked))
        known = state.causes.get("signalled")
        how = ending(state.exit_status, signalled=None if known is None else bool(known))
        said = state.asked or (state.oom_killed and state.exit_status == 128 + signal.SIGKILL)
        found.append(replace(how, telling=False) if said else how)
        if refused := state.causes.get("pids_refused"):
            limit = view.config.resources.pids_limit
            text = f"its pids limit{f' of {limit}' if limit > 0 else ''} refused {refused} forks"
            found.append(Cause("pids", text, "raise it with --pids-limit", telling=True))
        if state.exit_status and not state.asked:
            at_once = state.started_at > 0 and (
                state.exited_at - state.started_at < _AT_ONCE * 10**9
            )
            if at_once and state.exit_status in _CANNOT_RUN:
                text = await self._command_problem(view.record)
                found += [Cause("executable", text, telling=True)] if text else []
            spec = json.loads(view.record.spec.value) if view.record.spec else {}
            found += hints.denials(lines, view.config, spec.get("process") or {})
        return found

    async def _last_lines(self, record: Container) -> list[str]:
        path = self._logs.file(record, self._place(record.id))
        if path is None:
            return []
        data = b"".join([one.data async for one in logs.read(path, tail=_LINES)])
        return [line.rstrip("\r") for line in data.decode(errors="replace").splitlines()]


def _start_cause(error: str) -> Cause:
    if _PORT.search(error):
        kind = "port"
    elif hints.mount_problem(error) is not None or error.startswith("volume "):
        kind = "mount"
    elif _RUNTIME.search(error):
        kind = "executable"
    else:
        kind = "start"
    return Cause(kind, f"could not be started: {error}")


def _out_of_memory(view: ContainerView) -> Cause:
    causes = view.state.causes
    limit = causes.get("memory_limit") or view.config.resources.memory_limit
    kills, peak = causes.get("oom_kills", 0), causes.get("memory_peak", 0)
    text = "out of memory: the kernel killed "
    text += f"{kills} of its processes" if kills > 1 else "it" if kills else "one of its processes"
    text += f"; its limit is {_size(limit)}" if limit else "; it has no limit of its own"
    text += f", it came to {_size(peak)}" if peak else ""
    hint = "give it more with --memory" if limit else "the host itself is short of memory"
    return Cause("oom", text, hint, telling=True)


def _health_causes(view: ContainerView) -> list[Cause]:
    health = view.health
    if health is None or not health.failing_streak:
        return []
    last = health.log[-1]
    how = "took too long" if last.exit_code < 0 else f"exit code {last.exit_code}"
    said = " ".join(last.output.split())[:300]
    times = f"{health.failing_streak} time{'s' if health.failing_streak > 1 else ''}"
    text = f"{health.status}: its health check failed {times}, last with {how}"
    return [Cause("health", f"{text}{f': {said}' if said else ', and said nothing'}")]


def _restart_causes(view: ContainerView) -> list[Cause]:
    policy, state = view.config.restart, view.state
    if policy.name in ("", "no") or not (state.restarts or view.status == "restarting"):
        return []
    most = f":{policy.maximum}" if policy.maximum else ""
    text = f"was started again {state.restarts} times by its restart policy {policy.name}{most}"
    if view.status == "restarting":
        text += ", and waits for the next start"
    elif state.exited_at and policy.maximum and state.restarts >= policy.maximum:
        text += ", which has given up"
    return [Cause("restarts", text)]


def _mount_words(source: str, target: str, message: str) -> str:
    """What is behind a mount that failed. Blocks."""
    lower = message.lower()
    if "not a directory" in lower or "is a directory" in lower:
        what = "a directory" if Path(source).is_dir() else "a file"
        other = "a file" if what == "a directory" else "a directory"
        return f"{source!r} is {what} of the host, {target!r} is {other} of the image"
    if "no such file" in lower and not Path(source).exists():
        return f"there is no {source!r} on the host"
    return ""


def _busy_words(message: str) -> str:
    """Who has mounted what a message is about. Blocks."""
    for path in dict.fromkeys(_PATH.findall(message)):
        found = holders.mount_holders(path)
        if found:
            return f"{path!r} is mounted by {', '.join(found[:3])}"
    return ""


def _size(count: int) -> str:
    value = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:.4g} {unit}"
        value /= 1024
    return f"{value:.4g} TiB"
