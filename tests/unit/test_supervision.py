"""Starts and ends of containers when a step in the middle fails, or somebody is faster."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import AsyncMock, MagicMock

import pytest
from cored_content_local import LocalContentStore

from cored import scope
from cored.abc.records import Container, ContainerStore
from cored.abc.runtime import Exit
from cored.abc.values import Typed
from cored.config import GcConfig
from cored.engine.adjustments import Adjustments
from cored.engine.containers import Containers
from cored.engine.events import Exchange
from cored.engine.lives import Lives
from cored.engine.supervision import SPEC, Supervision
from cored.engine.workload import (
    NAME,
    ContainerConfig,
    ContainerState,
    RestartPolicy,
    decoded,
    encoded,
)
from cored.errors import FailedPrecondition, Internal, Unavailable
from cored.metadata.store import Metadata
from cored.oci.resources import Resources
from cored.scope import Scope

KEY = ("one", "c")
QUIET = GcConfig(startup_delay=3600, deletion_threshold=0, mutation_threshold=0)


class Tasks:
    """A container's task that ends when a test says so."""

    def __init__(self) -> None:
        self.there: dict[Any, Any] = {}
        self.ended: asyncio.Future[Exit] = asyncio.get_running_loop().create_future()
        self.stuck = False
        self.killed: list[int] = []

    def known(self) -> dict[Any, Any]:
        return self.there

    async def create(self, id: str, **_: object) -> None:
        self.there[KEY] = SimpleNamespace(pid=7, causes=dict)

    async def start(self, id: str) -> int:
        return 7

    async def wait(self, id: str) -> Exit:
        return await asyncio.shield(self.ended)

    async def kill(self, id: str, number: int) -> None:
        self.killed.append(number)

    async def state(self, id: str) -> Any:
        raise Unavailable("the shim does not answer")

    async def delete(self, id: str) -> None:
        if self.stuck:
            raise Internal("the runtime says no")
        self.there.pop(KEY, None)

    async def update(self, *_: object) -> None:
        self.ended.set_result(Exit(7, 3, 99))
        await asyncio.sleep(0.01)


class World:
    """What supervises one container."""

    def __init__(self, store: ContainerStore) -> None:
        self.store, self.tasks, self.lives = store, Tasks(), Lives()
        self.discarded: list[str] = []
        self.storage, self.networking, diagnosis = AsyncMock(), AsyncMock(), AsyncMock()
        diagnosis.explained.side_effect = lambda record, error: error
        sharing = MagicMock(borrowed=AsyncMock(return_value=None))
        logs: Any = MagicMock()
        self.supervision = Supervision(
            store, self.tasks, MagicMock(), self.networking, self.storage, MagicMock(),  # type: ignore[arg-type]
            self.lives, Exchange(), MagicMock(), self.discard, logs, diagnosis,
        )  # fmt: skip
        self.supervision.share(sharing)
        self.supervision._new_task = self._new_task  # type: ignore[method-assign]

    async def _new_task(self, record: Container, *_: object) -> None:
        await self.tasks.create(record.id)

    async def discard(self, record: Container, *, volumes: bool = False) -> None:
        self.discarded.append(record.id)

    async def made(self, **config: Any) -> Container:
        asked = ContainerConfig("image", **config)
        return await self.store.create(
            Container(
                "c", {NAME: "name"}, runtime="r", spec=Typed(SPEC, b'{"linux": {}}'),
                extensions=encoded(asked, ContainerState()),
            )
        )  # fmt: skip

    async def state(self) -> ContainerState:
        return decoded(await self.store.get("c"))[1]

    def containers(self) -> Containers:
        """Only what the tests call of it."""
        found: Any = object.__new__(Containers)
        found._store, found._tasks, found._lives = self.store, self.tasks, self.lives
        found._supervision, found.find = self.supervision, self.store.get
        found.tell, found._thaw = AsyncMock(), AsyncMock()
        found.host = SimpleNamespace(swap=True, cpus=(), memory_nodes=())
        found._discard = self.discard
        return found  # type: ignore[no-any-return]


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[ContainerStore]:
    content = LocalContentStore(tmp_path / "content")
    async with Metadata.opened(tmp_path, Exchange(), content, {}, QUIET) as metadata:
        yield metadata.containers


@pytest.fixture
async def world(store: ContainerStore) -> World:
    scope.enter(Scope("one"))
    return World(store)


async def _ended(world: World, status: int = 3) -> Exit:
    watcher = world.lives.watcher(KEY)
    assert watcher is not None
    if not world.tasks.ended.done():
        world.tasks.ended.set_result(Exit(7, status, 99))
    return await watcher


