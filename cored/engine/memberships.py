"""Networks and containers together: who is in which, joined and left also while it runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from cored import scope
from cored.abc.records import Container, ContainerStore, NamespaceStore
from cored.engine.containers import Containers
from cored.engine.networks import Catalog, Connections, Endpoint, UserNetwork
from cored.engine.networks.catalog import DEFAULT
from cored.engine.networks.values import Connection
from cored.engine.workload import CONFIG, NAME, ContainerConfig, decoded, with_config
from cored.errors import AlreadyExists, FailedPrecondition, NotFound
from cored.scope import Scope

__all__ = ["Member", "Memberships"]


@dataclass(frozen=True, slots=True)
class Member:
    """A container in a network."""

    container: str
    name: str
    namespace: str
    connection: Connection


class Memberships:
    """What changes a container's networks, or a network that has containers."""

    def __init__(
        self,
        containers: Containers,
        store: ContainerStore,
        namespaces: NamespaceStore,
        catalog: Catalog,
        connections: Connections,
    ) -> None:
        self._containers = containers
        self._store = store
        self._namespaces = namespaces
        self._catalog = catalog
        self._connections = connections

    async def connect(self, name: str, endpoint: Endpoint) -> None:
        """Put a container into one more network. AlreadyExists, FailedPrecondition, NotFound."""
        record = await self._containers.find(name)
        config, _ = decoded(record)
        network = await self._catalog.get(endpoint.network)
        endpoint = replace(endpoint, network=network.name)
        if network.name in _names(config):
            raise AlreadyExists(f"container {name!r}: is in network {network.name!r} already")
        if config.network in ("host", "none", "private") or config.network.startswith("container:"):
            raise FailedPrecondition(
                f"container {name!r}: its network is {config.network}, which goes with no other"
            )
        if self._containers.running(record.id):
            names = [record.labels.get(NAME, record.id[:12]), record.id[:12]]
            await self._connections.connect(record.id, names, endpoint)
        await self._put(record.id, lambda now: replace(now, endpoints=(*now.endpoints, endpoint)))

    async def disconnect(self, name: str, network: str) -> None:
        """Take a container out of a network. NotFound when it is not in it."""
        record = await self._containers.find(name)
        config, _ = decoded(record)
        found = (await self._catalog.get(network)).name
        if found not in _names(config):
            raise NotFound(f"container {name!r}: is not in network {network!r}")
        if self._containers.running(record.id):
            await self._connections.disconnect(record.id, found)
        await self._put(record.id, lambda now: _without(now, found))

    async def members(self, network: UserNetwork) -> Sequence[Member]:
        """Who is in a network now, in all namespaces."""
        there = self._connections.members(network)
        found = []
        for namespace, record in await self._records():
            if record.id in there:
                name = record.labels.get(NAME, "")
                found.append(Member(record.id, name, namespace, there[record.id]))
        return found

    async def remove(self, name: str) -> None:
        """Remove a network. FailedPrecondition while containers are in it."""
        network = await self._catalog.get(name)
        members = await self.members(network)
        if members:
            names = ", ".join(one.name or one.container[:12] for one in members)
            raise FailedPrecondition(
                f"network {network.name!r}: is used by {names}",
                hint="stop them, or corectl network disconnect",
            )
        await self._connections.vacate(network)
        await self._catalog.remove(network)

    async def prune(self) -> Sequence[str]:
        """Remove every network that was made here and nobody wants; their names."""
        wanted = {
            name for _, record in await self._records() for name in _names(decoded(record)[0])
        }
        removed = []
        for network in self._catalog.list():
            if network.made_here and network.name != DEFAULT and network.name not in wanted:
                await self.remove(network.name)
                removed.append(network.name)
        return removed

    async def _records(self) -> Sequence[tuple[str, Container]]:
        found = []
        for namespace in await self._namespaces.list():
            with scope.entered(Scope(namespace.name)):
                found += [(namespace.name, one) for one in await self._store.list()]
        return found

    async def _put(self, id: str, change: Callable[[ContainerConfig], ContainerConfig]) -> None:
        # what it is now, and nothing else: it may have ended meanwhile
        record = await self._store.get(id)
        config = change(decoded(record)[0])
        await self._store.update(with_config(record, config), (f"extensions.{CONFIG}",))


def _without(config: ContainerConfig, network: str) -> ContainerConfig:
    rest = tuple(one for one in config.endpoints if one.network != network)
    first = config.network
    if (first or DEFAULT) == network:
        first = rest[0].network if rest else "none"
    return replace(config, network=first, endpoints=rest)


def _names(config: ContainerConfig) -> set[str]:
    """The networks that a container wants to be in."""
    names = {one.network for one in config.endpoints}
    if config.network in ("", DEFAULT):
        return names | ({DEFAULT} if config.network or not names else set())
    return names | {config.network}
