"""containerd.services.containers.v1.Containers"""

from __future__ import annotations

from collections.abc import AsyncIterator

from google.protobuf.empty_pb2 import Empty

from cored import scope
from cored._pb.containerd.services.containers.v1 import containers_pb2 as pb
from cored.abc.records import Container, ContainerStore
from cored.abc.service import Service
from cored.abc.values import Typed
from cored.services.wire import labels_value, timestamp, typed_message, typed_value

__all__ = ["ContainersService"]

_REMEMBERED = 2048


class ContainersService(Service):
    service = "containerd.services.containers.v1.Containers"

    def __init__(self, store: ContainerStore) -> None:
        self._store = store
        self._encoded: dict[tuple[str, str], tuple[Container, bytes]] = {}

    async def Get(self, request: pb.GetContainerRequest) -> bytes:
        return self._field(scope.namespace(), await self._store.get(request.id))

    async def List(self, request: pb.ListContainersRequest) -> bytes:
        namespace = scope.namespace()
        found = await self._store.list(tuple(request.filters))
        return b"".join([self._field(namespace, record) for record in found])

    async def ListStream(
        self, request: pb.ListContainersRequest
    ) -> AsyncIterator[pb.ListContainerMessage]:
        for record in await self._store.list(tuple(request.filters)):
            yield pb.ListContainerMessage(container=_message(record))

    async def Create(self, request: pb.CreateContainerRequest) -> pb.CreateContainerResponse:
        made = await self._store.create(_value(request.container))
        return pb.CreateContainerResponse(container=_message(made))

    async def Update(self, request: pb.UpdateContainerRequest) -> pb.UpdateContainerResponse:
        changed = await self._store.update(
            _value(request.container), tuple(request.update_mask.paths)
        )
        return pb.UpdateContainerResponse(container=_message(changed))

    async def Delete(self, request: pb.DeleteContainerRequest) -> Empty:
        await self._store.delete(request.id)
        return Empty()

    def _field(self, namespace: str, record: Container) -> bytes:
        """The record as field 1 of an answer, which it is in those of Get and List alike.

        The store answers the same object for as long as a record stays the same.
        """
        known = self._encoded.get((namespace, record.id))
        if known is not None and known[0] is record:
            return known[1]
        data: bytes = pb.GetContainerResponse(container=_message(record)).SerializeToString()
        if len(self._encoded) >= _REMEMBERED:
            self._encoded.clear()
        self._encoded[namespace, record.id] = (record, data)
        return data


def _message(value: Container) -> pb.Container:
    message = pb.Container(
        id=value.id,
        labels=value.labels,
        image=value.image,
        runtime=pb.Container.Runtime(
            name=value.runtime, options=typed_message(value.runtime_options)
        ),
        spec=typed_message(value.spec),
        snapshotter=value.snapshotter,
        snapshot_key=value.snapshot_key,
        created_at=timestamp(value.created_at),
        updated_at=timestamp(value.updated_at),
        sandbox=value.sandbox,
    )
    for key, extension in value.extensions.items():
        message.extensions[key].type_url = extension.type_url
        message.extensions[key].value = extension.value
    return message


def _value(message: pb.Container) -> Container:
    return Container(
        id=message.id,
        labels=labels_value(message.labels),
        image=message.image,
        runtime=message.runtime.name,
        runtime_options=typed_value(message.runtime, "options"),
        spec=typed_value(message, "spec"),
        snapshotter=message.snapshotter,
        snapshot_key=message.snapshot_key,
        extensions={k: Typed(v.type_url, v.value) for k, v in message.extensions.items()},
        sandbox=message.sandbox,
    )
