"""containerd.services.events.v1.Events, and the conversion of events to their messages."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, MutableMapping
from dataclasses import fields
from functools import cache
from typing import Any

from google.protobuf import descriptor_pool, message_factory
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import DecodeError

from cored import scope
from cored._pb.containerd.services.events.v1 import events_pb2 as pb
from cored._pb.containerd.types import event_pb2
from cored.abc.events import ContainerCreate, Envelope, Event, EventBus, TaskCreate
from cored.abc.service import Service
from cored.abc.values import Typed
from cored.errors import InvalidArgument
from cored.services.wire import mount_message, nanoseconds, timestamp, typed_message

__all__ = ["EventsService", "envelope_message", "envelope_value"]

_REMEMBERED = 512


class EventsService(Service):
    """Subscribe sees every namespace; Publish needs one."""

    service = "containerd.services.events.v1.Events"
    scoped = False
    lasting = frozenset({"Subscribe"})

    def __init__(self, bus: EventBus) -> None:
        self._bus = bus
        self._known: dict[int, tuple[Envelope, bytes]] = {}

    async def Publish(self, request: pb.PublishRequest) -> Empty:
        where, now = scope.namespace(), time.time_ns()
        await self._bus.forward(_envelope(now, where, request.topic, request.event))
        return Empty()

    async def Forward(self, request: pb.ForwardRequest) -> Empty:
        await self._bus.forward(envelope_value(request.envelope))
        return Empty()

    async def Subscribe(self, request: pb.SubscribeRequest) -> AsyncIterator[bytes]:
        async for envelope in self._bus.subscribe(tuple(request.filters)):
            yield self._serialised(envelope)

    def _serialised(self, envelope: Envelope) -> bytes:
        """An envelope's bytes, made once for all subscribers."""
        known = self._known.get(id(envelope))
        if known is not None:
            return known[1]
        data: bytes = envelope_message(envelope).SerializeToString()
        if len(self._known) >= _REMEMBERED:
            self._known.clear()
        # with the envelope itself, so that nothing else can have its id
        self._known[id(envelope)] = (envelope, data)
        return data


def envelope_value(message: event_pb2.Envelope) -> Envelope:
    """An envelope that somebody else has made; its event stays as it came. InvalidArgument."""
    if not message.HasField("timestamp"):
        raise InvalidArgument(f"event {message.topic}: has no timestamp")
    when = nanoseconds(message.timestamp)
    return _envelope(when, message.namespace, message.topic, message.event)


def _envelope(timestamp: int, namespace: str, topic: str, event: AnyMessage) -> Envelope:
    fields = _readable(event)
    return Envelope(timestamp, namespace, topic, Typed(event.type_url, event.value), fields)


def _readable(event: AnyMessage) -> dict[str, object]:
    """Texts, numbers and maps of a stranger's event, where its type is known and it is whole."""
    try:
        name = event.type_url.rpartition("/")[2]
        message = _message(name).FromString(event.value)
    except (KeyError, DecodeError):
        return {}
    found: dict[str, object] = {}
    for field in message.DESCRIPTOR.fields:
        value = getattr(message, field.name)
        if isinstance(value, str | int):
            found[field.name] = value
        elif isinstance(value, MutableMapping):
            found[field.name] = dict(value)
    return found


@cache
def _message(name: str) -> Any:
    """The class of an event's message. KeyError."""
    # imported here, which registers the messages by name: not before the daemon serves
    from cored._pb.containerd.events import (  # noqa: F401
        container_pb2,
        content_pb2,
        image_pb2,
        namespace_pb2,
        sandbox_pb2,
        snapshot_pb2,
        task_pb2,
    )
    from cored._pb.cored.workloads.v1 import processes_pb2  # noqa: F401

    descriptor = descriptor_pool.Default().FindMessageTypeByName(name)
    return message_factory.GetMessageClass(descriptor)


def envelope_message(envelope: Envelope) -> event_pb2.Envelope:
    """An envelope as subscribers get it."""
    event = envelope.event
    return event_pb2.Envelope(
        timestamp=timestamp(envelope.timestamp),
        namespace=envelope.namespace,
        topic=envelope.topic,
        event=typed_message(event) if isinstance(event, Typed) else _pack(event),
    )


def _pack(event: Event) -> AnyMessage:
    message = _message(event.message)(**_arguments(event))
    return AnyMessage(type_url=event.message, value=message.SerializeToString())


def _arguments(event: Event) -> dict[str, Any]:
    """The message's fields: those of the event under the same names, but for these."""
    values: dict[str, Any] = {f.name: getattr(event, f.name) for f in fields(event)}
    if "exited_at" in values:
        values["exited_at"] = timestamp(values["exited_at"])
    match event:
        case TaskCreate():
            io = {k: values.pop(k) for k in ("stdin", "stdout", "stderr", "terminal")}
            values["io"] = _message("containerd.events.TaskIO")(**io)
            values["rootfs"] = [mount_message(m) for m in event.rootfs]
        case ContainerCreate():
            del values["runtime_name"], values["runtime_options"]
            values["runtime"] = _message("containerd.events.ContainerCreate.Runtime")(
                name=event.runtime_name, options=typed_message(event.runtime_options)
            )
        case _:
            pass
    return values
