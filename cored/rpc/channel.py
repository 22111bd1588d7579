"""A gRPC connection to somebody else's daemon: calls by name, errors as ours."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Generic, TypeVar

import grpc
from google.protobuf.message import Message

from cored import log
from cored.errors import CoredError, Unavailable
from cored.rpc.status import to_error

__all__ = ["Channel", "Conversation"]

M = TypeVar("M", bound=Message)
Metadata = tuple[tuple[str, str], ...]
_MESSAGE_SIZE = 16 << 20
# for a server to end a call that has nothing to come, seconds
_PATIENCE = 5.0


class Channel:
    """Calls the services of one server; make it with :meth:`opened`."""

    def __init__(self, address: str, channel: grpc.aio.Channel) -> None:
        self.address = address
        self._channel = channel

    @classmethod
    @asynccontextmanager
    async def opened(cls, address: str) -> AsyncIterator[Channel]:
        """A channel to a unix socket; it connects when it is used, and again when it broke."""
        path = address.removeprefix("unix://")
        options = [
            ("grpc.max_receive_message_length", _MESSAGE_SIZE),
            ("grpc.max_send_message_length", _MESSAGE_SIZE),
            ("grpc.max_reconnect_backoff_ms", 1000),
            ("grpc.default_authority", "localhost"),
        ]
        async with grpc.aio.insecure_channel(f"unix:{path}", options=options) as channel:
            yield cls(path, channel)

    async def call(
        self,
        path: str,
        request: Message,
        answer: type[M],
        metadata: Mapping[str, str],
        *,
        timeout: float | None = None,
    ) -> M:
        """One unary call of ``/service/Method``."""
        method = self._channel.unary_unary(
            path,
            request_serializer=_serialised,
            response_deserializer=answer.FromString,
        )
        try:
            found: M = await method(request, metadata=_pairs(metadata), timeout=timeout)
        except grpc.aio.AioRpcError as error:
            raise self._translated(error) from error
        return found

    async def stream(
        self, path: str, request: Message, answer: type[M], metadata: Mapping[str, str]
    ) -> AsyncIterator[M]:
        """One call with many answers."""
        method = self._channel.unary_stream(
            path,
            request_serializer=_serialised,
            response_deserializer=answer.FromString,
        )
        call = method(request, metadata=_pairs(metadata))
        try:
            async for message in call:
                yield message
        except grpc.aio.AioRpcError as error:
            raise self._translated(error) from error
        finally:
            call.cancel()

    def conversation(
        self, path: str, answer: type[M], metadata: Mapping[str, str]
    ) -> Conversation[M]:
        """A call with many requests and answers."""
        method = self._channel.stream_stream(
            path,
            request_serializer=_serialised,
            response_deserializer=answer.FromString,
        )
        return Conversation(self, method(metadata=_pairs(metadata)))

    def _translated(self, error: grpc.aio.AioRpcError) -> CoredError:
        code = error.code().value[0]
        if code == Unavailable.code:
            return Unavailable(
                f"daemon at {self.address}: {error.details() or 'does not answer'}",
                hint="see whether it runs",
            )
        return to_error(code, error.details() or str(error.code()))


class Conversation(Generic[M]):
    """Requests and answers in turn."""

    def __init__(self, channel: Channel, call: Any) -> None:
        self._channel = channel
        self._call = call

    async def ask(self, request: Message) -> M:
        """Send one and wait for the answer; the server's error when it ends the call instead."""
        try:
            await self._call.write(request)
            found = await self._call.read()
            if found is grpc.aio.EOF:
                # the status says why
                await self._call.code()
                await self._call
                raise Unavailable(f"daemon at {self._channel.address}: ended the call")
        except grpc.aio.AioRpcError as error:
            raise self._channel._translated(error) from error
        except grpc.aio.UsageError as error:
            raise Unavailable(f"daemon at {self._channel.address}: the call has ended") from error
        message: M = found
        return message

    async def close(self) -> None:
        """Say that there is no more, and wait for the server to end. May be called twice."""
        if self._call.done():
            return
        try:
            await self._call.done_writing()
            async with asyncio.timeout(_PATIENCE):
                while await self._call.read() is not grpc.aio.EOF:
                    pass
        except TimeoutError:
            self._call.cancel()
        except grpc.aio.AioRpcError as error:
            log.get("proxy").debug("a call ended with an error", error=error.details())


def _serialised(message: Message) -> bytes:
    data: bytes = message.SerializeToString()
    return data


def _pairs(metadata: Mapping[str, str]) -> Metadata:
    return tuple(metadata.items())
