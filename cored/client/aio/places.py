"""Volumes, networks and namespaces: where containers keep things, meet, and are kept apart.

Awaited; written by tests/surfaces.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cored.client.aio.verbs import Verbs
from cored.client.api import places as api
from cored.client.api.values import Namespace, Network, Pruned, Volume

__all__ = ["Namespaces", "Networks", "Volumes"]


class Volumes(Verbs):
    """Directories that outlive containers."""

    _inner: api.Volumes

    async def create(
        self,
        name: str = "",
        *,
        driver: str = "",
        options: Mapping[str, str] | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> Volume:
        """Make one, or answer the one that is there and the same."""
        return await self._call(
            self._inner.create, name, driver=driver, options=options, labels=labels
        )

    async def list(self, filters: Sequence[str] = ()) -> list[Volume]:
        """Those that pass docker's filters."""
        return await self._call(self._inner.list, filters)

    async def get(self, name: str) -> Volume:
        """One. NotFound."""
        return await self._call(self._inner.get, name)

    async def remove(self, name: str, *, force: bool = False) -> None:
        """Remove one that no container has; with ``force`` also one that is not there."""
        await self._call(self._inner.remove, name, force=force)

    async def prune(self, filters: Sequence[str] = ()) -> Pruned:
        """Remove anonymous ones that no container has; with ``all=true`` the others, too."""
        return await self._call(self._inner.prune, filters)


class Networks(Verbs):
    """A network is named by its name, its id, or a unique beginning of that."""

    _inner: api.Networks

    async def create(
        self,
        name: str,
        *,
        driver: str = "",
        subnets: Sequence[str] = (),
        gateways: Sequence[str] = (),
        ranges: Sequence[str] = (),
        internal: bool = False,
        ipv6: bool = False,
        labels: Mapping[str, str] | None = None,
        options: Mapping[str, str] | None = None,
    ) -> Network:
        """Make one; subnets and ranges in CIDR notation. AlreadyExists."""
        return await self._call(
            self._inner.create,
            name,
            driver=driver,
            subnets=subnets,
            gateways=gateways,
            ranges=ranges,
            internal=internal,
            ipv6=ipv6,
            labels=labels,
            options=options,
        )

    async def list(self) -> list[Network]:
        """All."""
        return await self._call(self._inner.list)

    async def get(self, network: str) -> Network:
        """One. NotFound."""
        return await self._call(self._inner.get, network)

    async def members(self, network: str) -> dict[str, str]:
        """The containers that are in it: id to name."""
        return await self._call(self._inner.members, network)

    async def remove(self, network: str) -> None:
        """Remove one that nobody is in."""
        await self._call(self._inner.remove, network)

    async def prune(self) -> tuple[str, ...]:
        """Remove those that no container is in or wants to be in; their names."""
        return await self._call(self._inner.prune)

    async def connect(
        self, network: str, container: str, *, aliases: Sequence[str] = (), ip: str = ""
    ) -> None:
        """Put a container into one more network; one that runs at once."""
        await self._call(self._inner.connect, network, container, aliases=aliases, ip=ip)

    async def disconnect(self, network: str, container: str) -> None:
        """Take a container out of a network."""
        await self._call(self._inner.disconnect, network, container)


class Namespaces(Verbs):
    """Everything but networks is in a namespace: ``client.within(name)`` works in another."""

    _inner: api.Namespaces

    async def list(self) -> list[Namespace]:
        """All."""
        return await self._call(self._inner.list)

    async def create(self, name: str, labels: Mapping[str, str] | None = None) -> None:
        """Make one. AlreadyExists."""
        await self._call(self._inner.create, name, labels)

    async def label(self, name: str, labels: Mapping[str, str]) -> None:
        """Set labels; an empty value takes one away. NotFound."""
        await self._call(self._inner.label, name, labels)

    async def remove(self, name: str) -> None:
        """Remove one in which nothing is. FailedPrecondition, NotFound."""
        await self._call(self._inner.remove, name)
