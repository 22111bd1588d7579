"""The gRPC server on the daemon's unix socket, with health and reflection."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from cored.abc.service import Service
from cored.config import GrpcConfig
from cored.errors import FailedPrecondition, InvalidArgument
from cored.rpc.bind import bind
from cored.rpc.lasting import Lasting

__all__ = ["serve"]


@asynccontextmanager
async def serve(
    address: str, services: Sequence[Service], config: GrpcConfig
) -> AsyncIterator[grpc.aio.Server]:
    """Serve on the socket ``address`` until the body ends; then let calls in flight finish."""
    server = grpc.aio.server(options=_options(config))
    lasting = Lasting()
    for service in services:
        server.add_generic_rpc_handlers((bind(service, config.max_message_size, lasting),))
    names = [service.service for service in services]
    status = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(status, server)
    for name in ("", *names):
        await status.set(name, health_pb2.HealthCheckResponse.SERVING)
    reflection.enable_server_reflection(
        (*names, health.SERVICE_NAME, reflection.SERVICE_NAME), server
    )
    _make_way(Path(address))
    # nobody may connect between bind and chmod
    previous = os.umask(0o177)
    try:
        server.add_insecure_port(f"unix:{address}")
        await server.start()
    finally:
        os.umask(previous)
    try:
        os.chown(address, config.uid, config.gid)
        Path(address).chmod(config.mode)
        yield server
    finally:
        await status.enter_graceful_shutdown()
        lasting.end()
        await server.stop(config.shutdown_grace)
        Path(address).unlink(missing_ok=True)


def _options(config: GrpcConfig) -> list[tuple[str, int]]:
    """C-core settings; the pings are what Go clients send every ten seconds (performance.md)."""
    return [
        ("grpc.max_receive_message_length", config.max_message_size),
        ("grpc.max_send_message_length", config.max_message_size),
        ("grpc.max_metadata_size", 64 << 10),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", 5000),
        ("grpc.http2.max_ping_strikes", 0),
        ("grpc.so_reuseport", 0),
    ]


def _make_way(path: Path) -> None:
    """Remove the socket of a daemon that is gone; refuse when one answers."""
    path.parent.mkdir(mode=0o711, parents=True, exist_ok=True)
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise InvalidArgument(f"address {path}: exists and is not a socket")
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            path.unlink(missing_ok=True)
            return
    raise FailedPrecondition(
        f"address {path}: another daemon answers there", hint="stop it, or choose --address"
    )
