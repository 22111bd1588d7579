"""From a :class:`cored.abc.service.Service` to gRPC handlers, by its protobuf descriptor.

Everything that every call needs happens here once: scope from the headers, log context, errors to
statuses. A method may answer serialised bytes in place of a message.
"""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import aclosing
from typing import Any

import grpc
import structlog
from google.protobuf import descriptor_pool, message_factory

from cored import log, scope
from cored.abc.service import Service
from cored.errors import FailedPrecondition
from cored.metadata.names import check_namespace
from cored.rpc.status import to_status
from cored.scope import Scope

__all__ = ["bind"]

_CODES: Mapping[int, grpc.StatusCode] = {code.value[0]: code for code in grpc.StatusCode}
_NUMBERS = itertools.count(1)
_LOG = log.get("rpc")  # made once: it costs more than a call


def bind(service: Service) -> grpc.GenericRpcHandler:
    """The handler of all RPCs that ``service`` implements; the others answer UNIMPLEMENTED."""
    descriptor = descriptor_pool.Default().FindServiceByName(service.service)
    handlers = {}
    for method in descriptor.methods:
        implementation = getattr(service, method.name, None)
        if implementation is not None:
            handlers[method.name] = _handler(method, implementation, service.scoped)
    return grpc.method_handlers_generic_handler(service.service, handlers)


def _handler(
    method: Any, implementation: Callable[..., Any], scoped: bool
) -> grpc.RpcMethodHandler:
    path = f"/{method.containing_service.full_name}/{method.name}"
    parse = message_factory.GetMessageClass(method.input_type).FromString
    streams_in, streams_out = method.client_streaming, method.server_streaming
    call = (
        _streaming(path, implementation, scoped)
        if streams_out
        else _unary(path, implementation, scoped)
    )
    make = {
        (False, False): grpc.unary_unary_rpc_method_handler,
        (False, True): grpc.unary_stream_rpc_method_handler,
        (True, False): grpc.stream_unary_rpc_method_handler,
        (True, True): grpc.stream_stream_rpc_method_handler,
    }[streams_in, streams_out]
    return make(call, request_deserializer=parse, response_serializer=_serialise)


def _serialise(message: Any) -> bytes:
    return message if isinstance(message, bytes) else message.SerializeToString()


def _unary(path: str, implementation: Callable[..., Any], scoped: bool) -> Callable[..., Any]:
    async def call(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        try:
            _enter(path, context, scoped)
            return await implementation(request)
        except BaseException as error:
            await _fail(path, context, error)

    return call


def _streaming(path: str, implementation: Callable[..., Any], scoped: bool) -> Callable[..., Any]:
    async def call(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[Any]:
        try:
            _enter(path, context, scoped)
            async with aclosing(implementation(request)) as answers:
                async for message in answers:
                    yield message
        except GeneratorExit:
            raise
        except BaseException as error:
            await _fail(path, context, error)

    return call


def _enter(path: str, context: Any, scoped: bool) -> None:
    """Set the scope and log context that the call's headers ask for.

    Nothing is reset: each call runs in a task, and so in a context, of its own; and a generator
    may be closed from another one.
    """
    namespace = lease = None
    for key, value in context.invocation_metadata() or ():
        # the first one of each counts
        if key == "containerd-namespace" and namespace is None:
            namespace = value
        elif key == "containerd-lease" and lease is None:
            lease = value
    structlog.contextvars.bind_contextvars(
        request=next(_NUMBERS), method=path, namespace=namespace or ""
    )
    if namespace:
        check_namespace(namespace)
    elif scoped:
        raise FailedPrecondition(
            "namespace is required", hint="send the metadata header containerd-namespace"
        )
    scope.enter(Scope(namespace, lease or None) if namespace else None)


async def _fail(path: str, context: Any, error: BaseException) -> None:
    """End the call with the status that ``error`` stands for; log what nobody expected."""
    if isinstance(error, grpc.aio.AbortError):
        raise error
    code, message, expected = to_status(error)
    if expected:
        _LOG.debug("call failed", method=path, code=code, error=message)
    else:
        _LOG.error("call failed", method=path, code=code, error=message, exc_info=error)
    if isinstance(error, Exception):
        # a line break in a status message would end up as %0A on some clients' screens
        await context.abort(_CODES.get(code, grpc.StatusCode.UNKNOWN), message)
    raise error
