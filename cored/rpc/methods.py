"""The server's methods by path; a call that comes before its service is open waits for it.

The daemon serves before all of it is open (``daemon.py``), so that who needs only what is open has
its answer. Nothing that is merely late may look absent.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any

import grpc

__all__ = ["Methods"]


class Methods(grpc.GenericRpcHandler):  # type: ignore[misc]
    """Filled with :meth:`add` until :meth:`complete` says that no more will come."""

    def __init__(self) -> None:
        self._methods: dict[str, grpc.RpcMethodHandler] = {}
        self._complete = False
        self._more = asyncio.Event()

    def add(self, methods: Mapping[str, grpc.RpcMethodHandler]) -> None:
        """More methods, by ``/service/Method``: calls go on that wait for them."""
        self._methods.update(methods)
        self._tell()

    def complete(self) -> None:
        """There will be no more: the calls that still wait are UNIMPLEMENTED."""
        self._complete = True
        self._tell()

    def _tell(self) -> None:
        self._more.set()
        self._more = asyncio.Event()

    def service(self, details: Any) -> grpc.RpcMethodHandler | None:
        """gRPC's question for each call."""
        method = self._methods.get(details.method)
        if method is None and not self._complete:
            return grpc.stream_stream_rpc_method_handler(self._waiting(details.method))
        return method

    def _waiting(self, path: str) -> Any:
        """A call whose method is not known yet: raw messages, which fit any kind of call."""

        async def call(requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
            while (method := self._methods.get(path)) is None and not self._complete:
                await self._more.wait()
            if method is None:
                await context.abort(grpc.StatusCode.UNIMPLEMENTED, "Method not found!")
            async for answer in _called(method, requests, context):
                yield answer

        return call


async def _called(
    method: Any, requests: AsyncIterator[bytes], context: Any
) -> AsyncIterator[bytes]:
    """Do as gRPC does when it knows the method from the beginning."""
    parse = method.request_deserializer or bytes
    close = method.response_serializer or bytes
    kinds = (method.unary_unary, method.unary_stream, method.stream_unary, method.stream_stream)
    implementation = next(kind for kind in kinds if kind is not None)
    if method.request_streaming:
        request: Any = (parse(data) async for data in requests)
    else:
        request = parse(await anext(aiter(requests)))
    if method.response_streaming:
        async for answer in implementation(request, context):
            yield close(answer)
    else:
        yield close(await implementation(request, context))
