"""Containers as people see them: found by name, listed, with all that is known of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress

from cored import scope
from cored.abc.records import Container, ContainerStore
from cored.engine.execs import Execs
from cored.engine.health import HealthChecks
from cored.engine.lives import Lives
from cored.engine.networking import Networking
from cored.engine.storage import MountPoint, Storage
from cored.engine.tasks import Tasks
from cored.engine.workload import NAME, ContainerView, decoded
from cored.errors import InvalidArgument, NotFound

__all__ = ["ALIVE", "Views"]

ALIVE = ("running", "paused", "restarting", "unknown")
"""Also those that nothing can be said about, because their shim does not answer."""


class Views:
    """Of the namespace of the current scope."""

    def __init__(
        self,
        store: ContainerStore,
        tasks: Tasks,
        networking: Networking,
        lives: Lives,
        execs: Execs,
        health: HealthChecks,
        storage: Storage,
    ) -> None:
        self._store = store
        self._tasks = tasks
        self._networking = networking
        self._lives = lives
        self._execs = execs
        self._health = health
        self._storage = storage

    async def find(self, name: str) -> Container:
        """The record by name, id, or a unique beginning of the id. NotFound."""
        if not name:
            raise InvalidArgument("container: no name given")
        name = name.removeprefix("/")
        records = await self._store.list()
        for record in records:
            if name in (record.id, record.labels.get(NAME)):
                return record
        found = [record for record in records if record.id.startswith(name)]
        if len(found) > 1:
            raise InvalidArgument(f"container {name!r}: ambiguous, {len(found)} ids begin with it")
        if not found:
            raise NotFound(f"container {name!r}: not found", hint="see: corectl ps -a")
        return found[0]

    async def records(self) -> Sequence[Container]:
        """What all are made from."""
        return await self._store.list()

    async def all(self) -> list[ContainerView]:
        """All, the newest first."""
        views = [await self.view(record) for record in await self._store.list()]
        views.sort(key=lambda view: view.record.created_at, reverse=True)
        return views

    async def view(self, record: Container) -> ContainerView:
        """One of them."""
        config, state = decoded(record)
        key = (scope.namespace(), record.id)
        status, pid = "stopped" if state.exited_at else "created", 0
        if key in self._tasks.known():
            with suppress(NotFound):
                found = await self._tasks.state(record.id)
                status, pid = str(found.status), found.pid
        if self._lives.restarting(key):
            status = "restarting"
        command: tuple[str, ...] = ()
        if record.spec is not None:
            command = tuple(json.loads(record.spec.value).get("process", {}).get("args", ()))
            if config.init:
                command = command[2:]
        return ContainerView(
            record,
            config,
            state,
            command,
            status,
            pid,
            connections=tuple(self._networking.of(record.id)),
            health=self._health.of(record.id) if config.health is not None else None,
            execs=tuple(self._execs.of(record.id)),
        )

    async def mounts(self, view: ContainerView) -> Sequence[MountPoint]:
        """What is mounted in it."""
        return await self._storage.points(view.config)
