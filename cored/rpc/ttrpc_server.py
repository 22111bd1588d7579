"""A ttrpc server on asyncio, for what shims call: unary methods, many at a time."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from cored import log
from cored._pb.google.rpc import status_pb2
from cored._pb.ttrpc import request_pb2
from cored.errors import Unimplemented
from cored.rpc.status import to_status
from cored.rpc.ttrpc import REQUEST, RESPONSE, Decoder, Frame, ProtocolError, encode

__all__ = ["Handler", "serve"]

Handler = Callable[[bytes], Awaitable[bytes]]
"""Takes a serialised request and answers a serialised response."""


@asynccontextmanager
async def serve(path: Path, handlers: Mapping[tuple[str, str], Handler]) -> AsyncIterator[None]:
    """Serve ``handlers`` by (service, method) on the socket ``path``, mode 0600."""
    path.unlink(missing_ok=True)
    previous = os.umask(0o177)
    try:
        server = await asyncio.start_unix_server(
            lambda reader, writer: _Connection(handlers, reader, writer).run(), path
        )
    finally:
        os.umask(previous)
    try:
        yield
    finally:
        server.close()
        path.unlink(missing_ok=True)


class _Connection:
    def __init__(
        self,
        handlers: Mapping[tuple[str, str], Handler],
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self._handlers = handlers
        self._reader = reader
        self._writer = writer

    async def run(self) -> None:
        """Serve until the client goes."""
        decoder = Decoder()
        try:
            async with asyncio.TaskGroup() as group:
                while data := await self._reader.read(1 << 16):
                    for frame in decoder.feed(data):
                        if frame.type == REQUEST:
                            group.create_task(self._answer(frame))
        except* (ConnectionError, ProtocolError) as errors:
            log.get("ttrpc").debug("connection ended", errors=[str(e) for e in errors.exceptions])
        finally:
            with suppress(RuntimeError):  # the loop is closing, and the socket with it
                self._writer.close()

    async def _answer(self, frame: Frame) -> None:
        request = request_pb2.Request.FromString(frame.payload)
        response = request_pb2.Response()
        try:
            handler = self._handlers.get((request.service, request.method))
            if handler is None:
                raise Unimplemented(f"{request.service}/{request.method}: not implemented")
            response.payload = await handler(request.payload)
        except Exception as error:
            code, message, expected = to_status(error)
            if not expected:
                log.get("ttrpc").error("call failed", error=message, exc_info=error)
            response.status.CopyFrom(status_pb2.Status(code=code, message=message))
        self._writer.write(encode(Frame(frame.stream, RESPONSE, response.SerializeToString())))
        await self._writer.drain()
