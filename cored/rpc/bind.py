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
from google.protobuf import descriptor_pool, message_factory
from google.protobuf.message import DecodeError

from cored import log, scope
from cored.abc.service import Service
from cored.errors import FailedPrecondition, Internal, ResourceExhausted
from cored.metadata.names import check_namespace
from cored.rpc.arrivals import Arrivals
from cored.rpc.lasting import Lasting
from cored.rpc.status import to_status
from cored.scope import Scope

__all__ = ["bind"]

_CODES: Mapping[int, grpc.StatusCode] = {code.value[0]: code for code in grpc.StatusCode}
_NUMBERS = itertools.count(1)
_LOG = log.get("rpc")  # made once: it costs more than a call


def bind(
    service: Service, max_message_size: int, lasting: Lasting, arrivals: Arrivals | None = None
) -> dict[str, grpc.RpcMethodHandler]:
    """Handlers of all RPCs that ``service`` implements, by path.

    An answer of more than ``max_message_size`` bytes is RESOURCE_EXHAUSTED. ``arrivals`` are told
    of each call, where clients come over the network.
    """
    descriptor = descriptor_pool.Default().FindServiceByName(service.service)
    handlers = {}
    for method in descriptor.methods:
        implementation = getattr(service, method.name, None)
        if implementation is not None:
            if method.name in service.lasting:
                last = lasting.streaming if method.server_streaming else lasting.unary
                implementation = last(implementation)
            handler = _handler(method, implementation, service, max_message_size, arrivals)
            handlers[_path(method)] = handler
    return handlers


def _path(method: Any) -> str:
    return f"/{method.containing_service.full_name}/{method.name}"


def _handler(
    method: Any,
    implementation: Callable[..., Any],
    service: Service,
    max_message_size: int,
    arrivals: Arrivals | None,
) -> grpc.RpcMethodHandler:
    path = _path(method)
    streams_in, streams_out = method.client_streaming, method.server_streaming
    parse = _parser(method)
    # what a stream carries is parsed as it is read; one request here, where a failure has its code
    open_ = (lambda requests: requests) if streams_in else parse
    close = _serialiser(method, max_message_size)

    def enter(context: Any) -> None:
        if arrivals is not None:
            arrivals.note(context)
        _enter(path, context, service)

    call = (_streaming if streams_out else _unary)(path, implementation, enter, open_, close)
    make = {
        (False, False): grpc.unary_unary_rpc_method_handler,
        (False, True): grpc.unary_stream_rpc_method_handler,
        (True, False): grpc.stream_unary_rpc_method_handler,
        (True, True): grpc.stream_stream_rpc_method_handler,
    }[streams_in, streams_out]
    return make(call, request_deserializer=parse if streams_in else None)


def _parser(method: Any) -> Callable[[bytes], Any]:
    from_string = message_factory.GetMessageClass(method.input_type).FromString

    def parse(data: bytes) -> Any:
        try:
            return from_string(data)
        except DecodeError:
            # the code that gRPC's own servers answer
            raise Internal(
                f"the request is no valid {method.input_type.full_name}",
                hint="the client sent bytes that protobuf cannot read",
            ) from None

    return parse


def _serialiser(method: Any, max_message_size: int) -> Callable[[Any], bytes]:
    def serialise(message: Any) -> bytes:
        data = message if isinstance(message, bytes) else message.SerializeToString()
        if len(data) > max_message_size:
            raise ResourceExhausted(
                f"the answer, a {method.output_type.full_name}, has {len(data)} bytes: more than "
                f"the {max_message_size} that may be sent",
                hint="ask for less, with filters; or raise grpc.max_message_size in cored's config",
            )
        return data

    return serialise


def _unary(
    path: str,
    implementation: Callable[..., Any],
    enter: Callable[[Any], None],
    open_: Callable[[Any], Any],
    close: Callable[[Any], bytes],
) -> Callable[..., Any]:
    async def call(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        try:
            enter(context)
            return close(await implementation(open_(request)))
        except BaseException as error:
            await _fail(path, context, error)

    return call


def _streaming(
    path: str,
    implementation: Callable[..., Any],
    enter: Callable[[Any], None],
    open_: Callable[[Any], Any],
    close: Callable[[Any], bytes],
) -> Callable[..., Any]:
    async def call(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[Any]:
        try:
            enter(context)
            async with aclosing(implementation(open_(request))) as answers:
                async for message in answers:
                    yield close(message)
        except GeneratorExit:
            raise
        except BaseException as error:
            await _fail(path, context, error)

    return call


def _enter(path: str, context: Any, service: Service) -> None:
    """Set the scope and log context that the call's headers ask for.

    Nothing is reset: each call runs in a task, and so in a context, of its own; and a generator
    may be closed from another one.
    """
    namespace: str | None = service.namespace or None
    lease = None
    for key, value in context.invocation_metadata() or ():
        # the first one of each counts
        if key == "containerd-namespace" and namespace is None:
            namespace = value
        elif key == "containerd-lease" and lease is None:
            lease = value
    log.context(request=next(_NUMBERS), method=path, namespace=namespace or "")
    if namespace:
        check_namespace(namespace)
    elif service.scoped:
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
