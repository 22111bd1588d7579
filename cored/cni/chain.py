"""A network from its plugins, called in order (CNI specification, section 3)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from cored import log
from cored.abc.network import Attachment, Network, NetworkList
from cored.cni import lists, results
from cored.cni.cache import Cache
from cored.cni.calls import Call, Caller, prepared, request
from cored.errors import AlreadyExists, CoredError, InvalidArgument

__all__ = ["Chain"]


class Chain(Network):
    """Networks whose plugins ``caller`` runs, with their attachments kept in ``cache``."""

    def __init__(self, caller: Caller, cache: Cache) -> None:
        self._caller = caller
        self._cache = cache
        self._guards: dict[str, _Guard] = {}
        # one call at a time for a container: the specification asks for it
        self._busy: dict[str, _Turn] = {}

    async def attach(self, wanted: Attachment) -> Attachment:
        async with self._guard(wanted.network).shared(), self._alone(wanted.container_id):
            if self._cache.get(wanted) is not None:
                raise AlreadyExists(
                    f"container {wanted.container_id!r}: its interface {wanted.ifname!r} is in"
                    f" network {wanted.network.name!r} already"
                )
            network = await self._spoken(wanted.network)
            made = replace(wanted, network=network, result={}, finished=False)
            await asyncio.to_thread(self._cache.put, made)
            try:
                for plugin in network.plugins:
                    if made.result:
                        # a later DEL, also another daemon's, is to know how far this came
                        await asyncio.to_thread(self._cache.put, made)
                    answer = await self._call("ADD", made, plugin, made.result or None)
                    # a plugin that answers in another version, or nothing, is forgiven
                    if answer is not None:
                        result = results.to_json(results.from_json(answer), network.version)
                        made = replace(made, result=result)
                made = replace(made, finished=True)
                await asyncio.to_thread(self._cache.put, made)
            except BaseException as error:
                await asyncio.shield(self._undo(made, error))
                raise
            return made

    async def check(self, attachment: Attachment) -> None:
        kept = self._cache.get(attachment) or attachment
        network = kept.network
        if network.disable_check or not lists.at_least(network.version, "0.4.0"):
            return
        async with self._guard(network).shared(), self._alone(kept.container_id):
            for plugin in network.plugins:
                await self._call("CHECK", kept, plugin, kept.result)

    async def detach(self, attachment: Attachment) -> None:
        async with self._guard(attachment.network).shared(), self._alone(attachment.container_id):
            await self._detach(attachment)

    async def collect(self, network: NetworkList, valid: Sequence[Attachment]) -> None:
        names = {(one.container_id, one.ifname) for one in valid}
        network = await self._spoken(network)
        async with self._guard(network).alone():
            for kept in await self.attachments():
                name = (kept.container_id, kept.ifname)
                if kept.network.name == network.name and name not in names:
                    await self._detach(kept)
            if network.disable_gc or not lists.at_least(network.version, "1.1.0"):
                return
            table = [{"containerID": id, "ifname": ifname} for id, ifname in sorted(names)]
            failed: list[CoredError] = []
            for plugin in network.plugins:
                config = request(network, plugin) | {"cni.dev/valid-attachments": table}
                try:
                    await self._caller.call(plugin["type"], Call("GC", config=config))
                except CoredError as error:
                    failed.append(error)
            if failed:
                raise failed[0]

    async def status(self, network: NetworkList) -> None:
        network = await self._spoken(network)
        if not lists.at_least(network.version, "1.1.0"):
            return
        for plugin in network.plugins:
            call = Call("STATUS", config=request(network, plugin))
            await self._caller.call(plugin["type"], call)

    async def vacate(self, network: NetworkList) -> None:
        async with self._guard(network).alone():
            if not any(one.network.name == network.name for one in await self.attachments()):
                await self._caller.vacate(network)

    async def attachments(self) -> Sequence[Attachment]:
        return await asyncio.to_thread(lambda: list(self._cache.all()))

    async def _detach(self, attachment: Attachment) -> None:
        """DEL by what is kept; where the namespace is gone, the attachment says so."""
        kept = self._cache.get(attachment) or attachment
        if not attachment.netns:
            kept = replace(kept, netns="")
        failed = await self._delete(kept)
        if failed:
            raise failed[0]
        await asyncio.to_thread(self._cache.remove, kept)

    async def _delete(self, kept: Attachment) -> list[CoredError]:
        """Call every plugin in reverse order; the errors of those that failed."""
        failed: list[CoredError] = []
        result = kept.result if lists.at_least(kept.network.version, "0.4.0") else None
        for plugin in reversed(kept.network.plugins):
            try:
                await self._call("DEL", kept, plugin, result or None)
            except CoredError as error:
                failed.append(error)
        return failed

    async def _undo(self, begun: Attachment, cause: BaseException) -> None:
        """After an ADD that failed, DEL with the result so far.

        What fails is kept and tried again when the network is collected, but for a configuration
        that cannot work, or fails as it did before: that would say so for ever.
        """
        failed = await self._delete(begun)
        for error in failed:
            log.get("cni").info(
                "undoing an attachment", container=begun.container_id, error=str(error)
            )
        if all(isinstance(one, InvalidArgument) or str(one) == str(cause) for one in failed):
            await asyncio.to_thread(self._cache.remove, begun)

    async def _call(
        self,
        command: str,
        attachment: Attachment,
        plugin: Mapping[str, Any],
        previous: Mapping[str, Any] | None,
    ) -> Mapping[str, Any] | None:
        call = prepared(command, attachment, plugin, previous)
        return await self._caller.call(plugin["type"], call)

    async def _spoken(self, network: NetworkList) -> NetworkList:
        """The list in the newest version that all its plugins speak, where it offers a choice."""
        if len(network.versions) < 2:
            return network
        return lists.chosen(
            network, [await self._caller.versions(plugin["type"]) for plugin in network.plugins]
        )

    def _guard(self, network: NetworkList) -> _Guard:
        return self._guards.setdefault(network.name, _Guard())

    @asynccontextmanager
    async def _alone(self, container_id: str) -> AsyncIterator[None]:
        turn = self._busy.setdefault(container_id, _Turn())
        turn.users += 1
        try:
            async with turn.lock:
                yield
        finally:
            turn.users -= 1
            if not turn.users:
                del self._busy[container_id]


class _Turn:
    """A container's lock, and how many hold it or wait for it."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.users = 0


class _Guard:
    """Many may attach and detach; who collects is alone (section 3, "Lifecycle & Ordering")."""

    def __init__(self) -> None:
        self._users = 0
        self._gate = asyncio.Condition()
        self._collecting = False

    @asynccontextmanager
    async def shared(self) -> AsyncIterator[None]:
        async with self._gate:
            await self._gate.wait_for(lambda: not self._collecting)
            self._users += 1
        try:
            yield
        finally:
            async with self._gate:
                self._users -= 1
                self._gate.notify_all()

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        async with self._gate:
            await self._gate.wait_for(lambda: not self._collecting)
            self._collecting = True
            try:
                await self._gate.wait_for(lambda: not self._users)
            except BaseException:
                self._collecting = False
                self._gate.notify_all()
                raise
        try:
            yield
        finally:
            async with self._gate:
                self._collecting = False
                self._gate.notify_all()
