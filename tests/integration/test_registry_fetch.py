"""Blobs out of a registry that misbehaves, into an ingest's file: whole, or a clear error."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cored.abc.values import Descriptor
from cored.archive.fetch import Fetcher
from cored.archive.jobs import Refusal, Route, Source
from cored.archive.routes import Ask
from cored.engine.registry import Registry, Uploads
from cored.errors import CoredError, FailedPrecondition, NotFound, PermissionDenied, Unavailable
from cored.oci.reference import parse
from tests import registries
from tests.faults import Fault, Proxy, proxy

DATA = os.urandom(20 << 20)
DIGEST = f"sha256:{hashlib.sha256(DATA).hexdigest()}"
PATH = f"/v2/blobs/x/blobs/{DIGEST}"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[registries.Registry]:
    """A registry that has the blob."""
    path = tmp_path_factory.mktemp("blob") / "data"
    path.write_bytes(DATA)

    async def store(host: str) -> None:
        async with Registry.opened() as client:
            session = await client.session(parse(f"{host}/blobs/x:1"))
            target = Descriptor("application/octet-stream", DIGEST, len(DATA))
            await Uploads(session).blob(target, path, lambda _: None)

    with registries.registry(tmp_path_factory.mktemp("registry")) as running:
        asyncio.run(store(running.host))
        yield running


@pytest.fixture
def faulty(server: registries.Registry) -> Iterator[Proxy]:
    with proxy(server.host) as running:
        yield running


@pytest.fixture
def ingest(tmp_path: Path) -> Path:
    return tmp_path / "ingest"


def route(host: str, *, path: str = PATH, read: float = 30.0, **headers: str) -> Route:
    return Route(f"http://{host}{path}", tuple(headers.items()), connect=30.0, read=read)


def fetch(
    ingest: Path, *routes: Route, offset: int = 0, connections: int = 1, ask: Ask | None = None
) -> None:
    """Fetch, and see that what is handed on and what is in the file is the blob."""
    source = Source(str(ingest), routes, offset, connections, attempts=3)
    fetcher = Fetcher(ask) if ask else Fetcher()
    seen = hashlib.sha256()
    for piece in fetcher.fetched(source, len(DATA), "layer x"):
        seen.update(piece)
    assert f"sha256:{seen.hexdigest()}" == DIGEST
    assert ingest.read_bytes() == DATA


def ranges(faulty: Proxy) -> list[str]:
    return [seen.headers.get("range", "") for seen in faulty.seen]


def test_a_connection_that_breaks_is_gone_on_with(faulty: Proxy, ingest: Path) -> None:
    faulty.on("GET", "", Fault(cut=3_000_000))
    faulty.on("GET", "", Fault(stall=2_000_000))
    fetch(ingest, route(faulty.host, read=2.0))
    starts = [int(r[6:-1]) for r in ranges(faulty)[1:]]
    assert len(starts) == 2
    assert 0 < starts[0] <= 3_000_000 < starts[1] <= 5_000_000


def test_an_ingest_is_gone_on_with(faulty: Proxy, ingest: Path) -> None:
    ingest.write_bytes(DATA[:1_000_000] + b"never reported")
    fetch(ingest, route(faulty.host), offset=1_000_000)
    assert ranges(faulty) == ["bytes=1000000-"]


def test_a_server_that_knows_no_ranges_sends_it_all_again(faulty: Proxy, ingest: Path) -> None:
    ingest.write_bytes(DATA[:500_001])
    faulty.on("GET", "", Fault(status=200, body=DATA))
    fetch(ingest, route(faulty.host), offset=500_001, connections=4)
    assert len(faulty.seen) == 1


def test_a_server_that_is_busy_is_asked_again(faulty: Proxy, ingest: Path) -> None:
    faulty.on("GET", "", Fault(status=429, changes={"Retry-After": "0"}))
    faulty.on("GET", "", Fault(status=502))
    fetch(ingest, route(faulty.host))
    assert len(faulty.seen) == 3


@pytest.mark.parametrize(
    ("fault", "error", "said"),
    [
        (Fault(status=500), Unavailable, "0 of .* answers 500"),
        (Fault(status=404), NotFound, "answers 404"),
        (Fault(status=403), PermissionDenied, "answers 403"),
        (Fault(status=429, changes={"Retry-After": "5000"}), FailedPrecondition, "5000 seconds"),
        (Fault(status=200, body=DATA[:-1]), FailedPrecondition, "20971519 bytes"),
        (Fault(status=200, body=DATA + b"x"), FailedPrecondition, "20971521 bytes"),
        (Fault(status=200, body=DATA, lie=10), FailedPrecondition, "has 10 bytes"),
        (Fault(cut=0), Unavailable, "0 of"),
        (Fault(stall=0), Unavailable, "0 of .*timed out"),
        (Fault(status=302, changes={"Location": "file:///etc/passwd"}), FailedPrecondition, "not"),
        (Fault(status=416), FailedPrecondition, "shorter"),
    ],
)
def test_what_does_not_work_is_said(
    faulty: Proxy, ingest: Path, fault: Fault, error: type[CoredError], said: str
) -> None:
    faulty.on("GET", "", fault, -1)
    with pytest.raises(error, match=f"layer x.*{said}"):
        fetch(ingest, route(faulty.host, read=30.0 if fault.stall is None else 1.0))


def test_a_part_that_was_not_asked_for_is_not_taken(faulty: Proxy, ingest: Path) -> None:
    ingest.write_bytes(DATA[:1000])
    wrong = {"Content-Range": f"bytes 2000-{len(DATA) - 1}/{len(DATA)}"}
    faulty.on("GET", "", Fault(status=206, body=DATA[2000:], changes=dict(wrong)))
    fetch(ingest, route(faulty.host), offset=1000)


def test_more_than_announced_is_not_taken(faulty: Proxy, ingest: Path) -> None:
    """Without a length, by the end of the connection."""
    body = DATA + bytes(1 << 20)
    endless = {"Transfer-Encoding": "identity"}
    faulty.on("GET", "", Fault(status=200, body=body, lie=len(DATA), changes=dict(endless)), -1)
    fetch(ingest, route(faulty.host))  # what is beyond the length is not even read


def test_what_one_host_does_not_have_another_one_may(
    faulty: Proxy, server: registries.Registry, ingest: Path
) -> None:
    faulty.on("GET", "", Fault(cut=1_000_000))
    faulty.on("GET", "", Fault(status=404), -1)
    with proxy(server.host) as second:
        fetch(ingest, route("127.0.0.1:1"), route(faulty.host), route(second.host))
        assert len(faulty.seen) == 2
        assert len(second.seen) == 1
        assert 0 < int(ranges(second)[0][6:-1]) <= 1_000_000


def refusing(faulty: Proxy) -> Callable[[Refusal], Route]:
    def ask(refusal: Refusal) -> Route:
        assert "realm=" in refusal.challenge
        return route(faulty.host, Authorization=f"Bearer {len(faulty.seen)}")

    return ask


def test_credentials_that_end_in_the_middle_are_renewed(faulty: Proxy, ingest: Path) -> None:
    denied = Fault(status=401, changes={"WWW-Authenticate": 'Bearer realm="x"'})
    for fault in (denied, Fault(cut=4_000_000), denied):
        faulty.on("GET", "", fault)
    fetch(ingest, route(faulty.host), ask=refusing(faulty))
    sent = [seen.headers.get("authorization") for seen in faulty.seen]
    assert sent == [None, "Bearer 1", "Bearer 1", "Bearer 3"]


def test_credentials_that_are_always_refused_are_an_error(faulty: Proxy, ingest: Path) -> None:
    denied = Fault(status=401, changes={"WWW-Authenticate": 'Bearer realm="x"'})
    faulty.on("GET", "", denied, -1)
    with pytest.raises(PermissionDenied):
        fetch(ingest, route(faulty.host), ask=refusing(faulty))
    assert len(faulty.seen) == 2


def test_another_host_gets_no_headers_with_secrets(
    faulty: Proxy, server: registries.Registry, ingest: Path
) -> None:
    with proxy(server.host) as elsewhere:
        away = f"http://{elsewhere.host}{PATH}?signature=SECRET"
        faulty.on("GET", "", Fault(status=307, changes={"Location": away}), -1)
        elsewhere.on("GET", "", Fault(cut=100_000))
        fetch(ingest, route(faulty.host, Authorization="Basic x", **{"X-Key": "y"}))
        assert len(elsewhere.seen) == len(faulty.seen) == 2
        assert all("x-key" in seen.headers for seen in faulty.seen)
        assert not any({"authorization", "x-key"} & s.headers.keys() for s in elsewhere.seen)
        elsewhere.on("GET", "", Fault(status=500), -1)
        with pytest.raises(Unavailable) as caught:
            fetch(ingest, route(faulty.host))
    assert "SECRET" not in str(caught.value)


def test_a_slow_connection_is_helped_by_others(faulty: Proxy, ingest: Path) -> None:
    faulty.on("GET", "", Fault(rate=3_000_000), -1)
    faulty.on("GET", "", Fault(), 0)
    fetch(ingest, route(faulty.host), connections=4)
    assert faulty.most >= 3
    assert all(r.startswith("bytes=") and not r.endswith("-") for r in ranges(faulty)[1:])


def test_a_part_that_fails_is_fetched_again(faulty: Proxy, ingest: Path) -> None:
    denied = Fault(status=401, changes={"WWW-Authenticate": 'Bearer realm="x"'})
    faulty.on("GET", "", Fault(rate=3_000_000))
    for fault in (denied, Fault(status=503), Fault(cut=1000)):
        faulty.on("GET", "", fault)
    fetch(ingest, route(faulty.host), connections=4, ask=refusing(faulty))


def test_a_quick_connection_stays_alone(faulty: Proxy, ingest: Path) -> None:
    fetch(ingest, route(faulty.host), connections=4)
    assert len(faulty.seen) == 1
