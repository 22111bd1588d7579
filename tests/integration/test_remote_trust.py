"""Who may talk to a daemon on the network: certificates that are right, and all that are not."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from cored.client.channel import Channel
from cored.client.disconnected import Disconnected
from cored.client.tls import TLS
from cored.config import Config, TcpConfig, validate
from cored.errors import (
    CoredError,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PermissionDenied,
)
from cored.rpc.tls import Credentials
from tests.certificates import authority
from tests.daemons import cored
from tests.remote import Remote, certificates, listening, settings

pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def there(private_mounts: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Remote]:
    with listening(tmp_path_factory.mktemp("trust")) as running:
        yield running


def call(host: str, tls: TLS | None) -> str:
    from google.protobuf.empty_pb2 import Empty

    from cored._pb.containerd.services.version.v1.version_pb2 import VersionResponse

    path = "/containerd.services.version.v1.Version/Version"
    with Channel(host, tls=tls) as channel:
        return channel.unary(path, Empty(), VersionResponse, timeout=60).version


def test_who_is_known_is_answered_and_named_in_the_log(there: Remote) -> None:
    assert call(there.host, TLS.within(there.files)).startswith("v2")
    assert '"subject": "CN=client"' in there.daemon.log
    assert "PRIVATE" not in there.daemon.log


def test_another_authority_is_not_believed(there: Remote, tmp_path: Path) -> None:
    other = authority(tmp_path / "other", "other")
    stranger = TLS.within(certificates(tmp_path / "stranger", other, "client"))
    with pytest.raises(PermissionDenied, match="its certificate is not accepted"):
        call(there.host, stranger)
    trusting = TLS(there.ca.certificate, stranger.certificate, stranger.key)
    with pytest.raises(PermissionDenied, match="does not accept our certificate"):
        call(there.host, trusting)


def test_an_expired_certificate_is_refused(there: Remote) -> None:
    certificate, key = there.ca.issue("late", days=-1)
    with pytest.raises(PermissionDenied, match="does not accept our certificate"):
        call(there.host, TLS(there.ca.certificate, certificate, key))


def test_the_name_must_be_the_certificates(there: Remote) -> None:
    tls = TLS.within(there.files)
    for name, right in (("elsewhere.example", False), ("localhost", True)):
        named = TLS(tls.ca, tls.certificate, tls.key, name)
        if right:
            assert call(there.host, named)
        else:
            with pytest.raises(PermissionDenied, match="mismatch"):
                call(there.host, named)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_without_a_certificate_nobody_is_answered(there: Remote, version: ssl.TLSVersion) -> None:
    context = ssl.create_default_context(cafile=there.ca.certificate)
    context.minimum_version = context.maximum_version = version
    context.set_alpn_protocols(["h2"])
    with socket.create_connection(("127.0.0.1", there.port), 60) as plain:
        try:
            with context.wrap_socket(plain, server_hostname="127.0.0.1") as secure:
                secure.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0")
                answer = secure.recv(100)
        except OSError:
            answer = b""
    assert answer == b""


def test_old_tls_and_plain_text_are_refused(there: Remote) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(there.ca.certificate)
    context.load_cert_chain(there.files / "cert.pem", there.files / "key.pem")
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning):
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    with socket.create_connection(("127.0.0.1", there.port), 60) as plain:
        with pytest.raises(OSError):
            context.wrap_socket(plain, server_hostname="127.0.0.1")
    with socket.create_connection(("127.0.0.1", there.port), 60) as plain:
        plain.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0")
        plain.settimeout(60)
        with suppress(ConnectionResetError):
            assert b"\4\0\0\0\0" not in plain.recv(100)


def test_what_a_client_lacks_is_said(there: Remote, tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="needs TLS with a certificate of ours"):
        call(there.host, None)
    with pytest.raises(NotFound, match=r"CA '.*ca\.pem': no such file"):
        call(there.host, TLS.within(tmp_path))
    tls = TLS.within(there.files)
    with pytest.raises(InvalidArgument, match="key values mismatch"):
        call(there.host, TLS(tls.ca, tls.certificate, there.ca.issue("another")[1]))
    done = there.corectl("--tlscacert", "/absent", "version", check=False)
    assert (done.returncode, done.stderr) == (1, b"corectl: CA '/absent': no such file\n")


def test_a_port_that_talks_no_tls_is_said(there: Remote) -> None:
    def answer(listener: socket.socket) -> None:
        peer, _ = listener.accept()
        with peer:
            peer.recv(1 << 16)
            peer.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=answer, args=(listener,))
        thread.start()
        with pytest.raises(Disconnected, match="talks no TLS"):
            call(f"tcp://127.0.0.1:{listener.getsockname()[1]}", TLS.within(there.files))
        thread.join()


def shown(there: Remote) -> bytes:
    """The certificate that the daemon shows now."""
    context = ssl.create_default_context(cafile=there.ca.certificate)
    context.load_cert_chain(there.files / "cert.pem", there.files / "key.pem")
    with socket.create_connection(("127.0.0.1", there.port), 60) as plain:
        with context.wrap_socket(plain, server_hostname="127.0.0.1") as secure:
            return secure.getpeercert(binary_form=True) or b""


def test_renewed_certificates_are_used_and_broken_ones_are_not(there: Remote) -> None:
    first = shown(there)
    there.ca.issue("server")
    second = shown(there)
    assert second != first
    assert "certificate loaded anew" in there.daemon.log
    (there.ca.place / "server.key").write_text("nonsense")
    assert shown(there) == second
    assert "the earlier certificate stays in use" in there.daemon.log
    there.ca.issue("server")
    assert shown(there) not in (first, second)


def config(ca: Path, certificate: Path, key: Path) -> TcpConfig:
    return TcpConfig("tcp://127.0.0.1:0", str(ca), str(certificate), str(key))


def test_what_is_wrong_with_the_daemons_files_is_said_at_the_start(tmp_path: Path) -> None:
    ca = authority(tmp_path / "ca")
    certificate, key = ca.issue("server")
    late = ca.issue("late", days=-1)
    text = tmp_path / "text"
    text.write_text("no certificate")
    wrong: list[tuple[type[CoredError], str, TcpConfig]] = [
        (NotFound, "tcp.ca /absent: no such", config(Path("/absent"), certificate, key)),
        (InvalidArgument, "tcp.ca .*: holds no PEM", config(text, certificate, key)),
        (InvalidArgument, "key values mismatch", config(ca.certificate, certificate, late[1])),
        (FailedPrecondition, "certificate has expired", config(ca.certificate, *late)),
    ]
    for kind, words, files in wrong:
        with pytest.raises(kind, match=words):
            Credentials(files)
    key.chmod(0o640)
    with pytest.raises(PermissionDenied, match=r"mode 0640.*chmod 600"):
        Credentials(config(ca.certificate, certificate, key))


@pytest.mark.parametrize("missing", ["ca", "certificate", "key"])
def test_a_daemon_does_not_listen_without_all_of_them(tmp_path: Path, missing: str) -> None:
    tcp = replace(TcpConfig("tcp://0.0.0.0:2376", "/a", "/b", "/c"), **{missing: ""})
    with pytest.raises(InvalidArgument, match=rf"needs tcp\.{missing}"):
        validate(replace(Config(), tcp=tcp))


def test_a_daemon_with_an_expired_certificate_does_not_start(tmp_path: Path) -> None:
    ca = authority(tmp_path / "ca")
    with cored(settings(ca.certificate, *ca.issue("late", days=-1)), start=False) as daemon:
        with pytest.raises(RuntimeError, match="certificate has expired"):
            daemon.start()
