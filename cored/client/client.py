"""A daemon's API as methods that wait for their answers."""

from __future__ import annotations

from functools import cached_property
from types import TracebackType
from typing import TYPE_CHECKING, Self

from cored.client.hosts import host_of, tls_of

if TYPE_CHECKING:
    from cored.client.api.builds import Builds
    from cored.client.api.containers import Containers
    from cored.client.api.images import Images
    from cored.client.api.places import Namespaces, Networks, Volumes
    from cored.client.api.system import System
    from cored.client.channel import Channel
    from cored.client.tls import TLS
    from cored.client.workloads import Workloads

__all__ = ["Client"]


class Client:
    """The daemon at ``host``: a socket's path, ``unix:///path`` or ``tcp://host:port``.

    Left out, it is the one in CORED_HOST, or this host's. ``tls`` are the files for ``tcp://``;
    left out, those in CORED_CERT_PATH. Everything happens in ``namespace``. Threads may share a
    client; it connects when it is first used, and again when the daemon was restarted.

    Errors are those of :mod:`cored.errors`; ``cored.client.Disconnected`` when no daemon answers or
    the connection breaks.
    """

    def __init__(
        self, host: str = "", *, namespace: str = "default", tls: TLS | None = None
    ) -> None:
        self.host = host_of(host)
        self.namespace = namespace
        self.tls = tls or tls_of(self.host)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        if "channel" in self.__dict__:
            self.channel.close()

    def within(self, namespace: str) -> Client:
        """The same daemon, in another namespace; to be closed by itself."""
        return Client(self.host, namespace=namespace, tls=self.tls)

    @cached_property
    def channel(self) -> Channel:
        """For calls of any service by name."""
        from cored.client.channel import Channel

        return Channel(self.host, namespace=self.namespace, tls=self.tls)

    @property
    def workloads(self) -> Workloads:
        """The service ``cored.workloads.v1.Workloads``, message for message."""
        from cored.client.workloads import Workloads

        return Workloads(self.channel)

    @cached_property
    def containers(self) -> Containers:
        """Containers: run, exec, logs, files and the rest."""
        from cored.client.api.containers import Containers

        return Containers(self)

    @cached_property
    def images(self) -> Images:
        """Images and registries."""
        from cored.client.api.images import Images

        return Images(self)

    @cached_property
    def builds(self) -> Builds:
        """Images from Dockerfiles."""
        from cored.client.api.builds import Builds

        return Builds(self)

    @cached_property
    def volumes(self) -> Volumes:
        """Directories that outlive containers."""
        from cored.client.api.places import Volumes

        return Volumes(self)

    @cached_property
    def networks(self) -> Networks:
        """Networks that containers join."""
        from cored.client.api.places import Networks

        return Networks(self)

    @cached_property
    def namespaces(self) -> Namespaces:
        """Namespaces."""
        from cored.client.api.places import Namespaces

        return Namespaces(self)

    @cached_property
    def system(self) -> System:
        """The daemon itself: version, plugins, events."""
        from cored.client.api.system import System

        return System(self)
