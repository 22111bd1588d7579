"""Streams of execs, attaches and forwarded ports, over HTTP connections that a kubelet relays."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from cored._pb.cri.v1 import api_pb2 as pb
from cored.errors import InvalidArgument
from cored_service_cri.streaming.channels import Connection
from cored_service_cri.streaming.server import Server
from cored_service_cri.streaming.sessions import Sessions
from cored_service_cri.streaming.tokens import Session, Tokens
from cored_service_cri.values import Container, Pod

__all__ = ["Streaming"]

_IDLE = 4 * 3600.0


class Streaming:
    """Issues the URLs; open it with :meth:`opened`."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions
        self._tokens = Tokens()
        self.address = ""

    @asynccontextmanager
    async def opened(self, settings: Mapping[str, Any]) -> AsyncIterator[Streaming]:
        """Serve, by the plugin's settings: ``stream_address stream_port stream_idle_timeout``
        (seconds), ``stream_tls_cert`` and ``stream_tls_key``."""
        host = str(settings.get("stream_address", "127.0.0.1"))
        tls = _context(settings)
        server = Server(self._tokens, float(settings.get("stream_idle_timeout", _IDLE)))
        async with server.listening(host, int(settings.get("stream_port", 0)), tls) as port:
            shown = f"[{host}]" if ":" in host else host
            self.address = f"{'https' if tls else 'http'}://{shown}:{port}"
            try:
                yield self
            finally:
                self._tokens.close()

    def exec(self, one: Container, request: pb.ExecRequest) -> str:
        """Where a command's streams are. InvalidArgument."""
        if not request.cmd:
            raise InvalidArgument("exec: no command given")
        _check(request)

        async def session(connection: Connection) -> None:
            await self._sessions.exec(one, request, connection)

        return self._url("exec", session)

    def attach(self, one: Container, request: pb.AttachRequest) -> str:
        """Where a container's streams are. InvalidArgument."""
        _check(request)

        async def session(connection: Connection) -> None:
            await self._sessions.attach(one, request, connection)

        return self._url("attach", session)

    def forward(self, pod: Pod, request: pb.PortForwardRequest) -> str:
        """Where a pod's ports are. InvalidArgument."""
        for port in request.port:
            if not 0 < port < 65536:
                raise InvalidArgument(f"port {port}: must be 1 to 65535")

        async def session(connection: Connection) -> None:
            await self._sessions.forward(pod, request, connection)

        return self._url("portforward", session)

    def _url(self, verb: str, session: Session) -> str:
        return f"{self.address}/{verb}/{self._tokens.issue(session)}"


def _check(request: pb.ExecRequest | pb.AttachRequest) -> None:
    if request.tty and request.stderr:
        raise InvalidArgument("streams: a terminal has no stderr of its own")
    if not (request.stdin or request.stdout or request.stderr):
        raise InvalidArgument("streams: none of stdin, stdout and stderr is asked for")


def _context(settings: Mapping[str, Any]) -> ssl.SSLContext | None:
    """TLS where a certificate is given. InvalidArgument."""
    certificate, key = settings.get("stream_tls_cert"), settings.get("stream_tls_key")
    if not certificate:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(str(certificate), str(key) if key else None)
    except OSError as error:
        raise InvalidArgument(f"stream_tls_cert {certificate}: {error}") from error
    return context
