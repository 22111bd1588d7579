"""containerd.services.events.v1.Events, and the conversion of events to their messages."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from dataclasses import fields
from typing import Any

from google.protobuf import descriptor_pool, message_factory
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.empty_pb2 import Empty

from cored import scope
from cored._pb.containerd.events import (  # noqa: F401  (registers the messages by name)
    container_pb2,
    content_pb2,
    image_pb2,
    namespace_pb2,
    sandbox_pb2,
    snapshot_pb2,
    task_pb2,
)
from cored._pb.containerd.services.events.v1 import events_pb2 as pb
from cored._pb.containerd.types import event_pb2
from cored.abc.events import ContainerCreate, Envelope, Event, EventBus, TaskCreate
from cored.abc.service import Service
from cored.abc.values import Typed
from cored.services.wire import mount_message, timestamp, typed_message

__all__ = ["EventsService", "envelope_message", "envelope_value"]


class EventsService(Service):
    """Subscribe sees every namespace; Publish needs one."""

    service = "containerd.services.events.v1.Events"
    scoped = False

    def __init__(self, bus: EventBus) -> None:
        self._bus = bus

    async def Publish(self, request: pb.PublishRequest) -> Empty:
        event = Typed(request.event.type_url, request.event.value)
        await self._bus.forward(Envelope(time.time_ns(), scope.namespace(), request.topic, event))
        return Empty()

    async def Forward(self, request: pb.ForwardRequest) -> Empty:
        await self._bus.forward(envelope_value(request.envelope))
        return Empty()

    async def Subscribe(self, request: pb.SubscribeRequest) -> AsyncIterator[event_pb2.Envelope]:
        async for envelope in self._bus.subscribe(tuple(request.filters)):
            yield envelope_message(envelope)


def envelope_value(message: event_pb2.Envelope) -> Envelope:
    """An envelope that somebody else has made; its event stays opaque."""
    return Envelope(
        message.timestamp.ToNanoseconds(),
        message.namespace,
        message.topic,
        Typed(message.event.type_url, message.event.value),
    )


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
    descriptor = descriptor_pool.Default().FindMessageTypeByName(event.message)
    message = message_factory.GetMessageClass(descriptor)(**_arguments(event))
    return AnyMessage(type_url=event.message, value=message.SerializeToString())


def _arguments(event: Event) -> dict[str, Any]:
    """The message's fields: those of the event under the same names, but for these."""
    values: dict[str, Any] = {f.name: getattr(event, f.name) for f in fields(event)}
    if "exited_at" in values:
        values["exited_at"] = timestamp(values["exited_at"])
    match event:
        case TaskCreate():
            io = {k: values.pop(k) for k in ("stdin", "stdout", "stderr", "terminal")}
            values["io"] = task_pb2.TaskIO(**io)
            values["rootfs"] = [mount_message(m) for m in event.rootfs]
        case ContainerCreate():
            del values["runtime_name"], values["runtime_options"]
            values["runtime"] = container_pb2.ContainerCreate.Runtime(
                name=event.runtime_name, options=typed_message(event.runtime_options)
            )
        case _:
            pass
    return values
