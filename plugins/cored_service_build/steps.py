"""Steps as they are told and cached: one at a time for each key, whichever build asks."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from cored import scope
from cored.errors import CoredError
from cored_service_build.cache import Cache, Made, key_of
from cored_service_build.changes import changes
from cored_service_build.layers import Layers
from cored_service_build.values import Output, Report, StepState

__all__ = ["Flights", "Step", "Steps"]


@dataclass(slots=True)
class Flights:
    """Who works on which key, in all builds."""

    locks: dict[tuple[str, str, str], tuple[asyncio.Lock, int]] = field(default_factory=dict)

    def enter(self, key: tuple[str, str, str]) -> asyncio.Lock:
        lock, users = self.locks.get(key, (asyncio.Lock(), 0))
        self.locks[key] = (lock, users + 1)
        return lock

    def leave(self, key: tuple[str, str, str]) -> None:
        lock, users = self.locks[key]
        if users == 1:
            del self.locks[key]
        else:
            self.locks[key] = (lock, users - 1)


@dataclass(slots=True)
class Steps:
    """One build's steps, numbered as they come; ``limit`` is how many work at once."""

    report: Report
    cache: Cache
    layers: Layers
    flights: Flights
    no_cache: bool
    limit: asyncio.Semaphore
    count: int = 0

    def new(self, name: str, instruction: str) -> Step:
        self.count += 1
        return Step(self, self.count, name, instruction)


@dataclass(slots=True)
class Step:
    """One step of a build."""

    steps: Steps
    id: int
    name: str
    instruction: str
    started: int = 0

    def tell(self, data: bytes) -> None:
        """Something that it wrote."""
        self.steps.report(Output(self.id, data))

    async def made(
        self, inputs: Mapping[str, object], execute: Callable[[Step], Awaitable[Made]]
    ) -> Made:
        """From the cache, or by ``execute``; told either way. CoredError."""
        steps, key = self.steps, key_of(inputs)
        place = (scope.namespace(), steps.layers.id, key)
        lock = steps.flights.enter(place)
        try:
            async with lock:
                return await self._made(key, inputs, execute)
        finally:
            steps.flights.leave(place)

    async def _made(
        self,
        key: str,
        inputs: Mapping[str, object],
        execute: Callable[[Step], Awaitable[Made]],
    ) -> Made:
        steps, cache = self.steps, self.steps.cache
        if not steps.no_cache:
            self.started = time.time_ns()
            found = await cache.find(key, steps.layers.id, steps.layers.snapshots)
            if found is not None:
                self._report("cached")
                return found
        why = changes(inputs, cache.similar(self.instruction))
        if steps.no_cache:
            why = ("the cache is not to be used",)
        async with steps.limit:
            self.started = time.time_ns()
            self._report("started", why=why)
            try:
                made = await execute(self)
                made = await cache.put(key, self.instruction, inputs, steps.layers.id, made)
            except asyncio.CancelledError:
                self._report("cancelled", why=why)
                raise
            except CoredError as error:
                self._report("failed", error.message.partition("\n")[0], why)
                raise
        self._report("done", why=why)
        return made

    def begin(self) -> None:
        """For steps that no cache knows (base images)."""
        self.started = time.time_ns()
        self._report("started")

    def end(self, state: str = "done", error: str = "") -> None:
        self._report(state, error)

    def _report(self, state: str, error: str = "", why: tuple[str, ...] = ()) -> None:
        ended = 0 if state == "started" else time.time_ns()
        self.steps.report(StepState(self.id, self.name, state, self.started, ended, error, why))
