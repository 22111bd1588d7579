"""A ttrpc client on asyncio: many calls at a time over one connection."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Mapping
from typing import Any, Protocol, TypeVar, cast

from cored._pb.ttrpc import request_pb2
from cored.errors import Unavailable, by_code
from cored.rpc.ttrpc import REMOTE_CLOSED, REQUEST, RESPONSE, Decoder, Frame, ProtocolError, encode

__all__ = ["Client"]


class Message(Protocol):
    """A protobuf message."""

    def SerializeToString(self) -> bytes: ...
    def ParseFromString(self, data: bytes) -> Any: ...


M = TypeVar("M", bound=Message)


class Client(asyncio.Protocol):
    """A connection to one ttrpc server; make it with :meth:`connect`."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._transport: asyncio.Transport | None = None
        self._decoder = Decoder()
        self._calls: dict[int, asyncio.Future[bytes]] = {}
        self._stream = -1
        self._lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @classmethod
    async def connect(cls, address: str, timeout: float = 10.0) -> Client:
        """Connect to ``unix:///path`` (or a plain path). Unavailable when nobody answers."""
        path = address.removeprefix("unix://")
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(timeout):
                _, client = await loop.create_unix_connection(lambda: cls(address), path)
        except (OSError, TimeoutError) as error:
            raise Unavailable(f"ttrpc {path}: {error or 'no answer'}") from error
        return client

    @property
    def lost(self) -> asyncio.Future[None]:
        """Done when the connection has ended."""
        return self._lost

    @property
    def peer_pid(self) -> int:
        """The pid of who listened when we connected, by the kernel's word; 0 when unknown."""
        if self._transport is None or self._lost.done():
            return 0
        channel = self._transport.get_extra_info("socket")
        credentials = channel.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        return int(struct.unpack("3i", credentials)[0])

    async def call(
        self,
        service: str,
        method: str,
        request: Message,
        answer: M,
        *,
        metadata: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> M:
        """One RPC; fills and returns ``answer``.

        The server's error as its cored class; Unavailable when the connection ends meanwhile,
        TimeoutError after ``timeout`` seconds.
        """
        if self._transport is None or self._lost.done():
            raise Unavailable(f"ttrpc {self.address}: connection lost")
        message = request_pb2.Request(
            service=service,
            method=method,
            payload=request.SerializeToString(),
            timeout_nano=int((timeout or 0) * 1e9),
            metadata=[
                request_pb2.KeyValue(key=key, value=value)
                for key, value in (metadata or {}).items()
            ],
        )
        self._stream += 2
        stream = self._stream
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._calls[stream] = future
        try:
            payload = message.SerializeToString()
            self._transport.write(encode(Frame(stream, REQUEST, payload, REMOTE_CLOSED)))
            async with asyncio.timeout(timeout):
                data = await future
        finally:
            self._calls.pop(stream, None)
        response = request_pb2.Response.FromString(data)
        if response.status.code:
            raise by_code(response.status.code)(response.status.message)
        answer.ParseFromString(response.payload)
        return answer

    def close(self) -> None:
        """End the connection; calls under way fail with Unavailable."""
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no subclasses of asyncio's
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        try:
            frames = self._decoder.feed(data)
        except ProtocolError:
            self.close()
            return
        for frame in frames:
            future = self._calls.get(frame.stream)
            if frame.type == RESPONSE and future is not None and not future.done():
                future.set_result(frame.payload)

    def connection_lost(self, error: Exception | None) -> None:
        # first: who sees a call fail must find ``lost`` done, and what hangs on it
        if not self._lost.done():
            self._lost.set_result(None)
        for future in self._calls.values():
            if not future.done():
                future.set_exception(Unavailable(f"ttrpc {self.address}: connection lost"))
