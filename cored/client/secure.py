"""Sockets to a daemon on another host: both sides show a certificate, always."""

from __future__ import annotations

import os
import socket
import ssl

from cored.client.disconnected import Disconnected
from cored.client.tls import TLS
from cored.endpoints import Tcp, parsed
from cored.errors import InvalidArgument, NotFound, PermissionDenied

__all__ = ["SecureSocket", "connect"]

_PATIENCE = 15.0


class SecureSocket:
    """A connected TLS socket that behaves as a non-blocking plain one, for ``Connection``."""

    def __init__(self, inner: ssl.SSLSocket, address: str) -> None:
        self._inner = inner
        self._address = address

    def fileno(self) -> int:
        return self._inner.fileno()

    def pending(self) -> int:
        """Bytes that are here, though the descriptor shows nothing."""
        return self._inner.pending()

    def send(self, data: bytes | bytearray) -> int:
        try:
            return self._inner.send(data)
        except (ssl.SSLWantWriteError, ssl.SSLWantReadError):
            raise BlockingIOError from None

    def recv(self, size: int) -> bytes:
        try:
            return self._inner.recv(size)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise BlockingIOError from None
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            return b""
        except ssl.SSLError as error:
            raise _refused(self._address, error) from error

    def shutdown(self, how: int) -> None:
        # the socket's, not TLS's: another thread may be reading
        socket.socket.shutdown(self._inner, how)

    def close(self) -> None:
        self._inner.close()


def connect(address: str, tls: TLS | None) -> SecureSocket:
    """A connection to ``tcp://host:port`` on which both sides know each other.

    Disconnected when nobody answers; PermissionDenied when one of the two is not accepted;
    NotFound and InvalidArgument for our files.
    """
    endpoint = parsed(address)
    if not isinstance(endpoint, Tcp):
        raise InvalidArgument(f"address '{address}': not understood", hint="tcp://host:port")
    if tls is None:
        raise InvalidArgument(
            f"daemon at {endpoint}: needs TLS with a certificate of ours",
            hint="--tlscacert, --tlscert and --tlskey, or a directory with ca.pem, cert.pem and "
            "key.pem in CORED_CERT_PATH",
        )
    context = _context(tls)
    try:
        plain = socket.create_connection((endpoint.host, endpoint.port), _PATIENCE)
    except OSError as error:
        raise Disconnected(
            f"daemon at {endpoint}: {error.strerror or error}",
            hint="does it listen there: [tcp] in its configuration",
        ) from error
    try:
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        secure = context.wrap_socket(plain, server_hostname=tls.server_name or endpoint.host)
    except OSError as error:
        plain.close()
        raise _refused(str(endpoint), error) from error
    secure.setblocking(False)
    return SecureSocket(secure, str(endpoint))


def _context(tls: TLS) -> ssl.SSLContext:
    """What to accept and to show."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["h2"])
    for what, file in (("CA", tls.ca), ("certificate", tls.certificate), ("key", tls.key)):
        try:
            with open(file, "rb"):
                pass
        except FileNotFoundError as error:
            raise NotFound(f"{what} '{os.fspath(file)}': no such file") from error
        except OSError as error:
            raise PermissionDenied(f"{what} '{os.fspath(file)}': {error.strerror}") from error
    try:
        context.load_verify_locations(tls.ca)
    except ssl.SSLError as error:
        raise InvalidArgument(f"CA '{os.fspath(tls.ca)}': holds no PEM certificate") from error
    try:
        # a key with a passphrase would ask for it: there is nobody to answer
        context.load_cert_chain(tls.certificate, tls.key, password=lambda: "")
    except ssl.SSLError as error:
        raise InvalidArgument(
            f"certificate '{os.fspath(tls.certificate)}' and key '{os.fspath(tls.key)}': "
            f"{_words(error)}",
            hint="both PEM, the key without a passphrase, and one for the other",
        ) from error
    return context


def _refused(address: str, error: OSError) -> Disconnected | PermissionDenied:
    """What a TLS error means."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return PermissionDenied(
            f"daemon at {address}: its certificate is not accepted: {error.verify_message}",
            hint="is it the daemon that you mean, and --tlscacert who vouches for it?",
        )
    if isinstance(error, ssl.SSLError) and "alert" in str(error).lower():
        return PermissionDenied(
            f"daemon at {address}: does not accept our certificate: {_words(error)}",
            hint="--tlscert must be one that the daemon's tcp.ca has signed, and not expired",
        )
    if isinstance(error, ssl.SSLError):
        return Disconnected(f"daemon at {address}: talks no TLS that we do: {_words(error)}")
    return Disconnected(f"daemon at {address}: connection lost: {error.strerror or error}")


def _words(error: ssl.SSLError) -> str:
    return (error.reason or str(error)).lower().replace("_", " ")
