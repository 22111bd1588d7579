"""All pods and containers of the service: in memory as their records have them, found by id."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import replace
from typing import Any, TypeVar

from cored import log
from cored.abc.records import Container as Record
from cored.abc.records import ContainerStore
from cored.abc.values import Typed
from cored.errors import AlreadyExists, InvalidArgument, NotFound
from cored_service_cri.values import KIND, Container, Pod, container_of, pod_of

__all__ = ["Registry"]

_T = TypeVar("_T", Pod, Container)


class Registry:
    """Reads come from memory; what is new is in the store before it is here."""

    def __init__(self, store: ContainerStore) -> None:
        self._store = store
        self.pods: dict[str, Pod] = {}
        self.containers: dict[str, Container] = {}
        self._names: dict[str, str] = {}
        # those in the midst of whose making the daemon was killed: nobody has been told their ids
        self.unfinished: list[Container] = []

    async def load(self) -> None:
        """What earlier daemons left."""
        records = await self._store.list([f'labels."{KIND}"'])
        for record in sorted(records, key=lambda one: one.labels[KIND] != "sandbox"):
            try:
                if record.labels[KIND] == "sandbox":
                    self._keep(self.pods, pod_of(record))
                else:
                    one = container_of(record, self.pods)
                    self._keep(self.containers, one)
                    if record.spec is None or not json.loads(record.spec.value):
                        self.unfinished.append(one)
            except NotFound as error:
                log.get("cri").warning("a record is left alone", error=str(error))

    def pod(self, id: str) -> Pod:
        """A pod by id, or the unique beginning of one. NotFound."""
        return _found("pod sandbox", self.pods, id)

    def container(self, id: str) -> Container:
        """A container by id, or the unique beginning of one. NotFound."""
        return _found("container", self.containers, id)

    def members(self, pod: str) -> list[Container]:
        """The containers of a pod."""
        return [one for one in self.containers.values() if one.pod.id == pod]

    @contextmanager
    def reserved(self, name: str, id: str) -> Iterator[None]:
        """Hold a name while what bears it is made; it is kept unless that fails. AlreadyExists."""
        if name in self._names:
            raise AlreadyExists(f"name {name!r}: is taken by {self._names[name]}")
        self._names[name] = id
        try:
            yield
        except BaseException:
            self._names.pop(name, None)
            raise

    async def add(self, what: Pod | Container, record: Record) -> None:
        """Make the record of something new; it is listed from now on."""
        await self._store.create(record)
        self._put(what)

    @asynccontextmanager
    async def removal(self, what: Pod | Container) -> AsyncIterator[None]:
        """Forget it when the body has removed what it had."""
        yield
        with suppress(NotFound):
            await self._store.delete(what.id)
        if isinstance(what, Pod):
            self.pods.pop(what.id, None)
        else:
            self.containers.pop(what.id, None)
        if self._names.get(what.name) == what.id:
            del self._names[what.name]

    async def change(self, what: _T, spec: Typed | None = None) -> _T:
        """Keep another state of it, and spec. NotFound when it has been removed meanwhile.

        It is here at once, so that nobody who makes another one of it in the meantime (its end
        comes while its limits are changed) begins with what is no longer so.
        """
        table: Any = self.pods if isinstance(what, Pod) else self.containers
        if what.id not in table:
            raise NotFound(f"{what.id!r}: has been removed")
        table[what.id] = what
        record = await self._store.get(what.id)
        latest = table.get(what.id, what)
        changed = replace(record, extensions={**record.extensions, **latest.extensions()})
        paths = ["extensions"]
        if spec is not None:
            changed = replace(changed, spec=spec)
            paths.append("spec")
        await self._store.update(changed, paths)
        return what

    async def spec(self, id: str) -> dict[str, Any]:
        """The spec of a pod's pause, or of a container. NotFound."""
        record = await self._store.get(id)
        table: dict[str, Any] = json.loads(record.spec.value) if record.spec else {}
        return table

    def _put(self, what: Pod | Container) -> None:
        if isinstance(what, Pod):
            self.pods[what.id] = what
        else:
            self.containers[what.id] = what

    def _keep(self, table: dict[str, _T], what: _T) -> None:
        table[what.id] = what
        self._names[what.name] = what.id


def _found(kind: str, table: Mapping[str, _T], id: str) -> _T:
    if not id:
        raise InvalidArgument(f"{kind}: no id given")
    if id in table:
        return table[id]
    matching = [one for name, one in table.items() if name.startswith(id)]
    if len(matching) > 1:
        raise InvalidArgument(f"{kind} {id!r}: ambiguous, {len(matching)} ids begin with it")
    if not matching:
        raise NotFound(f"{kind} {id!r}: not found")
    return matching[0]
