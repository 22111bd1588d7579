"""The event exchange: every subscriber sees every matching event once, in order."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass

from cored import filters as language
from cored import scope
from cored.abc.events import Envelope, Event, EventBus
from cored.abc.values import Typed
from cored.errors import InvalidArgument, ResourceExhausted
from cored.metadata.names import check_identifier, check_namespace

__all__ = ["Exchange", "FromTheStart"]

# a subscriber this far behind (some 100 MB) is cut off rather than let it take the daemon along
_BACKLOG = 65_536


@dataclass(frozen=True, slots=True)
class FromTheStart:
    """All events since the daemon began, for one who opens later: ends of containers that it has
    slept through are told before anything else is there."""

    stream: AsyncIterator[Envelope]


class _Subscriber:
    """One subscription; :meth:`offer` never blocks."""

    def __init__(self, wanted: language.Filter) -> None:
        self._wanted = wanted
        self._queue: asyncio.Queue[Envelope] = asyncio.Queue()
        self.overrun = False

    def offer(self, envelope: Envelope) -> None:
        if self._queue.qsize() >= _BACKLOG:
            self.overrun = True
        elif self._wanted.match(lambda path: field(envelope, path)):
            self._queue.put_nowait(envelope)

    async def next(self) -> Envelope:
        if self.overrun and self._queue.empty():
            raise ResourceExhausted(
                "event subscription: too far behind, events were dropped",
                hint="read faster, or filter by topic",
            )
        return await self._queue.get()


class Exchange(EventBus):
    """The daemon's :class:`EventBus`; ``observer`` (the plugins' hook) sees each event first."""

    def __init__(self, observer: Callable[[Envelope], None] | None = None) -> None:
        self._observer = observer
        self._subscribers: dict[_Subscriber, None] = {}

    async def publish(self, event: Event, *, namespace: str | None = None) -> None:
        """Publish in ``namespace``, or the current scope's."""
        where = scope.namespace() if namespace is None else namespace
        self._send(Envelope(time.time_ns(), where, event.topic, event))

    async def forward(self, envelope: Envelope) -> None:
        """Publish what somebody else has put into an envelope."""
        check_namespace(envelope.namespace)
        slash, *parts = envelope.topic.split("/")
        if slash or not parts:
            raise InvalidArgument(f"event topic {envelope.topic!r}: must be like /tasks/exit")
        for part in parts:
            check_identifier("part of an event topic", part)
        self._send(envelope)

    def subscribe(self, filters: Sequence[str] = ()) -> AsyncIterator[Envelope]:
        """Every matching envelope from now on."""
        subscriber = _Subscriber(language.parse(filters))
        self._subscribers[subscriber] = None
        return self._drain(subscriber)

    async def _drain(self, subscriber: _Subscriber) -> AsyncIterator[Envelope]:
        try:
            while True:
                yield await subscriber.next()
        finally:
            self._subscribers.pop(subscriber, None)

    def _send(self, envelope: Envelope) -> None:
        if self._observer is not None:
            self._observer(envelope)
        for subscriber in tuple(self._subscribers):
            subscriber.offer(envelope)


def field(envelope: Envelope, path: tuple[str, ...]) -> str | None:
    """A field of an envelope for filters: topic, namespace, event.<field>[.<key>]."""
    match path:
        case ("topic",):
            return envelope.topic or None
        case ("namespace",):
            return envelope.namespace or None
        case ("event", name, *rest):
            value: object = (
                envelope.fields.get(name)
                if isinstance(envelope.event, Typed)
                else getattr(envelope.event, name, None)
            )
            if isinstance(value, dict):
                value = value.get(".".join(rest))
            return None if value is None or value == "" else str(value)
        case _:
            return None
