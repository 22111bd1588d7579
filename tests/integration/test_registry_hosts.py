"""Which server is asked, and how: TLS, mirrors, redirects, against docker-registry."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from cored.abc.values import Descriptor
from cored.config import RegistryConfig
from cored.engine.registry import (
    Credentials,
    Registry,
    Session,
    Uploads,
    known_user,
    resolve,
    small_blob,
    tags,
)
from cored.errors import CoredError, FailedPrecondition, NotFound, PermissionDenied, Unavailable
from cored.oci.reference import parse
from tests import registries
from tests.certificates import Authority, authority
from tests.faults import Fault, Proxy, proxy

KIND = "application/vnd.oci.image.manifest.v1+json"
CONFIG = b'{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}'


def described(data: bytes, media_type: str) -> Descriptor:
    return Descriptor(media_type, f"sha256:{hashlib.sha256(data).hexdigest()}", len(data))


CONFIG_AT = described(CONFIG, "application/vnd.oci.image.config.v1+json")
ENTRY = {"mediaType": CONFIG_AT.media_type, "digest": CONFIG_AT.digest, "size": CONFIG_AT.size}
MANIFEST = json.dumps(
    {"schemaVersion": 2, "mediaType": KIND, "config": ENTRY, "layers": []}
).encode()


async def push(session: Session, place: Path) -> str:
    """Push the image; its digest."""
    (place / "config").write_bytes(CONFIG)
    uploads = Uploads(session)
    await uploads.blob(CONFIG_AT, place / "config", lambda _: None)
    target = described(MANIFEST, KIND)
    await uploads.manifest(target, MANIFEST, session.reference.tag)
    return target.digest


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[registries.Registry]:
    with registries.registry(tmp_path_factory.mktemp("registry")) as running:
        yield running


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def secure(
    ca: Authority, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[registries.Registry]:
    """A registry with TLS that wants a client's certificate too."""
    certificate, key = ca.issue("server")
    tls = f"{{certificate: {certificate}, key: {key}, clientcas: [{ca.certificate}]}}"
    with registries.registry(tmp_path_factory.mktemp("secure"), tls=tls) as running:
        yield running


@pytest.fixture
def faulty(server: registries.Registry) -> Iterator[Proxy]:
    with proxy(server.host) as running:
        yield running


@pytest.fixture
def certs(tmp_path: Path) -> Path:
    path = tmp_path / "certs.d"
    path.mkdir()
    return path


async def at(
    certs: Path, host: str, name: str = "team/app:1", user: str = "", *, timeout: float = 30.0
) -> Session:
    registry = Registry([certs], RegistryConfig(timeout=timeout))
    known = known_user(Credentials(user, "pass-word") if user else None)
    return await registry.session(parse(f"{host}/{name}"), known)


def _patience(fault: Fault) -> float:
    """Seconds for a next byte: few only where none will come."""
    return 30.0 if fault.stall is None else 2.0


def hosts(certs: Path, name: str, text: str) -> None:
    (certs / name).mkdir()
    (certs / name / "hosts.toml").write_text(text)


async def test_an_authority_and_a_certificate_of_ones_own_are_used(
    certs: Path, ca: Authority, secure: registries.Registry, tmp_path: Path
) -> None:
    certificate, key = ca.issue("client")
    hosts(
        certs,
        secure.host,
        f'server = "https://{secure.host}"\nca = "{ca.certificate}"\n'
        f'client = [["{certificate}", "{key}"]]\n',
    )
    session = await at(certs, secure.host)
    digest = await push(session, tmp_path)
    assert (await resolve(session)).descriptor.digest == digest


async def test_dockers_directory_does_as_well(
    certs: Path, ca: Authority, secure: registries.Registry, tmp_path: Path
) -> None:
    place = certs / secure.host
    place.mkdir()
    certificate, key = ca.issue("docker")
    (place / "any.crt").write_bytes(ca.certificate.read_bytes())
    (place / "me.cert").write_bytes(certificate.read_bytes())
    (place / "me.key").write_bytes(key.read_bytes())
    await push(await at(certs, secure.host), tmp_path)


async def test_a_server_that_nobody_vouches_for_is_refused_with_the_way_out(
    certs: Path, ca: Authority, secure: registries.Registry, tmp_path: Path
) -> None:
    other = authority(tmp_path / "other", "other")
    hosts(certs, secure.host, f'server = "https://{secure.host}"\nca = "{other.certificate}"\n')
    with pytest.raises(FailedPrecondition, match=r"certificate verify failed.*ca\.crt"):
        await resolve(await at(certs, secure.host))


