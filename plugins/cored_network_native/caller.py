"""Which plugin runs in process, and on which thread; the others are executables."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from cored import log
from cored.abc.network import Attachment, NetworkList
from cored.cni import results
from cored.cni.calls import Call, prepared
from cored.cni.executables import Executables
from cored.cni.lists import VERSIONS
from cored.errors import CoredError, Internal, Unimplemented, from_os_error
from cored_network_native.bandwidth import Bandwidth
from cored_network_native.bridge import Bridge, vacate
from cored_network_native.firewall import Firewall
from cored_network_native.kinds import Host, Kind
from cored_network_native.loopback import Loopback
from cored_network_native.netlink import Netlink
from cored_network_native.nftables import Refused
from cored_network_native.portmap import PortMap
from cored_network_native.rules import Rules

__all__ = ["KINDS", "Native", "perform"]

KINDS: Mapping[str, Kind] = {
    "bandwidth": Bandwidth(),
    "bridge": Bridge(),
    "firewall": Firewall(),
    "loopback": Loopback(),
    "portmap": PortMap(),
}
"""The plugins in process; ``host-local`` is bridge's own business."""

T = TypeVar("T")


class Native:
    """A :class:`cored.cni.calls.Caller`. Our plugins share one thread, which netlink belongs to."""

    def __init__(
        self, executables: Executables, kept: Callable[[], Iterable[Attachment]] = tuple
    ) -> None:
        """``kept`` answers the attachments that there are, for :meth:`restore`."""
        self._executables = executables
        self._kept = kept
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="network")
        self._host: Host | None = None

    async def call(self, type: str, call: Call) -> Mapping[str, Any] | None:
        """Run a plugin here when it understands all of its configuration; else its executable."""
        kind = KINDS.get(type)
        if kind is None or not kind.takes(call.config):
            return await self._executables.call(type, call)
        return await self._on_thread(lambda: self._perform(kind, call))

    async def restore(self) -> None:
        """See that the packet filter has what it should, whatever became of it meanwhile."""
        if any(True for _ in self._kept()):
            await self._on_thread(self._restore)

    def _perform(self, kind: Kind, call: Call) -> Mapping[str, Any] | None:
        host = self._opened()
        try:
            return perform(kind, host, call)
        finally:
            if host.rules.anew:
                # somebody has flushed the rule set: the others have lost theirs, too
                self._restore()

    def _restore(self) -> None:
        host = self._opened()
        host.rules.ensure()
        host.rules.anew = False
        for attachment in self._kept():
            for plugin in attachment.network.plugins if attachment.finished else ():
                kind = KINDS.get(plugin["type"])
                if kind is None or not kind.takes(plugin):
                    continue
                call = prepared("ADD", attachment, plugin, attachment.result)
                try:
                    kind.restore(host, call)
                except CoredError as error:
                    log.get("networks").warning(
                        "restoring an attachment",
                        container=attachment.container_id,
                        error=str(error),
                    )

    async def versions(self, type: str) -> Sequence[str]:
        if type in KINDS:
            return VERSIONS
        return await self._executables.versions(type)

    async def vacate(self, network: NetworkList) -> None:
        """Remove the bridge of a network, if it has no ports, and its rules."""
        for plugin in network.plugins:
            name = str(plugin.get("bridge") or "cni0")
            if plugin["type"] == "bridge" and KINDS["bridge"].takes(plugin):
                await self._on_thread(lambda name=name: vacate(self._opened(), name))  # type: ignore[misc]

    async def close(self) -> None:
        """Let go of sockets and the thread; networks stay as they are."""

        def let_go() -> None:
            if self._host is not None:
                self._host.netlink.close()
                self._host.rules.close()

        await self._on_thread(let_go)
        self._thread.shutdown()

    async def _on_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def _opened(self) -> Host:
        if self._host is None:
            self._host = Host(Netlink(), Rules(), self._executables.run)
        return self._host


def perform(kind: Kind, host: Host, call: Call) -> Mapping[str, Any] | None:
    """One call of a plugin in process; blocks. CoredError."""
    try:
        match call.command:
            case "ADD":
                return results.to_json(kind.add(host, call), call.version)
            case "DEL":
                kind.delete(host, call)
            case "CHECK":
                kind.check(host, call)
            case "GC":
                valid = call.config.get("cni.dev/valid-attachments") or ()
                kind.collect(host, call, {(one["containerID"], one["ifname"]) for one in valid})
            case "STATUS":
                kind.status(host, call)
            case other:
                raise Unimplemented(f"CNI command {other!r}: unknown")
    except Refused as error:
        raise Internal(f"network {call.network!r}: packet filter: {error}") from error
    except OSError as error:
        raise from_os_error(f"network {call.network!r}: {call.command}", error) from error
    return None
