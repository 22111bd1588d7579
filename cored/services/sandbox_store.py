"""containerd.services.sandbox.v1.Store"""

from __future__ import annotations

from cored._pb.containerd.services.sandbox.v1 import sandbox_pb2 as pb
from cored._pb.containerd.types import sandbox_pb2
from cored.abc.records import Sandbox, SandboxStore
from cored.abc.service import Service
from cored.abc.values import Typed
from cored.services.wire import timestamp, typed_message, typed_value

__all__ = ["SandboxStoreService", "sandbox_message", "sandbox_value"]


class SandboxStoreService(Service):
    service = "containerd.services.sandbox.v1.Store"

    def __init__(self, store: SandboxStore) -> None:
        self._store = store

    async def Create(self, request: pb.StoreCreateRequest) -> pb.StoreCreateResponse:
        made = await self._store.create(sandbox_value(request.sandbox))
        return pb.StoreCreateResponse(sandbox=sandbox_message(made))

    async def Update(self, request: pb.StoreUpdateRequest) -> pb.StoreUpdateResponse:
        changed = await self._store.update(sandbox_value(request.sandbox), tuple(request.fields))
        return pb.StoreUpdateResponse(sandbox=sandbox_message(changed))

    async def Delete(self, request: pb.StoreDeleteRequest) -> pb.StoreDeleteResponse:
        await self._store.delete(request.sandbox_id)
        return pb.StoreDeleteResponse()

    async def List(self, request: pb.StoreListRequest) -> pb.StoreListResponse:
        found = await self._store.list(tuple(request.filters))
        return pb.StoreListResponse(list=map(sandbox_message, found))

    async def Get(self, request: pb.StoreGetRequest) -> pb.StoreGetResponse:
        return pb.StoreGetResponse(
            sandbox=sandbox_message(await self._store.get(request.sandbox_id))
        )


def sandbox_message(value: Sandbox) -> sandbox_pb2.Sandbox:
    """A sandbox's record as a message."""
    message = sandbox_pb2.Sandbox(
        sandbox_id=value.id,
        runtime=sandbox_pb2.Sandbox.Runtime(
            name=value.runtime, options=typed_message(value.runtime_options)
        ),
        spec=typed_message(value.spec),
        labels=value.labels,
        created_at=timestamp(value.created_at),
        updated_at=timestamp(value.updated_at),
        sandboxer=value.sandboxer,
    )
    for key, extension in value.extensions.items():
        message.extensions[key].type_url = extension.type_url
        message.extensions[key].value = extension.value
    return message


def sandbox_value(message: sandbox_pb2.Sandbox) -> Sandbox:
    """A message as a sandbox's record."""
    return Sandbox(
        id=message.sandbox_id,
        runtime=message.runtime.name,
        runtime_options=typed_value(message.runtime, "options"),
        spec=typed_value(message, "spec"),
        labels=dict(message.labels),
        extensions={k: Typed(v.type_url, v.value) for k, v in message.extensions.items()},
        sandboxer=message.sandboxer,
    )
