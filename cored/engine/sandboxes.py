"""Sandboxes: the running side, through whichever controller keeps them; their events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from cored import log, scope
from cored.abc.events import EventBus, SandboxCreate, SandboxExit, SandboxStart
from cored.abc.records import NamespaceStore, Sandbox, SandboxStore
from cored.abc.sandbox import SandboxController, SandboxInstance, SandboxOptions
from cored.abc.sandbox import SandboxExit as Exit
from cored.errors import CoredError, InvalidArgument, NotFound
from cored.scope import Scope

__all__ = ["Sandboxes"]

_READY = "SANDBOX_READY"


class Sandboxes:
    """Use as ``async with Sandboxes(...).opened()``; sandboxes outlive it."""

    def __init__(
        self, controllers: Mapping[str, SandboxController], store: SandboxStore, bus: EventBus
    ) -> None:
        self._controllers = controllers
        self._store = store
        self._bus = bus
        self._watchers: dict[tuple[str, str], asyncio.Task[None]] = {}

    @asynccontextmanager
    async def opened(self, namespaces: NamespaceStore) -> AsyncIterator[Sandboxes]:
        """Look after the sandboxes of earlier daemons, then after new ones."""
        for namespace in await namespaces.list():
            with scope.entered(Scope(namespace.name)):
                for record in await self._store.list():
                    await self._adopt(record)
        try:
            yield self
        finally:
            watchers = list(self._watchers.values())
            for watcher in watchers:
                watcher.cancel()
            await asyncio.gather(*watchers, return_exceptions=True)

    def controller(self, name: str) -> SandboxController:
        """A controller by name. NotFound."""
        if not name:
            raise InvalidArgument("sandbox: needs the name of a controller (sandboxer)")
        try:
            return self._controllers[name]
        except KeyError:
            raise NotFound(
                f"sandbox controller {name!r}: not found",
                hint=f"there is {', '.join(self._controllers) or 'none'}",
            ) from None

    async def create(self, name: str, record: Sandbox, options: SandboxOptions) -> None:
        """Make a sandbox's environment."""
        await self.controller(name).create(record, options)
        await self._bus.publish(SandboxCreate(record.id))

    async def start(self, name: str, id: str) -> SandboxInstance:
        """Start it; its end is published whoever waits for it."""
        controller = self.controller(name)
        instance = await controller.start(id)
        await self._bus.publish(SandboxStart(id))
        self._watch(controller, id)
        return instance

    async def wait(self, name: str, id: str) -> Exit:
        """How it ended; the event is out when this returns."""
        exit = await self.controller(name).wait(id)
        watcher = self._watchers.get((scope.namespace(), id))
        if watcher is not None:
            await asyncio.wait([watcher])
        return exit

    async def _adopt(self, record: Sandbox) -> None:
        controller = self._controllers.get(record.sandboxer or "shim")
        if controller is None:
            return
        try:
            status = await controller.status(record.id)
        except CoredError as error:
            log.get("sandbox").debug("not running", sandbox=record.id, why=str(error))
            return
        if status.state == _READY:
            self._watch(controller, record.id)

    def _watch(self, controller: SandboxController, id: str) -> None:
        key = (scope.namespace(), id)
        watcher = asyncio.create_task(self._publish_exit(controller, id), name=f"sandbox {id}")
        self._watchers[key] = watcher
        watcher.add_done_callback(lambda _: self._watchers.pop(key, None))

    async def _publish_exit(self, controller: SandboxController, id: str) -> None:
        try:
            exit = await controller.wait(id)
        except CoredError as error:
            log.get("sandbox").warning("its end was not seen", sandbox=id, error=str(error))
            return
        await self._bus.publish(SandboxExit(id, exit.status, exit.exited_at))
