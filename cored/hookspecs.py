"""The plugin hooks: what a plugin package may implement, and what it is given when it opens.

A plugin is a module named by an entry point of the group ``cored.plugins``. It implements hooks
with :data:`hookimpl`. *Provider* hooks answer a :class:`Provider`; its ``open`` is an async
context manager, so that the plugin's life is a ``with`` block which the daemon closes in reverse
order. *Observer* hooks are called when something happens. pluggy finds factories once, at
start-up, and is never in a request's way.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

import pluggy

if TYPE_CHECKING:  # all of them would keep a daemon from serving, which needs few at first
    from cored.abc.content import ContentStore
    from cored.abc.differ import Differ
    from cored.abc.events import Envelope
    from cored.abc.logs import LogDriver
    from cored.abc.network import Network
    from cored.abc.runtime import Runtime
    from cored.abc.sandbox import SandboxController
    from cored.abc.service import Service
    from cored.abc.snapshots import Snapshotter
    from cored.abc.values import Descriptor
    from cored.abc.volumes import VolumeDriver
from cored.dataclass import dataclass

__all__ = ["GROUP", "Hooks", "PluginContext", "PluginKind", "Provider", "hookimpl", "hookspec"]

GROUP = "cored.plugins"

hookspec = pluggy.HookspecMarker("cored")
hookimpl = pluggy.HookimplMarker("cored")

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class PluginKind(StrEnum):
    """The kinds of plugin in the order in which they open; values name the hooks."""

    RUNTIME = "runtime"
    CONTENT_STORE = "content_store"
    SNAPSHOTTER = "snapshotter"
    DIFFER = "differ"
    SANDBOX_CONTROLLER = "sandbox_controller"
    NETWORK = "network"
    VOLUME_DRIVER = "volume_driver"
    LOG_DRIVER = "log_driver"
    SERVICE = "grpc_service"


class PluginContext(Protocol):
    """What the daemon hands to a plugin that opens."""

    @property
    def id(self) -> str: ...

    @property
    def kind(self) -> PluginKind: ...

    @property
    def root(self) -> Path:
        """A directory of the plugin's own that outlives reboots; it exists."""
        ...

    @property
    def state(self) -> Path:
        """A directory of the plugin's own that need not outlive a reboot; it exists."""
        ...

    @property
    def settings(self) -> Mapping[str, Any]:
        """The plugin's own table ``[plugins.<kind>.<id>]`` of the configuration, untouched."""
        ...

    @property
    def address(self) -> str:
        """The daemon's gRPC socket; ``<address>.ttrpc`` takes shims' events."""
        ...

    def require(self, wanted: type[T]) -> T:
        """The daemon's one object of a class: EventBus, ContentStore, or an engine's class.

        FailedPrecondition when it is not open at this point of the order of kinds.
        """
        ...

    def named(self, kind: PluginKind, id: str) -> object:
        """The open plugin of an earlier kind by id. NotFound."""
        ...

    async def serving(self) -> None:
        """Return when the daemon answers calls: what can wait until then should."""
        ...


@dataclass(frozen=True, slots=True)
class Provider(Generic[T_co]):
    """A plugin's offer: its id within its kind and how to open it.

    ``capabilities`` are free words that clients see in Introspection, ``platforms`` the OCI
    platforms ``os/arch`` that it serves (none: all), ``exports`` more facts for Introspection.
    """

    id: str
    open: Callable[[PluginContext], AbstractAsyncContextManager[T_co]]
    capabilities: Sequence[str] = ()
    platforms: Sequence[str] = ()
    exports: Mapping[str, str] = field(default_factory=dict)


class Hooks:
    """All hooks. A package may implement any of them, several providers as several modules."""

    @hookspec
    def cored_content_store(self) -> Provider[ContentStore]:  # type: ignore[empty-body]
        """Offer a content store."""

    @hookspec
    def cored_snapshotter(self) -> Provider[Snapshotter]:  # type: ignore[empty-body]
        """Offer a snapshotter."""

    @hookspec
    def cored_differ(self) -> Provider[Differ]:  # type: ignore[empty-body]
        """Offer a differ."""

    @hookspec
    def cored_runtime(self) -> Provider[Runtime]:  # type: ignore[empty-body]
        """Offer a runtime (a way to supervise containers)."""

    @hookspec
    def cored_sandbox_controller(self) -> Provider[SandboxController]:  # type: ignore[empty-body]
        """Offer a controller of sandboxes."""

    @hookspec
    def cored_network(self) -> Provider[Network]:  # type: ignore[empty-body]
        """Offer a network."""

    @hookspec
    def cored_volume_driver(self) -> Provider[VolumeDriver]:  # type: ignore[empty-body]
        """Offer a driver of volumes, which requests name by its id."""

    @hookspec
    def cored_log_driver(self) -> Provider[LogDriver]:  # type: ignore[empty-body]
        """Offer somewhere for output to go, which requests name by its id."""

    @hookspec
    def cored_grpc_service(self) -> Provider[Service]:  # type: ignore[empty-body]
        """Offer a gRPC service on the daemon's socket."""

    @hookspec
    def cored_event(self, envelope: Envelope) -> None:
        """Something happened. Called on the event loop: be quick, never block."""

    @hookspec
    def cored_container_spec(self, namespace: str, id: str, spec: dict[str, Any]) -> None:
        """A container is about to be created: adjust its OCI runtime spec in place."""

    @hookspec
    def cored_image_pull(self, namespace: str, reference: str) -> None:
        """An image is about to be pulled: raise PermissionDenied to refuse.

        ``reference`` is complete: docker.io/library/debian:12. Called on the event loop, before
        the registry is asked: be quick, never block.
        """

    @hookspec
    def cored_image_manifest(
        self, namespace: str, reference: str, target: Descriptor, manifest: bytes
    ) -> None:
        """What a reference turned out to be: raise PermissionDenied to refuse.

        Called for the index or manifest that was resolved, and for each manifest in an index that
        is wanted, before it is kept, and before a layer is fetched. ``target`` has the digest,
        which ``manifest`` (the document as it came) has been checked against. Called in a thread:
        it may take its time, as to fetch and verify signatures.
        """
