"""What happened, in docker's words: kept for those who ask later, told as it comes."""

from __future__ import annotations

import asyncio
import fnmatch
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress

from cored import log, scope
from cored.abc import events
from cored.abc.events import Envelope
from cored.abc.records import ContainerStore
from cored.engine.chronicle import Chronicle, Happening
from cored.engine.workload import NAME
from cored.errors import InvalidArgument, NotFound, ResourceExhausted
from cored.scope import Scope

__all__ = ["Happening", "Journal", "parsed"]

_KEPT = 4096
# happenings that wait for a client at most
_BACKLOG = 65_536
_FILTERS = ("container", "event", "image", "label", "type", "network", "volume", "daemon", "scope")
# the actions of docker by what containerd calls them
_TASKS = {
    events.TaskStart: "start",
    events.TaskOOM: "oom",
    events.TaskPaused: "pause",
    events.TaskResumed: "unpause",
    events.TaskCheckpointed: "checkpoint",
}
_EXECS = {events.TaskExecAdded: "exec_create", events.TaskExecStarted: "exec_start"}
_IMAGES = {events.ImageCreate: "tag", events.ImageUpdate: "tag", events.ImageDelete: "untag"}


class Journal:
    """Use as ``async with Journal(...).opened()``. ``stream`` has the events, from whenever on."""

    def __init__(
        self, stream: AsyncIterator[Envelope], containers: ContainerStore, chronicle: Chronicle
    ) -> None:
        self._stream = stream
        self._containers = containers
        self._chronicle = chronicle
        # what is not written yet; a batch is being written while the lock is held
        self._unwritten: list[Happening] = []
        self._writing = asyncio.Lock()
        self._wanted = asyncio.Event()
        self._ended = self._failing = False
        self._listeners: set[asyncio.Queue[Happening | None]] = set()
        # of containers that may be gone when their end is told
        self._known: OrderedDict[tuple[str, str], dict[str, str]] = OrderedDict()

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Journal]:
        """Listen while the body runs."""
        listening = asyncio.create_task(self._listen(self._stream), name="journal")
        writing = asyncio.create_task(self._keep_writing(), name="chronicle")
        try:
            yield self
        finally:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)
            # never cancelled: a thread that writes cannot be
            self._ended = True
            self._wanted.set()
            await writing
            self._chronicle.close()

    async def read(
        self, filters: Mapping[str, Sequence[str]], since: int = 0, until: int = 0
    ) -> AsyncIterator[Happening]:
        """What passes, from ``since`` (ns; 0: from now on) until ``until`` (0: without end)."""
        here = scope.namespace()
        queue: asyncio.Queue[Happening | None] = asyncio.Queue()
        try:
            for one in await self._earlier(queue, since):
                late = until and one.time > until
                if not late and _passes(one, here, filters):
                    yield one
            while True:
                left = (until - time.time_ns()) / 10**9 if until else None
                if left is not None and left <= 0 and queue.empty():
                    return
                try:
                    async with asyncio.timeout(left):
                        came = await queue.get()
                except TimeoutError:
                    return
                if came is None:
                    raise ResourceExhausted("events: too far behind", hint="read faster")
                if until and came.time > until:
                    return
                if _passes(came, here, filters):
                    yield came
        finally:
            self._listeners.discard(queue)

    async def _earlier(self, queue: asyncio.Queue[Happening | None], since: int) -> list[Happening]:
        """What happened from ``since`` on (0: nothing); all that comes later is in ``queue``."""
        if not since:
            self._listeners.add(queue)
            return []
        async with self._writing:
            reading = self._chronicle.reading()
            unwritten = [one for one in self._unwritten if one.time >= since]
            self._listeners.add(queue)
        try:
            return await asyncio.to_thread(lambda: [*reading.happenings(since), *unwritten])
        finally:
            reading.close()

    async def _keep_writing(self) -> None:
        while not self._ended:
            await self._wanted.wait()
            self._wanted.clear()
            await self._write()

    async def _write(self) -> None:
        """Put what is not written yet into the chronicle, in one go."""
        async with self._writing:
            batch = self._unwritten
            if not batch:
                return
            self._unwritten = []
            try:
                await asyncio.to_thread(self._chronicle.append, batch)
                self._failing = False
            except OSError as error:
                if not self._failing:
                    log.get("journal").error("events are not kept", error=str(error))
                self._failing = True

    async def _listen(self, stream: AsyncIterator[Envelope]) -> None:
        async for envelope in stream:
            with scope.entered(Scope(envelope.namespace)):
                try:
                    found = await self._happening(envelope)
                except Exception as error:
                    # one that cannot be told must not be the last
                    log.get("journal").error("event", topic=envelope.topic, error=repr(error))
                    continue
            if found is None:
                continue
            self._unwritten.append(found)
            self._wanted.set()
            for queue in list(self._listeners):
                queue.put_nowait(found)
                if queue.qsize() >= _BACKLOG:
                    # who reads no more must not take the daemon along
                    self._listeners.discard(queue)
                    queue.put_nowait(None)

    async def _happening(self, envelope: Envelope) -> Happening | None:
        event = envelope.event
        kind, id, more = "container", "", dict[str, str]()
        match event:
            case events.Action():
                action, kind, id, more = event.action, event.type, event.id, dict(event.attributes)
            case events.ContainerCreate():
                action, id = "create", event.id
            case events.ContainerDelete():
                action, id = "destroy", event.id
            case events.TaskExit() if event.id == event.container_id:
                action, id, more = "die", event.container_id, {"exitCode": str(event.exit_status)}
            case events.TaskExit():
                action, id = "exec_die", event.container_id
                more = {"execID": event.id, "exitCode": str(event.exit_status)}
            case events.TaskExecAdded() | events.TaskExecStarted():
                action, id, more = (
                    _EXECS[type(event)],
                    event.container_id,
                    {"execID": event.exec_id},
                )
            case events.ImageCreate() | events.ImageUpdate() | events.ImageDelete():
                action, kind, id = _IMAGES[type(event)], "image", event.name
                more = {"name": event.name}
            case _:
                found = _TASKS.get(type(event))
                if found is None:
                    return None
                action, id = found, str(getattr(event, "container_id", ""))
        if kind == "container":
            more = {**await self._attributes(envelope.namespace, id), **more}
        return Happening(envelope.timestamp, envelope.namespace, kind, action, id, more)

    async def _attributes(self, namespace: str, id: str) -> dict[str, str]:
        with suppress(NotFound):
            record = await self._containers.get(id)
            found = {k: v for k, v in record.labels.items() if k != NAME}
            found |= {"image": record.image, "name": record.labels.get(NAME, id)}
            self._known[namespace, id] = found
            while len(self._known) > _KEPT:
                self._known.popitem(last=False)
        return self._known.get((namespace, id), {})


