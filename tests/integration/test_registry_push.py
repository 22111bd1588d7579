"""Uploads, lists, referrers and deletions, against docker-registry, also when things break."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from cored.abc.values import Descriptor
from cored.config import RegistryConfig
from cored.engine.registry import (
    Registry,
    Session,
    Uploads,
    delete_blob,
    delete_manifest,
    document,
    refer,
    referrers,
    resolve,
    tags,
)
from cored.errors import FailedPrecondition, NotFound, ResourceExhausted, Unavailable
from cored.oci.manifest import parse
from cored.oci.reference import parse as reference
from tests import registries
from tests.faults import Fault, Proxy, proxy

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
EMPTY = "application/vnd.oci.empty.v1+json"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[registries.Registry]:
    with registries.registry(tmp_path_factory.mktemp("registry")) as running:
        yield running


@pytest.fixture
def faulty(server: registries.Registry) -> Iterator[Proxy]:
    with proxy(server.host) as running:
        yield running


@pytest.fixture
async def client() -> AsyncIterator[Registry]:
    async with Registry.opened([], RegistryConfig(timeout=30.0, attempts=3)) as registry:
        yield registry


async def at(client: Registry, host: str, name: str) -> Session:
    return await client.session(reference(f"{host}/{name}"))


def blob(place: Path, size: int) -> tuple[Descriptor, Path]:
    data = os.urandom(size)
    path = place / hashlib.sha256(data).hexdigest()
    path.write_bytes(data)
    return Descriptor("application/octet-stream", f"sha256:{path.name}", size), path


def manifest(config: Descriptor, **more: Any) -> tuple[Descriptor, bytes]:
    kind = {"mediaType": config.media_type, "digest": config.digest, "size": config.size}
    content = {"schemaVersion": 2, "mediaType": MANIFEST, "config": kind, "layers": [], **more}
    data = json.dumps(content).encode()
    return Descriptor(MANIFEST, f"sha256:{hashlib.sha256(data).hexdigest()}", len(data)), data


async def with_config(session: Session, place: Path) -> Descriptor:
    """The empty config of artifacts, in the repository."""
    path = place / "empty"
    path.write_bytes(b"{}")
    config = Descriptor(EMPTY, f"sha256:{hashlib.sha256(b'{}').hexdigest()}", 2)
    await Uploads(session).blob(config, path, lambda _: None)
    return config


@pytest.mark.parametrize("size", [0, 1, 1_000_000])
async def test_a_blob_goes_in_one_request(
    client: Registry, server: registries.Registry, faulty: Proxy, tmp_path: Path, size: int
) -> None:
    target, path = blob(tmp_path, size)
    told: list[int] = []
    uploads = Uploads(await at(client, faulty.host, f"one/size{size}:1"))
    assert not await uploads.has(target)
    await uploads.blob(target, path, told.append)
    assert await uploads.has(target)
    assert server.blob(target.digest).read_bytes() == path.read_bytes()
    assert [s.method for s in faulty.seen if "uploads" in s.path] == ["POST", "PUT"]
    assert max(told, default=0) == size


async def test_an_upload_that_breaks_goes_on_from_where_it_was(
    client: Registry, server: registries.Registry, faulty: Proxy, tmp_path: Path
) -> None:
    target, path = blob(tmp_path, 6_000_000)
    faulty.on("PATCH", "uploads", Fault(swallow=2_000_000, keep=True))
    faulty.on("PATCH", "uploads", Fault(swallow=1_000_000, keep=True))
    await Uploads(await at(client, faulty.host, "broken/x:1")).blob(target, path, lambda _: None)
    assert server.blob(target.digest).read_bytes() == path.read_bytes()
    parts = [s.headers["content-range"] for s in faulty.requests("PATCH", "uploads")]
    starts = [int(part.partition("-")[0]) for part in parts]
    assert len(starts) == 3
    assert starts == [0, 2_000_000, 3_000_000]


async def test_an_upload_that_the_registry_has_forgotten_begins_anew(
    client: Registry, server: registries.Registry, faulty: Proxy, tmp_path: Path
) -> None:
    """docker-registry 2.8 forgets an upload of which a request broke."""
    target, path = blob(tmp_path, 5_000_000)
    faulty.on("PATCH", "uploads", Fault(swallow=200_000))
    await Uploads(await at(client, faulty.host, "broken/y:1")).blob(target, path, lambda _: None)
    assert server.blob(target.digest).read_bytes() == path.read_bytes()
    assert len(faulty.requests("POST", "uploads")) == 2


async def test_an_answer_that_is_lost_costs_no_second_upload(
    client: Registry, faulty: Proxy, tmp_path: Path
) -> None:
    target, path = blob(tmp_path, 100_000)
    faulty.on("PUT", "uploads", Fault(cut=0, lie=1))
    await Uploads(await at(client, faulty.host, "lost/x:1")).blob(target, path, lambda _: None)
    assert [s.method for s in faulty.seen] == ["POST", "PUT", "HEAD"]


async def test_what_is_too_large_for_one_request_goes_in_chunks(
    client: Registry, server: registries.Registry, faulty: Proxy, tmp_path: Path
) -> None:
    target, path = blob(tmp_path, 10 << 20)
    faulty.on("PATCH", "uploads", Fault(status=413), 2)
    await Uploads(await at(client, faulty.host, "chunks/x:1")).blob(target, path, lambda _: None)
    assert server.blob(target.digest).read_bytes() == path.read_bytes()
    parts = [s.headers["content-range"] for s in faulty.requests("PATCH", "uploads")]
    step = 1 << 20
    assert parts[:2] == [f"0-{10 * step - 1}", f"0-{5 * step // 2 - 1}"]
    assert parts[2:] == [f"{n * step}-{(n + 1) * step - 1}" for n in range(10)]


async def test_a_registry_that_has_another_offset_in_mind_is_asked_for_it(
    client: Registry, server: registries.Registry, faulty: Proxy, tmp_path: Path
) -> None:
    target, path = blob(tmp_path, 5 << 20)
    faulty.on("PATCH", "uploads", Fault(swallow=3 << 20, keep=True))
    faulty.on("PATCH", "uploads", Fault(status=416))
    await Uploads(await at(client, faulty.host, "offset/x:1")).blob(target, path, lambda _: None)
    assert server.blob(target.digest).read_bytes() == path.read_bytes()
    assert len(faulty.requests("GET", "uploads")) == 2


async def test_a_busy_registry_is_left_alone_for_as_long_as_it_says(
    client: Registry, faulty: Proxy, tmp_path: Path
) -> None:
    target, path = blob(tmp_path, 1000)
    faulty.on("POST", "uploads", Fault(status=429, changes={"Retry-After": "1"}))
    faulty.on("PUT", "uploads", Fault(status=503, changes={"Retry-After": "0"}))
    session = await at(client, faulty.host, "busy/x:1")
    await Uploads(session).blob(target, path, lambda _: None)
    assert len(faulty.requests("POST", "uploads")) == 2
    faulty.on("GET", "manifests", Fault(status=429, changes={"Retry-After": "7200"}), -1)
    with pytest.raises(ResourceExhausted, match="again in 7200 seconds"):
        await resolve(session)
    assert len(faulty.requests("GET", "manifests")) == 1


async def test_a_registry_that_always_fails_is_given_up_and_the_upload_cancelled(
    client: Registry, faulty: Proxy, tmp_path: Path
) -> None:
    target, path = blob(tmp_path, 1000)
    faulty.on("PUT", "uploads", Fault(status=500), -1)
    session = await at(client, faulty.host, "never/x:1")
    with pytest.raises(Unavailable, match="answered 500"):
        await Uploads(session).blob(target, path, lambda _: None)
    assert len(faulty.requests("DELETE", "uploads")) == 1
    assert not await Uploads(session).has(target)


async def test_a_blob_that_is_not_what_it_is_called_is_refused(
    client: Registry, faulty: Proxy, tmp_path: Path
) -> None:
    target, path = blob(tmp_path, 1000)
    path.write_bytes(os.urandom(1000))
    uploads = Uploads(await at(client, faulty.host, "damaged/x:1"))
    with pytest.raises(FailedPrecondition, match="digest"):
        await uploads.blob(target, path, lambda _: None)
    assert not await uploads.has(target)


async def test_an_upload_that_is_sent_elsewhere_takes_no_secrets_along(
    server: registries.Registry, faulty: Proxy, tmp_path: Path
) -> None:
    target, path = blob(tmp_path, 1000)
    root = tmp_path / "certs.d"
    (root / faulty.host).mkdir(parents=True)
    (root / faulty.host / "hosts.toml").write_text(
        f'server = "http://{faulty.host}"\n[header]\nAuthorization = "Basic c2VjcmV0"\n'
    )
    with proxy(server.host) as elsewhere:
        async with Registry.opened([root]) as client:
            session = await at(client, faulty.host, "sent/x:1")
            # the registry's own place, by another name
            place = (await session.send(post())).headers["Location"]
            away = place.replace(faulty.host, elsewhere.host)
            faulty.on("POST", "uploads", Fault(status=202, changes={"Location": away}))
            await Uploads(session).blob(target, path, lambda _: None)
    assert all("authorization" in seen.headers for seen in faulty.seen)
    assert [seen.method for seen in elsewhere.seen] == ["PUT"]
    assert "authorization" not in elsewhere.seen[0].headers


def post() -> Any:
    from cored.engine.registry.session import Call

    return Call("POST", "/blobs/uploads/", {"Content-Length": "0"}, good=(202,), capability="push")


async def test_tags_are_listed_page_by_page(
    client: Registry, server: registries.Registry, faulty: Proxy, tmp_path: Path
) -> None:
    session = await at(client, faulty.host, "many/tags:1")
    target, data = manifest(await with_config(session, tmp_path))
    wanted = [f"v{number}" for number in range(5)]
    for name in wanted:
        await Uploads(session).manifest(target, data, name)
    # 2.8 knows no pages; something newer is played
    for start in (0, 2, 4):
        faulty.on("GET", "tags/list", page(wanted, start))
    assert await tags(session, page=2) == wanted
    assert [s.path for s in faulty.requests("GET", "tags/list")] == [
        "/v2/many/tags/tags/list?n=2",
        "/v2/many/tags/tags/list?n=2&last=v1",
        "/v2/many/tags/tags/list?n=2&last=v3",
    ]
    assert sorted(await tags(session)) == wanted
    with pytest.raises(NotFound, match="not/there"):
        await tags(await at(client, server.host, "not/there:1"))


def page(names: list[str], start: int) -> Fault:
    shown = names[start : start + 2]
    link = f'</v2/many/tags/tags/list?n=2&last={shown[-1]}>; rel="next"'
    changes: dict[str, str | None] = {"Link": link} if start < 4 else {}
    return Fault(200, json.dumps({"tags": shown}).encode(), changes=changes)


async def test_a_list_that_goes_round_in_circles_ends(client: Registry, faulty: Proxy) -> None:
    faulty.on("GET", "tags/list", page(["a", "b", "c"], 0), -1)
    with pytest.raises(Unavailable, match="no end"):
        await tags(await at(client, faulty.host, "many/tags:1"))


async def test_an_artifact_is_found_by_what_it_refers_to(
    client: Registry, server: registries.Registry, faulty: Proxy, tmp_path: Path
) -> None:
    """docker-registry 2.8 has no referrers API: the tag made from the digest stands for it."""
    session = await at(client, faulty.host, "signed/x:1")
    uploads = Uploads(session)
    config = await with_config(session, tmp_path)
    image, data = manifest(config)
    await uploads.manifest(image, data, "1")
    subject = {"mediaType": MANIFEST, "digest": image.digest, "size": image.size}
    made = []
    for kind in ("application/x-signature", "application/x-sbom"):
        notes = {"of": kind}
        artifact, data = manifest(config, artifactType=kind, subject=subject, annotations=notes)
        answer = await uploads.manifest(artifact, data, artifact.digest)
        assert "OCI-Subject" not in answer.headers
        for _ in range(2):  # twice is once
            await refer(session, uploads, artifact, parse(data))
        made.append(artifact)
    assert [r.digest for r in await referrers(session, image.digest)] == [m.digest for m in made]
    (found,) = await referrers(session, image.digest, "application/x-sbom")
    assert (found.digest, found.annotations) == (made[1].digest, {"of": "application/x-sbom"})
    assert await referrers(session, made[0].digest) == []
    await delete_manifest(session, made[0].digest)
    assert [r.digest for r in await referrers(session, image.digest)] == [made[1].digest]


async def test_a_registry_with_a_referrers_api_is_asked_and_its_filter_checked(
    client: Registry, faulty: Proxy
) -> None:
    entry = {"mediaType": MANIFEST, "digest": f"sha256:{1:064x}", "size": 2}
    index = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [{**entry, "artifactType": "a/b"}, {**entry, "artifactType": "c/d"}],
    }
    faulty.on("GET", "/referrers/", Fault(200, json.dumps(index).encode()), -1)
    session = await at(client, faulty.host, "modern/x:1")
    assert len(await referrers(session, f"sha256:{2:064x}")) == 2
    (found,) = await referrers(session, f"sha256:{2:064x}", "c/d")
    assert found.artifact_type == "c/d"
    assert "artifactType=c%2Fd" in faulty.seen[-1].path


async def test_manifests_tags_and_blobs_are_deleted(
    client: Registry, server: registries.Registry, faulty: Proxy, tmp_path: Path
) -> None:
    session = await at(client, faulty.host, "gone/x:1")
    config = await with_config(session, tmp_path)
    target, data = manifest(config)
    await Uploads(session).manifest(target, data, "1")
    with pytest.raises(FailedPrecondition, match=r"gone/x:1: (registry .* does not allow|refused)"):
        await delete_manifest(session, "1")  # 2.8 cannot delete a tag alone
    await delete_manifest(session, target.digest)
    with pytest.raises(NotFound):
        await document(session, target.digest)
    await delete_blob(session, config.digest)
    with pytest.raises(NotFound):
        await delete_blob(session, config.digest)
    faulty.on("DELETE", "manifests/2", Fault(status=202))
    await delete_manifest(session, "2")
