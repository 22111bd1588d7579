"""The gRPC server on the daemon's unix socket, with health and reflection; also on the network.

It listens before all services are open.
"""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from cored import log
from cored.abc.service import Service
from cored.config import GrpcConfig, TcpConfig
from cored.endpoints import Tcp, parsed
from cored.errors import FailedPrecondition, InvalidArgument
from cored.rpc.arrivals import Arrivals
from cored.rpc.bind import bind
from cored.rpc.lasting import Lasting
from cored.rpc.methods import Methods

__all__ = ["Server", "serve"]

_SERVING = health_pb2.HealthCheckResponse.SERVING


class Server:
    """What answers on the socket: more services with :meth:`add`, until :meth:`complete`.

    Calls of services that are not there wait in the meantime.
    """

    def __init__(self, config: GrpcConfig, tcp: TcpConfig | None = None) -> None:
        self._config = config
        self._tcp = tcp if tcp is not None and tcp.address else None
        self._arrivals = None if self._tcp is None else Arrivals()
        self._names: list[str] = []
        self._methods = Methods()
        self._lasting = Lasting()
        self._status = health.aio.HealthServicer()
        self._server = grpc.aio.server(options=_options(config), handlers=(self._methods,))
        health_pb2_grpc.add_HealthServicer_to_server(self._status, self._server)

    async def add(self, services: Sequence[Service]) -> None:
        """Answer the calls of more services."""
        for service in services:
            size = self._config.max_message_size
            self._methods.add(bind(service, size, self._lasting, self._arrivals))
            await self._status.set(service.service, _SERVING)
            self._names.append(service.service)

    async def complete(self) -> None:
        """There are all: calls of others are UNIMPLEMENTED."""
        # imported here: it takes as long as half of the services, and few ask
        from cored.rpc.reflection import NAME, reflection

        self._methods.add(reflection((*self._names, health.SERVICE_NAME, NAME)))
        self._methods.complete()

    async def start(self, address: str) -> None:
        """Listen on the unix socket ``address``, and on the network where that is wanted."""
        if self._tcp is not None:
            self._listen(self._tcp)
        # nobody may connect between bind and chmod
        previous = os.umask(0o177)
        try:
            self._server.add_insecure_port(f"unix:{address}")
            await self._server.start()
        finally:
            os.umask(previous)

    def _listen(self, config: TcpConfig) -> None:
        """To clients that show a certificate; FailedPrecondition, and what is wrong with ours."""
        # imported here: few listen there, and ssl is slow to load
        from cored.rpc.tls import Credentials

        endpoint = parsed(config.address)
        assert isinstance(endpoint, Tcp)
        credentials = Credentials(config)
        try:
            port = self._server.add_secure_port(endpoint.authority, credentials.server)
        except RuntimeError as error:
            raise FailedPrecondition(
                f"address {endpoint}: cannot be listened on", hint="is the port in use?"
            ) from error
        log.get("rpc").info("listening", address=str(Tcp(endpoint.host, port)), ca=config.ca)

    async def stop(self) -> None:
        """Take no more calls, and let those in flight finish."""
        await self._status.enter_graceful_shutdown()
        self._lasting.end()
        await self._server.stop(self._config.shutdown_grace)


@asynccontextmanager
async def serve(
    address: str, services: Sequence[Service], config: GrpcConfig, tcp: TcpConfig | None = None
) -> AsyncIterator[Server]:
    """Serve on the socket ``address`` until the body ends; then let calls in flight finish.

    ``tcp`` is where else: on the network, to who shows a certificate.
    """
    server = Server(config, tcp)
    await server.add(services)
    _make_way(Path(address))
    await server.start(address)
    try:
        os.chown(address, config.uid, config.gid)
        Path(address).chmod(config.mode)
        yield server
    finally:
        await server.stop()
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
