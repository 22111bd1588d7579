"""From the configuration to plugins."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

from cored._pb.containerd.services.leases.v1 import leases_pb2
from cored.config import Config, ProxyConfig
from cored.errors import AlreadyExists
from cored.hookspecs import PluginContext, PluginKind, Provider
from cored.proxies.content import ProxyContent
from cored.proxies.differ import ProxyDiffer
from cored.proxies.peer import Peer
from cored.proxies.sandbox import ProxySandboxes
from cored.proxies.snapshotter import ProxySnapshotter
from cored.rpc.channel import Channel

__all__ = ["providers"]

_KINDS = {
    "snapshot": (PluginKind.SNAPSHOTTER, "containerd.services.snapshots.v1.Snapshots"),
    "content": (PluginKind.CONTENT_STORE, "containerd.services.content.v1.Content"),
    "diff": (PluginKind.DIFFER, "containerd.services.diff.v1.Diff"),
    "sandbox": (PluginKind.SANDBOX_CONTROLLER, "containerd.services.sandbox.v1.Controller"),
}


def providers(config: Config) -> Iterator[tuple[PluginKind, Provider[Any]]]:
    """A provider for each ``[proxy_plugins.<name>]``, named like it."""
    for name, proxy in config.proxies().items():
        kind, service = _KINDS[proxy.type]
        yield (
            kind,
            Provider(
                name,
                _opener(proxy, service, name),
                capabilities=proxy.capabilities,
                platforms=(proxy.platform,) if proxy.platform else (),
                exports=proxy.exports,
            ),
        )


def _opener(proxy: ProxyConfig, service: str, name: str) -> Any:
    @asynccontextmanager
    async def opened(context: PluginContext) -> AsyncIterator[Any]:
        del context
        async with Channel.opened(proxy.address) as channel:
            if proxy.lease:
                await _ensure_lease(channel, proxy)
            peer = Peer(channel, service, proxy.namespace, proxy.lease)
            theirs = proxy.name or name
            match proxy.type:
                case "snapshot":
                    yield ProxySnapshotter(
                        peer, theirs, frozenset(proxy.capabilities), proxy.exports
                    )
                case "content":
                    yield ProxyContent(peer)
                case "diff":
                    yield ProxyDiffer(peer)
                case _:
                    yield ProxySandboxes(peer, theirs)

    return opened


async def _ensure_lease(channel: Channel, proxy: ProxyConfig) -> None:
    """A lease at the peer that keeps all we put there: it cannot see what refers to it."""
    leases = Peer(channel, "containerd.services.leases.v1.Leases", proxy.namespace)
    request = leases_pb2.CreateRequest(id=proxy.lease)
    try:
        await leases.call("Create", request, leases_pb2.CreateResponse)
    except AlreadyExists:
        return  # an earlier start of ours has made it