async def test_a_client_without_a_certificate_is_said_to_be_one(
    certs: Path, ca: Authority, secure: registries.Registry
) -> None:
    hosts(certs, secure.host, f'server = "https://{secure.host}"\nca = "{ca.certificate}"\n')
    with pytest.raises(CoredError, match=f"registry {secure.host}: (TLS failed|connection broke)"):
        await resolve(await at(certs, secure.host))


async def test_loopback_speaks_tls_or_not_without_being_told(
    certs: Path, ca: Authority, server: registries.Registry, tmp_path: Path
) -> None:
    certificate, key = ca.issue("loopback")
    with registries.registry(tmp_path, tls=f"{{certificate: {certificate}, key: {key}}}") as tls:
        for running in (tls, server):
            session = await at(certs, running.host)
            await push(session, tmp_path)
            routes = session.located(CONFIG_AT).routes
            assert routes[0].url.startswith("https:" if running is tls else "http:")


async def test_skip_verify_and_plain_http_are_told_by_the_file(
    certs: Path, secure: registries.Registry, server: registries.Registry
) -> None:
    hosts(certs, "one.example", f'server = "https://{server.host}"\n')
    with pytest.raises(FailedPrecondition, match=r"name it with http://"):
        await resolve(await at(certs, "one.example"))
    hosts(certs, "two.example", f'server = "https://{secure.host}"\nskip_verify = true\n')
    with pytest.raises(CoredError) as caught:  # it wants a certificate, ours did not matter
        await resolve(await at(certs, "two.example"))
    assert "verify failed" not in str(caught.value)
    hosts(certs, "three.example", f'server = "http://{server.host}"\n')
    with pytest.raises(NotFound):
        await resolve(await at(certs, "three.example", "not/there:1"))


@pytest.mark.parametrize(
    "fault",
    [
        Fault(status=404),
        Fault(status=500),
        Fault(status=429, changes={"Retry-After": "9999"}),
        Fault(status=403),
        Fault(status=200, body=b"<html>", changes={"Content-Type": "text/html"}),
        Fault(damage=30),
        Fault(cut=20),
        Fault(stall=20),
        Fault(status=307, changes={"Location": "ftp://x.example/"}),
    ],
)
async def test_what_a_mirror_cannot_do_the_registry_does(
    certs: Path, server: registries.Registry, faulty: Proxy, tmp_path: Path, fault: Fault
) -> None:
    hosts(
        certs,
        "origin.example",
        f"""
        server = "http://{server.host}"
        [host."http://127.0.0.1:1"]
        [host."http://{faulty.host}"]
        header = {{x-mirror = "yes"}}
        """,
    )
    digest = await push(await at(certs, server.host, "mirrored/app:1"), tmp_path)
    faulty.on("GET", "", fault, -1)
    session = await at(certs, "origin.example", "mirrored/app:1", timeout=_patience(fault))
    assert (await resolve(session)).descriptor.digest == digest
    assert await small_blob(session, CONFIG_AT) == CONFIG
    # one that does not answer properly is not asked again
    assert len(faulty.seen) == (1 if fault.cut or fault.stall else 2)
    assert faulty.seen[0].path == "/v2/mirrored/app/manifests/1?ns=origin.example"
    assert faulty.seen[0].headers["x-mirror"] == "yes"


async def test_a_mirror_is_used_for_what_it_can_do(
    certs: Path, server: registries.Registry, faulty: Proxy, tmp_path: Path
) -> None:
    hosts(
        certs,
        "some.example",
        f"""
        server = "http://{server.host}"
        [host."http://{faulty.host}"]
        capabilities = ["pull"]
        """,
    )
    session = await at(certs, "some.example", "capable/app:1")
    digest = await push(session, tmp_path)
    await resolve(session)
    assert faulty.seen == []
    await small_blob(session, CONFIG_AT)
    by_digest = await at(certs, "some.example", f"capable/app@{digest}")
    await resolve(by_digest)
    assert len(faulty.seen) == 2
    assert [r.url.partition("/v2")[0] for r in session.located(CONFIG_AT).routes] == [
        f"http://{faulty.host}",
        f"http://{server.host}",
    ]


async def test_a_registry_without_a_host_for_it_says_so(
    certs: Path, server: registries.Registry
) -> None:
    hosts(certs, "ro.example", f'server = "http://{server.host}"\ncapabilities = ["pull"]\n')
    with pytest.raises(FailedPrecondition, match=r"no host to push.*hosts\.toml"):
        await Uploads(await at(certs, "ro.example")).manifest(CONFIG_AT, b"", "x")