def parsed(filters: Sequence[str]) -> dict[str, list[str]]:
    """``key=value`` by key. InvalidArgument."""
    found: dict[str, list[str]] = {}
    for text in filters:
        key, equals, value = text.partition("=")
        if key not in _FILTERS or not equals:
            raise InvalidArgument(f"filter {text!r}: unknown", hint=", ".join(_FILTERS))
        found.setdefault(key, []).append(value)
    return found


def _passes(one: Happening, namespace: str, filters: Mapping[str, Sequence[str]]) -> bool:
    """All keys must fit, each by one of its values; labels by all."""
    if one.namespace != namespace:
        return False
    for key, values in filters.items():
        if key == "label":
            if not all(_labelled(one, value) for value in values):
                return False
        elif key not in ("daemon", "scope") and not any(_fits(one, key, v) for v in values):
            return False
    return True


def _labelled(one: Happening, wanted: str) -> bool:
    name, equals, value = wanted.partition("=")
    return name in one.attributes and (not equals or one.attributes[name] == value)


def _fits(one: Happening, key: str, value: str) -> bool:
    match key:
        case "type":
            return one.type == value
        case "event":
            # exec_start and health_status carry more words behind a colon
            return one.action == value or one.action.startswith(f"{value}:")
        case "image":
            image = one.id if one.type == "image" else one.attributes.get("image", "")
            return image == value or fnmatch.fnmatch(image, f"*/{value}*")
        case _:
            names = {one.id, one.attributes.get("name", "")}
            return one.type == key and (value in names or one.id.startswith(value))
