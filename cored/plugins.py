"""Plugins: discovered by entry point, opened in the order of their kinds, closed in reverse.

One that fails is recorded with its error and shown by Introspection; whether the daemon can do
without it is the daemon's decision, not ours.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import field
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, TypeVar, cast

import pluggy

from cored import hookspecs, log
from cored.dataclass import dataclass
from cored.errors import CoredError, FailedPrecondition, Internal, NotFound, Unimplemented
from cored.hookspecs import GROUP, PluginKind, Provider
from cored.later import Later

__all__ = ["Context", "LoadedPlugin", "Plugins", "discover", "early"]

T = TypeVar("T")


@dataclass(slots=True)
class LoadedPlugin:
    """One offer and what became of it: open (``instance``), or not (``error``).

    ``code`` is the error's gRPC code: Unimplemented for what does not work on this machine.
    """

    kind: PluginKind | None
    id: str
    source: str
    provider: Provider[Any] | None = None
    instance: Any = None
    error: str = ""
    code: int = Internal.code
    disabled: bool = False


@dataclass(frozen=True, slots=True)
class Context:
    """The :class:`cored.hookspecs.PluginContext` that the daemon hands out."""

    id: str
    kind: PluginKind
    root: Path
    state: Path
    settings: Mapping[str, Any]
    address: str
    plugins: Plugins = field(repr=False)

    def require(self, wanted: type[T]) -> T:
        """The daemon's one object of a class."""
        return self.plugins.require(wanted)

    def named(self, kind: PluginKind, id: str) -> object:
        """The open plugin of an earlier kind by id."""
        return self.plugins.named(kind, id)

    async def serving(self) -> None:
        """Return when the daemon answers calls."""
        await self.plugins.serving.wait()


def early(module: str) -> bool:
    """Whether a plugin's module is imported before the daemon serves.

    One that says by its name, ``cored_<kind>_<name>``, that it is of a later kind is not.
    """
    return not module.startswith("cored_") or module.startswith(f"cored_{PluginKind.RUNTIME}_")


def discover(
    group: str = GROUP, wanted: Callable[[str], bool] = lambda module: True
) -> tuple[pluggy.PluginManager, list[LoadedPlugin]]:
    """Import the plugins of the entry-point group; what does not import is in the list."""
    manager = pluggy.PluginManager("cored")
    manager.add_hookspecs(hookspecs.Hooks)
    return manager, _imported(manager, group, wanted)


def _imported(
    manager: pluggy.PluginManager, group: str, wanted: Callable[[str], bool]
) -> list[LoadedPlugin]:
    """Import and register those that are ``wanted``; what went wrong."""
    failed: list[LoadedPlugin] = []
    seen: set[str] = set()
    for point in sorted(entry_points(group=group), key=lambda p: (p.name, p.value)):
        if point.name in seen:  # an editable install beside a wheel lists everything twice
            continue
        seen.add(point.name)
        if wanted(point.value) and (error := _register(manager, point)):
            failed.append(LoadedPlugin(None, point.name, point.value, error=error))
    return failed


def _register(manager: pluggy.PluginManager, point: EntryPoint) -> str:
    """Import and register one; '' or what went wrong."""
    try:
        plugin = point.load()
        manager.register(plugin, name=point.name)
    except Exception as error:  # a stranger's import can raise anything: recorded and shown
        log.get("plugins").exception("plugin failed to import", plugin=point.name)
        return f"{type(error).__name__}: {error}"
    try:
        manager.check_pending()
    except pluggy.PluginValidationError as error:
        manager.unregister(plugin)
        log.get("plugins").error("plugin has an unknown hook", plugin=point.name, error=str(error))
        return f"unknown hook: {error}"
    return ""


