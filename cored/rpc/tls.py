"""The server's side of mutual TLS: its certificate, and whose clients' it accepts.

The files are looked at before each handshake: what is renewed in place counts from then on. What is
not in order is refused at the start, and later said in the log while the earlier ones serve on.
"""

from __future__ import annotations

import os
import ssl
import stat
from dataclasses import dataclass
from pathlib import Path

import grpc

from cored import log
from cored.config import TcpConfig
from cored.errors import CoredError, FailedPrecondition, InvalidArgument, NotFound, PermissionDenied

__all__ = ["Credentials"]

_LOG = log.get("rpc")
_State = tuple[tuple[int, int, int], ...]


@dataclass(frozen=True, slots=True)
class _Pems:
    """What the files hold."""

    ca: bytes
    certificate: bytes
    key: bytes


class Credentials:
    """Of one listener; :attr:`server` is for gRPC. NotFound, InvalidArgument, PermissionDenied,
    FailedPrecondition when a file is not as it must be."""

    def __init__(self, config: TcpConfig) -> None:
        self._paths = (Path(config.ca), Path(config.certificate), Path(config.key))
        self._seen = self._state()
        first = self._read()
        self.server = grpc.dynamic_ssl_server_credentials(
            _for_grpc(first), self._renewed, require_client_authentication=True
        )

    def _renewed(self) -> grpc.ServerCertificateConfiguration | None:
        """gRPC's question before each handshake; None is no change. Runs in a thread of its."""
        try:
            state = self._state()
            if state == self._seen:
                return None
            self._seen = state
            found = _for_grpc(self._read())
        except (CoredError, OSError) as error:
            _LOG.warning("tcp: the earlier certificate stays in use", error=str(error))
            return None
        _LOG.info("tcp: certificate loaded anew", certificate=str(self._paths[1]))
        return found

    def _state(self) -> _State:
        found = []
        for path in self._paths:
            try:
                status = path.stat()
            except OSError:
                found.append((0, 0, 0))
            else:
                found.append((status.st_mtime_ns, status.st_size, status.st_ino))
        return tuple(found)

    def _read(self) -> _Pems:
        ca, certificate, key = self._paths
        _check_key(key)
        pems = _Pems(_content("tcp.ca", ca), _content("tcp.certificate", certificate),
                     _content("tcp.key", key))  # fmt: skip
        _check(ca, certificate, key)
        return pems


def _for_grpc(pems: _Pems) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration([(pems.key, pems.certificate)], pems.ca)


def _content(what: str, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise NotFound(f"{what} {path}: no such file") from error
    except OSError as error:
        raise PermissionDenied(f"{what} {path}: {error.strerror}") from error


def _check_key(path: Path) -> None:
    """Who reads the key can be this daemon."""
    try:
        status = path.stat()
    except FileNotFoundError as error:
        raise NotFound(f"tcp.key {path}: no such file") from error
    if stat.S_IMODE(status.st_mode) & 0o077:
        raise PermissionDenied(
            f"tcp.key {path}: others than its owner may use it (mode "
            f"{stat.S_IMODE(status.st_mode):04o})",
            hint=f"chmod 600 {path}",
        )
    if status.st_uid not in (0, os.geteuid()):
        raise PermissionDenied(
            f"tcp.key {path}: belongs to user {status.st_uid}", hint=f"chown root {path}"
        )


def _check(ca: Path, certificate: Path, key: Path) -> None:
    """Whether they are certificates, one key's, and valid today."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        server.load_cert_chain(certificate, key, password=lambda: "")
    except ssl.SSLError as error:
        raise InvalidArgument(
            f"tcp.certificate {certificate} with tcp.key {key}: {_words(error)}",
            hint="both PEM, the key without a passphrase, and one for the other",
        ) from error
    authorities = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        authorities.load_verify_locations(ca)
    except ssl.SSLError as error:
        raise InvalidArgument(f"tcp.ca {ca}: holds no PEM certificate") from error
    _check_dates(server, certificate)


def _check_dates(server: ssl.SSLContext, certificate: Path) -> None:
    """Let a client in memory judge our certificate: Python shows no dates of unchecked ones."""
    judge = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    judge.check_hostname = False
    # itself an authority: who signed it is the clients' business
    judge.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    judge.load_verify_locations(certificate)
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = server.wrap_bio(to_server, to_client, server_side=True)
    theirs = judge.wrap_bio(to_client, to_server)
    for side in (theirs, ours, theirs):
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            continue
        except ssl.SSLCertVerificationError as error:
            raise FailedPrecondition(
                f"tcp.certificate {certificate}: {error.verify_message}", hint="issue a new one"
            ) from error


def _words(error: ssl.SSLError) -> str:
    return (error.reason or str(error)).lower().replace("_", " ")
