"""containerd.services.leases.v1.Leases"""

from __future__ import annotations

import secrets
import time

from google.protobuf.empty_pb2 import Empty

from cored._pb.containerd.services.leases.v1 import leases_pb2 as pb
from cored.abc.records import Lease, LeaseStore, Resource
from cored.abc.service import Service
from cored.metadata.gc import Scheduler
from cored.services.wire import labels_value, timestamp

__all__ = ["LeasesService"]


class LeasesService(Service):
    service = "containerd.services.leases.v1.Leases"

    def __init__(self, store: LeaseStore, gc: Scheduler) -> None:
        self._store = store
        self._gc = gc

    async def Create(self, request: pb.CreateRequest) -> pb.CreateResponse:
        id = request.id or f"{time.time_ns()}-{secrets.token_urlsafe(6)}"
        made = await self._store.create(Lease(id, labels_value(request.labels)))
        return pb.CreateResponse(lease=_message(made))

    async def Delete(self, request: pb.DeleteRequest) -> Empty:
        await self._store.delete(request.id)
        if request.sync:
            await self._gc.collect()
        return Empty()

    async def List(self, request: pb.ListRequest) -> pb.ListResponse:
        found = await self._store.list(tuple(request.filters))
        return pb.ListResponse(leases=map(_message, found))

    async def AddResource(self, request: pb.AddResourceRequest) -> Empty:
        await self._store.add(request.id, Resource(request.resource.id, request.resource.type))
        return Empty()

    async def DeleteResource(self, request: pb.DeleteResourceRequest) -> Empty:
        await self._store.discard(request.id, Resource(request.resource.id, request.resource.type))
        return Empty()

    async def ListResources(self, request: pb.ListResourcesRequest) -> pb.ListResourcesResponse:
        found = await self._store.resources(request.id)
        return pb.ListResourcesResponse(
            resources=(pb.Resource(id=r.id, type=r.type) for r in found)
        )


def _message(value: Lease) -> pb.Lease:
    return pb.Lease(id=value.id, created_at=timestamp(value.created_at), labels=value.labels)
