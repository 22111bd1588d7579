"""Steps as they are told and cached: one at a time for each key, whichever build asks."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

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
    pending: list[asyncio.Task[None]] = field(default_factory=list)
    _found: list[tuple[str, Made]] = field(default_factory=list)
    _holding: bool = False

    def later(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        """Begin what the next step need not wait for."""
        task = asyncio.create_task(work)
        self.pending.append(task)
        return task

    def hold(self, key: str, made: Made) -> None:
        """Have what was in the cache kept, aside; what comes together goes together."""
        self._found.append((key, made))
        if not self._holding:
            self._holding = True
            self.later(self._hold())

    async def _hold(self) -> None:
        while self._found:
            found, self._found = self._found, []
            await self.cache.hold(found, self.layers.id, self.layers.snapshots)
        self._holding = False

    async def settle(self) -> None:
        """All that was left for later is done. CoredError."""
        await asyncio.gather(*self.pending)

    async def end(self) -> None:
        """Let it come to its end after a failure: what has finished is kept."""
        await asyncio.gather(*self.pending, return_exceptions=True)

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
        """From the cache, or by ``execute``; told either way. CoredError.

        The files are there; what keeps them may be on its way still (:meth:`Steps.settle`), and
        others who want the same wait for that.
        """
        steps, key = self.steps, key_of(inputs)
        place = (scope.namespace(), steps.layers.id, key)
        lock = steps.flights.enter(place)
        try:
            await lock.acquire()
        except BaseException:
            steps.flights.leave(place)
            raise

        def leave(_: object = None) -> None:
            lock.release()
            steps.flights.leave(place)

        try:
            made, keeping = await self._made(key, inputs, execute)
        except BaseException:
            leave()
            raise
        if keeping is None:
            leave()
        else:
            steps.later(keeping).add_done_callback(leave)
        return made

    async def _made(
        self,
        key: str,
        inputs: Mapping[str, object],
        execute: Callable[[Step], Awaitable[Made]],
    ) -> tuple[Made, Coroutine[None, None, None] | None]:
        """What came of it, and what is left to do so that others find it."""
        steps, cache = self.steps, self.steps.cache
        if not steps.no_cache:
            self.started = time.time_ns()
            found = await cache.find(key, steps.layers.id, steps.layers.snapshots)
            if found is not None:
                self._report("cached")
                steps.hold(key, found)
                return found, None
        why = changes(inputs, cache.similar(self.instruction))
        if steps.no_cache:
            why = ("the cache is not to be used",)
        async with steps.limit:
            self.started = time.time_ns()
            self._report("started", why=why)
            with self._failures(why):
                made = await execute(self)
        made = replace(made, created_at=time.time_ns())
        return made, self._keep(key, inputs, made, why)

    async def _keep(
        self, key: str, inputs: Mapping[str, object], made: Made, why: tuple[str, ...]
    ) -> None:
        with self._failures(why):
            if made.stored is not None:
                await made.stored
            await self.steps.cache.put(key, self.instruction, inputs, self.steps.layers.id, made)
        self._report("done", why=why)

    @contextmanager
    def _failures(self, why: tuple[str, ...]) -> Iterator[None]:
        """Told when the body fails."""
        try:
            yield
        except asyncio.CancelledError:
            self._report("cancelled", why=why)
            raise
        except CoredError as error:
            self._report("failed", error.message.partition("\n")[0], why)
            raise

    def begin(self) -> None:
        """For steps that no cache knows (base images)."""
        self.started = time.time_ns()
        self._report("started")

    def end(self, state: str = "done", error: str = "") -> None:
        self._report(state, error)

    def _report(self, state: str, error: str = "", why: tuple[str, ...] = ()) -> None:
        ended = 0 if state == "started" else time.time_ns()
        self.steps.report(StepState(self.id, self.name, state, self.started, ended, error, why))
