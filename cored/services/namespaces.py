"""containerd.services.namespaces.v1.Namespaces"""

from __future__ import annotations

from google.protobuf.empty_pb2 import Empty

from cored._pb.containerd.services.namespaces.v1 import namespace_pb2 as pb
from cored.abc.records import Namespace, NamespaceStore
from cored.abc.service import Service
from cored.services.wire import labels_value

__all__ = ["NamespacesService"]


class NamespacesService(Service):
    service = "containerd.services.namespaces.v1.Namespaces"
    scoped = False

    def __init__(self, store: NamespaceStore) -> None:
        self._store = store

    async def Get(self, request: pb.GetNamespaceRequest) -> pb.GetNamespaceResponse:
        return pb.GetNamespaceResponse(namespace=_message(await self._store.get(request.name)))

    async def List(self, request: pb.ListNamespacesRequest) -> pb.ListNamespacesResponse:
        found = await self._store.list((request.filter,) if request.filter else ())
        return pb.ListNamespacesResponse(namespaces=map(_message, found))

    async def Create(self, request: pb.CreateNamespaceRequest) -> pb.CreateNamespaceResponse:
        made = await self._store.create(_value(request.namespace))
        return pb.CreateNamespaceResponse(namespace=_message(made))

    async def Update(self, request: pb.UpdateNamespaceRequest) -> pb.UpdateNamespaceResponse:
        changed = await self._store.update(
            _value(request.namespace), tuple(request.update_mask.paths)
        )
        return pb.UpdateNamespaceResponse(namespace=_message(changed))

    async def Delete(self, request: pb.DeleteNamespaceRequest) -> Empty:
        await self._store.delete(request.name)
        return Empty()


def _message(value: Namespace) -> pb.Namespace:
    return pb.Namespace(name=value.name, labels=value.labels)


def _value(message: pb.Namespace) -> Namespace:
    return Namespace(message.name, labels_value(message.labels))
