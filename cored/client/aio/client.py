"""A daemon's API, awaited; written by tests/surfaces.py."""

from __future__ import annotations

from functools import cached_property
from types import TracebackType
from typing import Self

from cored.client.aio.builds import Builds
from cored.client.aio.containers import Containers
from cored.client.aio.images import Images
from cored.client.aio.places import Namespaces, Networks, Volumes
from cored.client.aio.system import System
from cored.client.client import Client
from cored.client.tls import TLS

__all__ = ["AsyncClient"]


class AsyncClient:
    """:class:`~cored.client.Client`, awaited: the same arguments, verbs, answers and errors.

    Each call that is under way has a thread; one whose task is cancelled is broken off.
    """

    def __init__(
        self, host: str = "", *, namespace: str = "default", tls: TLS | None = None
    ) -> None:
        self._client = Client(host, namespace=namespace, tls=tls)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    @property
    def host(self) -> str:
        """The daemon's address."""
        return self._client.host

    @property
    def namespace(self) -> str:
        """Where everything happens."""
        return self._client.namespace

    async def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def within(self, namespace: str) -> AsyncClient:
        """The same daemon, in another namespace; to be closed by itself."""
        return AsyncClient(self.host, namespace=namespace, tls=self._client.tls)

    @cached_property
    def containers(self) -> Containers:
        """Containers: run, exec, logs, files and the rest."""
        return Containers(self._client.containers)

    @cached_property
    def images(self) -> Images:
        """Images and registries."""
        return Images(self._client.images)

    @cached_property
    def builds(self) -> Builds:
        """Images from Dockerfiles."""
        return Builds(self._client.builds)

    @cached_property
    def volumes(self) -> Volumes:
        """Directories that outlive containers."""
        return Volumes(self._client.volumes)

    @cached_property
    def networks(self) -> Networks:
        """Networks that containers join."""
        return Networks(self._client.networks)

    @cached_property
    def namespaces(self) -> Namespaces:
        """Namespaces."""
        return Namespaces(self._client.namespaces)

    @cached_property
    def system(self) -> System:
        """The daemon itself: version, plugins, events."""
        return System(self._client.system)