async def test_an_end_is_kept_though_the_task_cannot_be_deleted(world: World) -> None:
    scope.enter(Scope("one"))
    record = await world.made()
    await world.supervision.start(record)
    world.tasks.stuck = True
    world.networking.leave.side_effect = OSError("no such device")
    assert (await _ended(world)).status == 3
    state = await world.state()
    assert (state.exit_status, state.exited_at) == (3, 99)
    # what is left of it is not in the way of the next start
    world.tasks.stuck = False
    world.tasks.there[KEY].old = True
    world.tasks.ended = asyncio.get_running_loop().create_future()
    world.tasks.ended.set_result(Exit(7, 3, 99))
    await world.supervision.start(await world.store.get("c"))
    assert not hasattr(world.tasks.there[KEY], "old")
    await _ended(world)


async def test_who_waits_hears_of_an_end_that_cannot_be_written_down(world: World) -> None:
    scope.enter(Scope("one"))
    record = await world.made(auto_remove=True)
    await world.supervision.start(record)

    async def failing(record: Container, *, volumes: bool = False) -> None:
        raise OSError("directory not empty")

    world.supervision._discard = failing
    waiting = asyncio.create_task(world.lives.next_end(KEY))
    await asyncio.sleep(0)
    await _ended(world)
    assert (await waiting).status == 3


async def test_an_end_in_the_middle_of_an_update_is_not_forgotten(world: World) -> None:
    scope.enter(Scope("one"))
    record = await world.made()
    await world.supervision.start(record)
    watcher = world.lives.watcher(KEY)
    assert watcher is not None
    found = Adjustments(world.containers(), world.store, world.tasks)  # type: ignore[arg-type]
    await found.update("c", Resources(memory_limit=1 << 30), RestartPolicy("no"))
    await watcher
    config, state = decoded(await world.store.get("c"))
    assert (config.resources.memory_limit, config.restart.name) == (1 << 30, "no")
    assert (state.exit_status, state.exited_at) == (3, 99)


async def test_a_rename_keeps_the_labels_that_somebody_sets_meanwhile(world: World) -> None:
    scope.enter(Scope("one"))
    record = await world.made()
    containers = world.containers()
    containers.naming = asyncio.Lock()
    containers.networking = AsyncMock()
    stale = AsyncMock(return_value=record)
    containers.find = stale  # type: ignore[method-assign]
    await world.store.update(replace(record, labels={"mine": "1"}), ("labels.mine",))
    await Adjustments(containers, world.store, world.tasks).rename("c", "new")  # type: ignore[arg-type]
    assert (await world.store.get("c")).labels == {NAME: "new", "mine": "1"}


async def test_a_stop_just_after_an_end_calls_off_the_restart(world: World) -> None:
    scope.enter(Scope("one"))
    record = await world.made(restart=RestartPolicy("always"))
    await world.supervision.start(record)
    at_detach, go_on = asyncio.Event(), asyncio.Event()

    async def detaching(*_: object) -> None:
        at_detach.set()
        await go_on.wait()

    world.storage.ended.side_effect = detaching
    ending = asyncio.create_task(_ended(world))
    await at_detach.wait()
    stopping = asyncio.create_task(world.containers().stop("c"))
    while not world.tasks.killed:
        await asyncio.sleep(0)
    go_on.set()
    await asyncio.gather(ending, stopping)
    state = await world.state()
    assert state.stopped and not state.restarting and not world.lives.restarting(KEY)


async def test_what_was_started_meanwhile_is_not_removed_without_force(world: World) -> None:
    scope.enter(Scope("one"))
    record = await world.made()
    containers = world.containers()
    async with world.lives.gate(KEY):  # somebody starts it
        removing = asyncio.create_task(containers.remove("c"))
        await asyncio.sleep(0.01)
        await world.supervision.start(record)
    with pytest.raises(FailedPrecondition, match="is running"):
        await removing
    assert not world.tasks.killed and not world.discarded
    await _ended(world)


async def test_a_removal_goes_on_to_its_end_when_its_client_goes(world: World) -> None:
    scope.enter(Scope("one"))
    await world.made()
    containers, done = world.containers(), asyncio.Event()

    async def slowly(record: Container, *, volumes: bool = False) -> None:
        await asyncio.sleep(0.01)
        done.set()

    containers._discard = slowly  # type: ignore[method-assign,assignment]
    removing = asyncio.create_task(containers.remove("c"))
    while not world.lives.gate(KEY).locked():
        await asyncio.sleep(0)
    removing.cancel()
    async with asyncio.timeout(30):
        await done.wait()


async def test_a_container_that_does_not_answer_keeps_no_daemon_from_coming(world: World) -> None:
    scope.enter(Scope("one"))
    record = await world.made()
    await world.tasks.create("c")
    await world.supervision.adopt(record)
    assert KEY in world.lives
    await _ended(world)
    assert (await world.state()).exit_status == 3


async def test_what_ended_with_the_machine_has_ended_nobody_knows_how(world: World) -> None:
    scope.enter(Scope("one"))
    record = await world.made()
    await world.supervision.put(record, ContainerState(started_at=5))
    await world.supervision.adopt(await world.store.get("c"))
    state = await world.state()
    assert (state.exit_status, state.error) == (255, "ended with the machine")