async def test_an_unreachable_registry_is_said_after_its_mirrors(certs: Path) -> None:
    hosts(certs, "off.example", 'server = "http://127.0.0.1:1"\n[host."http://127.0.0.1:2"]\n')
    with pytest.raises(Unavailable, match=r"registry 127\.0\.0\.1:1: cannot be reached"):
        await resolve(await at(certs, "off.example"))


async def test_a_redirect_to_somebody_else_takes_no_authorization_along(
    certs: Path, server: registries.Registry, faulty: Proxy, tmp_path: Path
) -> None:
    await push(await at(certs, server.host, "moved/app:1"), tmp_path)
    path = f"/v2/moved/app/blobs/{CONFIG_AT.digest}"
    challenge = {"WWW-Authenticate": 'Basic realm="x"'}
    with proxy(server.host) as elsewhere:
        away = f"http://{elsewhere.host}{path}?X-Signature=SECRET"
        faulty.on("GET", "blobs", Fault(status=401, changes={**challenge}))
        faulty.on("GET", "blobs", Fault(status=307, changes={"Location": away}))
        session = await at(certs, faulty.host, "moved/app:1", "alice")
        assert await small_blob(session, CONFIG_AT) == CONFIG
        elsewhere.on("GET", "blobs", Fault(status=403), -1)
        faulty.on("GET", "blobs", Fault(status=307, changes={"Location": away}))
        with pytest.raises(PermissionDenied) as caught:
            await small_blob(session, CONFIG_AT)
    assert "SECRET" not in str(caught.value)
    assert "authorization" in faulty.seen[-1].headers
    assert all("authorization" not in seen.headers for seen in elsewhere.seen)
    assert len(elsewhere.seen) == 2


async def test_a_redirect_that_stays_keeps_it(
    certs: Path, server: registries.Registry, faulty: Proxy, tmp_path: Path
) -> None:
    await push(await at(certs, server.host, "stays/app:1"), tmp_path)
    faulty.on("GET", "blobs", Fault(status=401, changes={"WWW-Authenticate": "Basic realm=x"}))
    location = f"/v2/stays/app/blobs/{CONFIG_AT.digest}"
    faulty.on("GET", "blobs", Fault(status=302, changes={"Location": location}))
    session = await at(certs, faulty.host, "stays/app:1", "alice")
    assert await small_blob(session, CONFIG_AT) == CONFIG
    assert [("authorization" in seen.headers) for seen in faulty.seen] == [False, True, True]


async def test_endless_redirects_end(certs: Path, faulty: Proxy) -> None:
    faulty.on("GET", "", Fault(status=302, changes={"Location": "/v2/round"}), -1)
    with pytest.raises(FailedPrecondition, match="redirects more than"):
        await resolve(await at(certs, faulty.host))


@pytest.mark.parametrize(
    ("fault", "error", "said"),
    [
        (Fault(damage=30), FailedPrecondition, "expected"),
        (Fault(lie=10), FailedPrecondition, "expected|JSON"),
        (Fault(cut=10), Unavailable, "connection broke"),
        (Fault(stall=10), Unavailable, "timed out"),
        (Fault(status=500), Unavailable, "answered 500"),
        (Fault(status=200, body=b"x" * (9 << 20)), CoredError, "larger"),
    ],
)
async def test_a_manifest_that_does_not_come_whole_is_said(
    certs: Path,
    server: registries.Registry,
    faulty: Proxy,
    tmp_path: Path,
    fault: Fault,
    error: type[CoredError],
    said: str,
) -> None:
    await push(await at(certs, server.host, "whole/app:1"), tmp_path)
    faulty.on("GET", "manifests", fault, -1)
    registry = Registry([certs], RegistryConfig(timeout=_patience(fault), attempts=2))
    with pytest.raises(error, match=said):
        await resolve(await registry.session(parse(f"{faulty.host}/whole/app:1")))


async def test_what_fails_once_is_tried_again(
    certs: Path, server: registries.Registry, faulty: Proxy, tmp_path: Path
) -> None:
    digest = await push(await at(certs, server.host, "again/app:1"), tmp_path)
    for fault in (Fault(status=503), Fault(cut=3), Fault(status=429, changes={"Retry-After": "0"})):
        faulty.on("GET", "manifests", fault)
    session = await at(certs, faulty.host, "again/app:1")
    assert (await resolve(session)).descriptor.digest == digest
    assert await tags(session) == ["1"]


async def test_a_broken_file_is_an_error_not_a_fall_back(certs: Path) -> None:
    hosts(certs, "broken.example", "server = [")
    with pytest.raises(CoredError, match=r"broken\.example/hosts\.toml"):
        await at(certs, "broken.example")
