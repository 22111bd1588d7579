"""containerd.services.streaming.v1.Streaming"""

from __future__ import annotations

from collections.abc import AsyncIterator

from google.protobuf.any_pb2 import Any
from google.protobuf.message import DecodeError

from cored._pb.containerd.services.streaming.v1 import streaming_pb2 as pb
from cored.abc.service import Service
from cored.abc.values import Typed
from cored.engine.streams import Streams
from cored.errors import InvalidArgument
from cored.services.wire import typed_message

__all__ = ["StreamingService"]

_INIT = pb.StreamInit.DESCRIPTOR.full_name
# what tells the client that its stream can be used from here on
_READY = Any(type_url="google.protobuf.Empty")


class StreamingService(Service):
    service = "containerd.services.streaming.v1.Streaming"

    def __init__(self, streams: Streams) -> None:
        self._streams = streams

    async def Stream(self, requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
        """Carry one stream until the call that uses it closes it, or the client leaves."""
        incoming = aiter(requests)
        first = await anext(incoming, None)
        if first is None:
            return
        with self._streams.registered(_id(first), _values(incoming)) as stream:
            yield _READY
            async for message in stream.outgoing():
                yield typed_message(message)


def _id(message: Any) -> str:
    if message.type_url.rpartition("/")[2] != _INIT:
        raise InvalidArgument(
            f"stream: begins with {message.type_url!r}", hint=f"the first message is a {_INIT}"
        )
    try:
        init: pb.StreamInit = pb.StreamInit.FromString(message.value)
    except DecodeError as error:
        raise InvalidArgument(f"stream: its first message is damaged: {error}") from error
    return init.id


async def _values(incoming: AsyncIterator[Any]) -> AsyncIterator[Typed]:
    async for message in incoming:
        yield Typed(message.type_url, message.value)
