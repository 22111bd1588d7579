"""cored.workloads.v1.Networks"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence

from google.protobuf.empty_pb2 import Empty

from cored._pb.cored.workloads.v1 import networks_pb2 as pb
from cored.abc.service import Service
from cored.cni.lists import document
from cored.engine.memberships import Member, Memberships
from cored.engine.networks import Catalog, Endpoint, UserNetwork
from cored_service_workloads import fields
from cored_service_workloads.messages import connection_message, timestamp

__all__ = ["NetworksService"]


class NetworksService(Service):
    service = "cored.workloads.v1.Networks"

    def __init__(self, catalog: Catalog, memberships: Memberships) -> None:
        self._catalog = catalog
        self._memberships = memberships

    async def Create(self, request: pb.CreateNetworkRequest) -> pb.Network:
        made = await self._catalog.create(
            request.name,
            driver=request.driver or "bridge",
            given=request.subnets,
            gateways=request.gateways,
            ranges=request.ranges,
            internal=request.internal,
            ipv6=request.ipv6,
            labels=dict(request.labels),
            options=dict(request.options),
        )
        return _message(made)

    async def List(self, request: pb.ListNetworksRequest) -> pb.ListNetworksResponse:
        found = await asyncio.to_thread(self._catalog.list)
        return pb.ListNetworksResponse(networks=map(_message, found))

    async def Inspect(self, request: pb.InspectNetworkRequest) -> pb.Network:
        network = await self._catalog.get(request.network)
        return _message(network, await self._memberships.members(network))

    async def Remove(self, request: pb.RemoveNetworkRequest) -> Empty:
        await self._memberships.remove(request.network)
        return Empty()

    async def Prune(self, request: pb.PruneNetworksRequest) -> pb.PruneNetworksResponse:
        return pb.PruneNetworksResponse(removed=await self._memberships.prune())

    async def Connect(self, request: pb.ConnectRequest) -> Empty:
        endpoint = fields.value(Endpoint, request.endpoint)
        await self._memberships.connect(request.container, endpoint)
        return Empty()

    async def Disconnect(self, request: pb.DisconnectRequest) -> Empty:
        await self._memberships.disconnect(request.container, request.network)
        return Empty()


def _message(network: UserNetwork, members: Sequence[Member] = ()) -> pb.Network:
    return pb.Network(
        name=network.name,
        id=network.id,
        driver=network.driver,
        subnets=network.subnets,
        gateways=network.gateways,
        internal=network.internal,
        ipv6=network.ipv6,
        labels=network.labels,
        options=network.options,
        created_at=timestamp(network.created_at),
        source=network.config.source,
        config=json.dumps(document(network.config)).encode(),
        members=[
            pb.Member(
                container=one.container,
                name=one.name,
                namespace=one.namespace,
                connection=connection_message(one.connection),
            )
            for one in members
        ],
    )
