"""Health checks: commands that say, time and again, whether a container is well."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections.abc import Awaitable
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path

from cored import log, scope
from cored.abc.events import Action, EventBus
from cored.abc.records import Container
from cored.abc.runtime import Exit, Stdio
from cored.engine.execs import ExecConfig, Execs
from cored.engine.lives import Key
from cored.engine.revival import revived
from cored.engine.workload import NAME, Health, HealthCheck, Probe
from cored.errors import CoredError, InvalidArgument

__all__ = ["HealthChecks", "check", "merged"]

_SECOND = 10**9
_LEAST = 10**6
_KEPT = 5
_OUTPUT = 4096
_DEFAULTS = HealthCheck((), 30 * _SECOND, 30 * _SECOND, 3, 0, 5 * _SECOND)


def check(wanted: HealthCheck | None) -> None:
    """InvalidArgument."""
    if wanted is None:
        return
    if wanted.test and wanted.test[0] not in ("NONE", "CMD", "CMD-SHELL"):
        raise InvalidArgument(f"health check {wanted.test[0]!r}: is none of NONE, CMD, CMD-SHELL")
    for name in ("interval", "timeout", "start_period", "start_interval"):
        value = getattr(wanted, name)
        if value < 0 or 0 < value < _LEAST:
            raise InvalidArgument(f"health check: {name} must be 1 ms or more")


def merged(wanted: HealthCheck | None, image: HealthCheck | None) -> HealthCheck | None:
    """What is asked for over what the image says; None for no check at all."""
    found = wanted or image
    if wanted is not None and image is not None:
        values = {name: getattr(wanted, name) or getattr(image, name) for name in asdict(wanted)}
        found = HealthCheck(**values)
    if found is None or not found.test or found.test[0] == "NONE":
        return None
    return found


class HealthChecks:
    """One look after another at each container that has a check, while it runs."""

    def __init__(self, execs: Execs, bus: EventBus) -> None:
        self._execs = execs
        self._bus = bus
        self._tasks: dict[Key, asyncio.Task[None]] = {}
        self._known: dict[Key, Health] = {}

    def of(self, id: str) -> Health | None:
        """What is known of a container's health; None where nothing is checked."""
        return self._known.get((scope.namespace(), id))

    def begin(
        self, record: Container, wanted: HealthCheck, place: Path, *, adopted: bool = False
    ) -> None:
        """Look after a container that has started; ``adopted``: long ago, under another daemon."""
        key = (scope.namespace(), record.id)
        self.end(record.id)
        self._known[key] = _read(place) if adopted else Health()
        name = f"health of {record.id}"
        self._tasks[key] = asyncio.create_task(self._watch(key, record, wanted, place), name=name)

    def end(self, id: str) -> None:
        """It has ended; what was known stays until it is started again."""
        task = self._tasks.pop((scope.namespace(), id), None)
        if task is not None:
            task.cancel()

    def forget(self, id: str) -> None:
        """It was removed."""
        self.end(id)
        self._known.pop((scope.namespace(), id), None)

    def recall(self, id: str, place: Path) -> None:
        """Read what an earlier daemon knew of a container that does not run."""
        if (place / "health.json").exists():
            self._known[scope.namespace(), id] = _read(place)

    async def close(self) -> None:
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _watch(self, key: Key, record: Container, wanted: HealthCheck, place: Path) -> None:
        def value(name: str) -> int:
            return int(getattr(wanted, name) or getattr(_DEFAULTS, name))

        began = time.time_ns()
        while True:
            health = self._known[key]
            starting = time.time_ns() - began < value("start_period")
            early = starting and health.status == "starting"
            await asyncio.sleep(value("start_interval" if early else "interval") / _SECOND)
            try:
                probe = await self._probe(record, wanted, value("timeout") / _SECOND, place)
            except CoredError as error:
                # paused, about to end, or its shim hangs: nothing is learned
                log.get("health").debug("no probe", id=record.id, error=str(error))
                continue
            starting = time.time_ns() - began < value("start_period")
            after = judged(health, probe, value("retries"), starting=starting)
            self._known[key] = after
            await asyncio.to_thread(_write, place, after)
            if after.status != health.status:
                attributes = {"image": record.image, "name": record.labels.get(NAME, "")}
                action = f"health_status: {after.status}"
                await self._bus.publish(Action("container", action, record.id, attributes))

    async def _probe(
        self, record: Container, wanted: HealthCheck, timeout: float, place: Path
    ) -> Probe:
        kind, *words = wanted.test
        args = words if kind == "CMD" else ["/bin/sh", "-c", *words]
        output = place / "health.out"
        output.unlink(missing_ok=True)
        stdio = Stdio("", f"file://{output}", f"file://{output}")
        began = time.time_ns()
        try:
            code = await self._run(record, ExecConfig(tuple(args)), stdio, timeout)
        except CoredError as error:
            if "exec" not in error.message:
                raise
            return Probe(began, time.time_ns(), 127, error.message[:_OUTPUT])
        text = _output(output)
        if code is None:
            text += f"\nHealth check exceeded timeout ({timeout:g}s)"
        return Probe(began, time.time_ns(), -1 if code is None else code, text.lstrip("\n"))

    async def _run(
        self, record: Container, config: ExecConfig, stdio: Stdio, timeout: float
    ) -> int | None:
        """The exit code, None when it took too long."""
        exec_id, _ = await self._execs.begin(record, config, stdio, quiet=True)
        waiting: Awaitable[Exit] = self._execs.wait(record.id, exec_id)
        try:
            return (await asyncio.wait_for(waiting, timeout)).status
        except TimeoutError:
            with suppress(CoredError):
                await self._execs.kill(record.id, exec_id, signal.SIGKILL)
            return None


def judged(before: Health, probe: Probe, retries: int, *, starting: bool) -> Health:
    """Health after one more look; ``starting``: failures do not count yet."""
    log = (*before.log, probe)[-_KEPT:]
    if probe.exit_code == 0:
        return Health("healthy", 0, log)
    if starting and before.status == "starting":
        return replace(before, log=log)
    streak = before.failing_streak + 1
    return Health("unhealthy" if streak >= retries else before.status, streak, log)


def _output(path: Path) -> str:
    if not path.exists():
        return ""
    with path.open("rb") as file:
        text = file.read(_OUTPUT).decode(errors="replace")
    path.unlink()
    return text


def _read(place: Path) -> Health:
    path = place / "health.json"
    return revived(Health, json.loads(path.read_text())) if path.exists() else Health()


def _write(place: Path, health: Health) -> None:
    if place.exists():
        aside = place / "health.json.new"
        aside.write_text(json.dumps(asdict(health)))
        aside.rename(place / "health.json")
