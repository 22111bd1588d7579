"""The first stage of the daemon's assembly: tasks, and the services that need no more.

What is imported here is what keeps a restarted daemon from serving.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cored.abc.events import EventBus
from cored.abc.records import ContainerStore
from cored.abc.runtime import Runtime
from cored.abc.service import Service
from cored.config import Config
from cored.engine.events import Exchange, FromTheStart
from cored.engine.tasks import Tasks
from cored.hookspecs import PluginKind
from cored.later import Later
from cored.plugins import Plugins
from cored.rpc.server import Server, serve
from cored.rpc.ttrpc_server import serve as serve_ttrpc
from cored.services.events import EventsService
from cored.services.shim_events import shim_events
from cored.services.tasks import TasksService
from cored.services.version import VersionService

if TYPE_CHECKING:
    from cored.engine.checkpoints import Checkpoints

__all__ = ["opened", "serving", "settled"]


async def opened(config: Config, plugins: Plugins, stack: AsyncExitStack) -> Sequence[Service]:
    """Open all of it, which ``stack`` closes; the services."""
    exchange = Exchange(lambda envelope: plugins.hook.cored_event(envelope=envelope))
    plugins.provide(EventBus, exchange)  # type: ignore[type-abstract]
    plugins.provide(Exchange, exchange)
    plugins.provide(FromTheStart, FromTheStart(exchange.subscribe()))
    containers: Later[ContainerStore] = plugins.later("ContainerStore")
    checkpoints: Later[Checkpoints] = plugins.later("Checkpoints")
    runtime: Runtime = plugins.named(PluginKind.RUNTIME, config.runtime)
    tasks = await stack.enter_async_context(
        Tasks.opened(runtime, containers, exchange, lambda: _adjust_spec(plugins))
    )
    plugins.provide(Tasks, tasks)
    return (
        VersionService(),
        TasksService(tasks, containers, checkpoints),
        EventsService(exchange),
    )


@asynccontextmanager
async def serving(
    config: Config, plugins: Plugins, services: Sequence[Service]
) -> AsyncIterator[Server]:
    """Answer clients and shims on their sockets while the body runs."""
    bus = plugins.require(EventBus)  # type: ignore[type-abstract]
    async with serve_ttrpc(Path(f"{config.address}.ttrpc"), shim_events(bus)):
        async with serve(config.address, services, config.grpc, config.tcp) as server:
            yield server


def settled(plugins: Plugins) -> None:
    """Who waited for the daemon has an answer: do what could wait for that."""
    plugins.serving.set()
    plugins.require(Tasks).watch()


def _adjust_spec(plugins: Plugins) -> Callable[[str, str, dict[str, Any]], None] | None:
    """All plugins that want to see the specs of containers, if any do."""
    hook = plugins.hook.cored_container_spec
    if not hook.get_hookimpls():
        return None
    return lambda namespace, id, spec: hook(namespace=namespace, id=id, spec=spec)