class Plugins:
    """All plugins of a daemon; an async context via the exit stack that it is given."""

    def __init__(
        self,
        manager: pluggy.PluginManager,
        failed: list[LoadedPlugin],
        make_context: Callable[[Plugins, PluginKind, str], Context],
        disabled: frozenset[str] = frozenset(),
    ) -> None:
        self.hook = manager.hook
        self.serving = asyncio.Event()
        self._manager = manager
        self._make_context = make_context
        self._disabled = disabled
        self._objects: dict[type[Any], Any] = {}
        self._later: dict[str, Later[Any]] = {}
        self._loaded: list[LoadedPlugin] = list(failed)
        self._offered: list[tuple[PluginKind, Provider[Any], str]] = []

    def offer(self, kind: PluginKind, provider: Provider[Any], source: str) -> None:
        """A provider from elsewhere than a package (the configuration): opened like the others."""
        self._offered.append((kind, provider, source))

    def provide(self, cls: type[T], instance: T) -> None:
        """Make ``instance`` the answer to ``require(cls)`` from here on."""
        self._objects[cls] = instance
        if cls.__name__ in self._later:
            self._later[cls.__name__].set(instance)

    def later(self, name: str) -> Later[Any]:
        """The one object of the class ``name``, which nobody has imported yet, when it is there."""
        return self._later.setdefault(name, Later())

    def discover_rest(self, group: str = GROUP) -> None:
        """Import the plugins that were not :func:`early`."""
        self._loaded += _imported(self._manager, group, lambda module: not early(module))

    def require(self, wanted: type[T]) -> T:
        """The one object of a class; FailedPrecondition when it is not there (yet)."""
        try:
            return cast(T, self._objects[wanted])
        except KeyError:
            raise FailedPrecondition(
                f"{wanted.__name__}: not open at this point",
                hint=f"kinds open in this order: {', '.join(PluginKind)}",
            ) from None

    def named(self, kind: PluginKind, id: str) -> Any:
        """The open plugin ``id`` of ``kind``; NotFound names those that are open."""
        found = self.open_of(kind)
        if id in found:
            return found[id]
        failed = [p for p in self._loaded if p.kind is kind and p.id == id and p.error]
        why = f"failed to load: {failed[0].error}" if failed else "not found"
        raise NotFound(f"{kind} {id!r}: {why}", hint=f"open ones: {', '.join(found) or 'none'}")

    def replace(self, kind: PluginKind, id: str, instance: Any) -> None:
        """Let later kinds see ``instance`` (a namespaced wrapper) in the plugin's place."""
        for plugin in self._loaded:
            if plugin.kind is kind and plugin.id == id:
                plugin.instance = instance

    def open_of(self, kind: PluginKind) -> dict[str, Any]:
        """The open plugins of a kind by id, in the order of their names."""
        return {p.id: p.instance for p in self._loaded if p.kind is kind and p.instance is not None}

    def __iter__(self) -> Iterator[LoadedPlugin]:
        return iter(self._loaded)

    async def open(self, kind: PluginKind, stack: AsyncExitStack) -> None:
        """Open every plugin of ``kind``; ``stack`` closes them."""
        for implementation in getattr(self.hook, f"cored_{kind}").get_hookimpls():
            plugin = LoadedPlugin(
                kind, implementation.plugin_name, implementation.function.__module__
            )
            await self._open_one(plugin, implementation.function, stack)
        for of, provider, source in self._offered:
            if of is kind:
                plugin = LoadedPlugin(kind, provider.id, source)
                await self._open_one(plugin, lambda provider=provider: provider, stack)  # type: ignore[misc]

    async def _open_one(
        self,
        plugin: LoadedPlugin,
        offer: Callable[[], Provider[Any]],
        stack: AsyncExitStack,
    ) -> None:
        kind = plugin.kind
        assert kind is not None
        self._loaded.append(plugin)
        logger = log.get("plugins").bind(kind=str(kind), source=plugin.source)
        try:
            provider = offer()
            plugin.provider, plugin.id = provider, provider.id
            if f"{kind}.{provider.id}" in self._disabled:
                plugin.disabled, plugin.error = True, "disabled by configuration"
                return
            if provider.id in self.open_of(kind):
                plugin.error = "another plugin of this kind has the same id"
                logger.error("plugin not opened", plugin=provider.id, error=plugin.error)
                return
            context = self._make_context(self, kind, provider.id)
            plugin.instance = await stack.enter_async_context(provider.open(context))
        except Unimplemented as error:
            plugin.error, plugin.code = str(error), error.code
            logger.info("plugin does not work here", plugin=plugin.id, reason=plugin.error)
        except CoredError as error:
            plugin.error, plugin.code = str(error), error.code
            logger.error("plugin failed to open", plugin=plugin.id, error=plugin.error)
        except Exception as error:  # a stranger's code can raise anything: recorded and shown
            plugin.error = f"{type(error).__name__}: {error}"
            logger.exception("plugin failed to open", plugin=plugin.id)
        else:
            logger.debug("plugin open", plugin=plugin.id)
