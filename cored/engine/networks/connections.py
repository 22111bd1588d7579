"""Containers in networks: joined, left, and nothing left behind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from cored import log
from cored.abc.network import Attachment, Network
from cored.cni import namespaces
from cored.engine.networks import attached
from cored.engine.networks import ports as publishing
from cored.engine.networks.catalog import Catalog
from cored.engine.networks.resolver import Resolvers
from cored.engine.networks.values import Connection, Endpoint, Port, UserNetwork
from cored.errors import AlreadyExists, CoredError, FailedPrecondition, NotFound, from_os_error

__all__ = ["Connections"]

# seconds until the bridge of a network that nobody is in goes; the next container may want it
_IDLE = 10.0


class Connections:
    """Network namespaces in ``state``, and what they are attached to.

    The network plugin keeps attachments durably; here they stand once more, by container.
    """

    def __init__(
        self, network: Network, catalog: Catalog, resolvers: Resolvers, state: Path
    ) -> None:
        self._network = network
        self._catalog = catalog
        self._resolvers = resolvers
        self._state = state
        self._attached: dict[str, list[Attachment]] = {}
        self._others: list[Attachment] = []
        self._publishing = asyncio.Lock()
        self._idle: dict[str, asyncio.TimerHandle] = {}
        self._vacating: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Connections]:
        """Know what earlier daemons attached; the networks stay when this closes."""
        self._state.mkdir(mode=0o711, parents=True, exist_ok=True)
        for attachment in await self._network.attachments():
            if Path(attachment.netns).parent != self._state:
                self._others.append(attachment)  # a pod's: whoever made it looks after it
                continue
            self._attached.setdefault(attachment.container_id, []).append(attachment)
        try:
            yield self
        finally:
            for handle in self._idle.values():
                handle.cancel()
            await asyncio.gather(*self._vacating)
            for name in list(self._idle):
                await self._vacate(name)
            self._resolvers.close()

    async def recover(self, living: Collection[str]) -> None:
        """Let go of all that belongs to containers which are not ``living`` (by id)."""
        places = {path.name for path in self._state.iterdir()}
        for id in sorted({*self._attached, *places} - set(living)):
            await self.release(id)
        for attachment in [one for one in self._all() if not one.finished]:
            # a daemon died while its container joined one more network
            await self._leave(attachment)
        networks = await asyncio.to_thread(self._catalog.list)
        # those of a directory may have other runtimes' containers, which we do not know
        for network in filter(lambda one: one.made_here, networks):
            known = [*self._all(), *self._others]
            valid = [one for one in known if one.network.name == network.name]
            try:
                await self._network.collect(network.config, valid)
            except CoredError as error:
                log.get("networks").warning(
                    "collecting what is left of a network", network=network.name, error=str(error)
                )
        for network in networks:
            if network.made_here and not self.members(network):
                await self._vacate(network.name)
        await self._resolvers.adopt(
            {
                one.network.name: attached.serving(one)
                for one in self._all()
                if attached.serving(one)
            }
        )

    async def name(self, network: str) -> str:
        """A network's own name, however it was called. NotFound."""
        return (await self._catalog.get(network)).name

    def place(self, id: str) -> Path:
        """Where the network namespace of a container is kept."""
        return self._state / id

    def keep(self, id: str, pid: int) -> None:
        """Keep the network namespace of a container's process, until it is released."""
        place = self.place(id)
        namespaces.remove(place)  # of an earlier life
        try:
            namespaces.keep(pid, place)
        except OSError as error:
            raise from_os_error(f"network namespace of {id[:12]}", error) from error

    async def join(
        self, id: str, names: Sequence[str], endpoints: Sequence[Endpoint], ports: Sequence[Port]
    ) -> list[Connection]:
        """Attach a namespace that is kept; ``ports`` are published through the first network.

        ``names`` are the container's in every network, beside each endpoint's aliases. All or
        nothing.
        """
        await self.leave_all(id)  # what could not be detached when its earlier life ended
        try:
            for number, endpoint in enumerate(endpoints):
                await self._attach(id, endpoint, f"eth{number}", () if number else ports, names)
        except BaseException:
            await asyncio.shield(self.leave_all(id))
            raise
        return self.of(id)

    async def connect(self, id: str, names: Sequence[str], endpoint: Endpoint) -> Connection:
        """One more network for a container that runs. AlreadyExists, FailedPrecondition."""
        if not namespaces.exists(str(self.place(id))):
            raise FailedPrecondition(f"container {id[:12]}: has no network namespace of its own")
        network = await self._catalog.get(endpoint.network)
        there = self._attached.get(id, [])
        if any(one.network.name == network.name for one in there):
            raise AlreadyExists(f"container {id[:12]}: is in network {network.name!r} already")
        used = {one.ifname for one in there}
        ifname = next(name for n in range(1000) if (name := f"eth{n}") not in used)
        return attached.connection(await self._attach(id, endpoint, ifname, (), names))

    async def disconnect(self, id: str, name: str) -> None:
        """Take a container out of a network. NotFound when it is not in it."""
        network = await self._catalog.get(name)
        for attachment in self._attached.get(id, ()):
            if attachment.network.name == network.name:
                await self._detach(attachment)
                return
        raise NotFound(f"container {id[:12]}: is not in network {name!r}")

    async def rename(self, id: str, names: Sequence[str]) -> None:
        """Other names of a container in all its networks; aliases stay."""
        for one in self._attached.get(id, ()):
            await self._enter(one, names)

    async def leave_all(self, id: str) -> None:
        """Detach a container from all; the namespace stays. What fails is tried again later."""
        for attachment in reversed(self._attached.get(id, [])[:]):
            await self._leave(attachment)

    async def release(self, id: str) -> None:
        """Detach a container and remove its namespace; fine when it has none."""
        await self.leave_all(id)
        await asyncio.to_thread(namespaces.remove, self.place(id))

    def of(self, id: str) -> list[Connection]:
        """What a container has."""
        return [attached.connection(one) for one in self._attached.get(id, ())]

    def members(self, network: UserNetwork) -> dict[str, Connection]:
        """Who is in a network, by container id."""
        return {one.container_id: attached.connection(one) for one in self._members(network.name)}

    async def servers(self, id: str) -> list[str]:
        """The name servers of a container's networks."""
        if not self._resolvers.available:
            return []
        found = [gateway for one in self._attached.get(id, ()) for gateway in attached.serving(one)]
        return list(dict.fromkeys(found))

    async def _attach(
        self,
        id: str,
        endpoint: Endpoint,
        ifname: str,
        ports: Sequence[Port],
        names: Sequence[str],
    ) -> Attachment:
        network = await self._catalog.get(endpoint.network)
        self._stays(network.name)
        capabilities: dict[str, Any] = {"aliases": {network.name: list(endpoint.aliases)}}
        addresses = [text for text in (endpoint.ip, endpoint.ip6) if text]
        if addresses:
            capabilities["ips"] = addresses
        if endpoint.mac:
            capabilities["mac"] = endpoint.mac
        # while the kernel makes its interface
        serving = asyncio.create_task(self._resolvers.begin(network.name, attached.served(network)))
        try:
            made = await self._added(id, ifname, network, ports, capabilities)
        except BaseException:
            await asyncio.gather(serving, return_exceptions=True)
            if not self._members(network.name):
                self._becomes_idle(network.name)
            raise
        await serving
        await self._enter(made, names)
        return made

    async def _enter(self, made: Attachment, names: Sequence[str]) -> None:
        entries = attached.entries(made, [*names, *attached.connection(made).aliases])
        name, id = made.network.name, made.container_id
        await self._resolvers.enter(name, attached.serving(made), id, entries)

    async def _added(
        self,
        id: str,
        ifname: str,
        network: UserNetwork,
        ports: Sequence[Port],
        capabilities: dict[str, Any],
    ) -> Attachment:
        # a free port is nobody else's until it is published
        async with self._publishing:
            if ports:
                chosen = await asyncio.to_thread(publishing.assigned, ports, self._published())
                capabilities["portMappings"] = [one.mapping() for one in chosen]
            wanted = Attachment(
                id, str(self.place(id)), ifname, network.config, capabilities=capabilities
            )
            if ports:
                made = await self._network.attach(wanted)
                self._attached.setdefault(id, []).append(made)
        if not ports:
            made = await self._network.attach(wanted)
            self._attached.setdefault(id, []).append(made)
        return made

    async def _leave(self, attachment: Attachment) -> None:
        try:
            await self._detach(attachment)
        except CoredError as error:
            log.get("networks").warning(
                "detaching a container", container=attachment.container_id, error=str(error)
            )

    async def _detach(self, attachment: Attachment) -> None:
        id = attachment.container_id
        name = attachment.network.name
        await asyncio.to_thread(self._resolvers.leave, name, id)
        if not namespaces.exists(attachment.netns):
            # the machine was started anew: say so, instead of a path that is none
            attachment = replace(attachment, netns="")
        await self._network.detach(attachment)
        ifname = attachment.ifname
        rest = [
            one
            for one in self._attached.get(id, ())
            if (one.network.name, one.ifname) != (name, ifname)
        ]
        if rest:
            self._attached[id] = rest
        else:
            self._attached.pop(id, None)
        if not self._members(name):
            self._becomes_idle(name)

    def _becomes_idle(self, name: str) -> None:
        """Nobody is in a network any more: if that is so a while later, remove its bridge."""

        def idle() -> None:
            self._idle.pop(name, None)
            task = asyncio.create_task(self._vacate(name), name=f"vacate {name}")
            self._vacating.add(task)
            task.add_done_callback(self._vacating.discard)

        self._stays(name)
        self._idle[name] = asyncio.get_running_loop().call_later(_IDLE, idle)

    def _stays(self, name: str) -> None:
        handle = self._idle.pop(name, None)
        if handle is not None:
            handle.cancel()

    async def vacate(self, network: UserNetwork) -> None:
        """Remove what is on the host of a network that nobody is in."""
        self._stays(network.name)
        await asyncio.to_thread(self._resolvers.end, network.name)
        if network.made_here:
            await self._network.vacate(network.config)

    async def _vacate(self, name: str) -> None:
        """Remove what is on the host of a network that nobody is in."""
        try:
            network = await self._catalog.get(name)
            if not self._members(name):
                await self.vacate(network)
        except CoredError as error:
            log.get("networks").warning("removing a bridge", network=name, error=str(error))

    def _members(self, name: str) -> list[Attachment]:
        return [one for one in self._all() if one.network.name == name]

    def _published(self) -> list[Port]:
        return [port for one in self._all() for port in attached.ports(one)]

    def _all(self) -> Iterable[Attachment]:
        return [one for several in self._attached.values() for one in several]
