"""Who one is at a registry: basic and bearer, against Debian's docker-registry."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from cored.abc.values import Descriptor
from cored.engine.registry import (
    ANONYMOUS,
    Access,
    Credentials,
    Registry,
    Session,
    Uploads,
    known_user,
    login,
    resolve,
    small_blob,
)
from cored.errors import NotFound, PermissionDenied
from cored.oci.reference import parse
from tests import registries
from tests.tokens import TokenServer, token_server

# alice, se:cret (bcrypt, as the registry wants it)
HTPASSWD = "alice:$2b$04$abcdefghijklmnopqrstuu17JYDSDnwCnbeRSI7wxymnD3SKI1vtG\n"
ALICE = Credentials("alice", "se:cret")
CONFIG = b'{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}'


@pytest.fixture(scope="module")
def basic(tmp_path_factory: pytest.TempPathFactory) -> Iterator[registries.Registry]:
    place = tmp_path_factory.mktemp("basic")
    (place / "htpasswd").write_text(HTPASSWD)
    settings = f"auth: {{htpasswd: {{realm: basic-realm, path: {place}/htpasswd}}}}"
    with registries.registry(place, settings) as running:
        yield running


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TokenServer]:
    with token_server(tmp_path_factory.mktemp("tokens")) as server:
        yield server


@pytest.fixture(scope="module")
def bearer(
    tokens: TokenServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[registries.Registry]:
    with registries.registry(tmp_path_factory.mktemp("bearer"), tokens.settings) as running:
        yield running


@pytest.fixture
async def registry() -> Registry:
    async with Registry.opened() as client:
        return client


@pytest.fixture(autouse=True)
def as_before(tokens: TokenServer) -> Iterator[None]:
    fresh = TokenServer(tokens.place, tokens.port)
    yield
    vars(tokens).update(vars(fresh))


async def at(registry: Registry, server: registries.Registry, name: str, access: Access) -> Session:
    return await registry.session(parse(f"{server.host}/{name}"), access)


async def pushed(session: Session, place: Path) -> Descriptor:
    """A manifest without layers."""
    config = described(CONFIG, "application/vnd.oci.image.config.v1+json")
    (place / "config").write_bytes(CONFIG)
    uploads = Uploads(session)
    await uploads.blob(config, place / "config", lambda _: None)
    kind = "application/vnd.oci.image.manifest.v1+json"
    entry = {"mediaType": config.media_type, "digest": config.digest, "size": config.size}
    data = json.dumps(
        {"schemaVersion": 2, "mediaType": kind, "config": entry, "layers": []}
    ).encode()
    target = described(data, kind)
    await uploads.manifest(target, data, session.reference.tag)
    return config


def described(data: bytes, media_type: str) -> Descriptor:
    return Descriptor(media_type, f"sha256:{hashlib.sha256(data).hexdigest()}", len(data))


async def test_a_registry_with_passwords_is_used_by_those_who_know_one(
    registry: Registry, basic: registries.Registry, tmp_path: Path
) -> None:
    session = await at(registry, basic, "private/x:1", known_user(ALICE))
    config = await pushed(session, tmp_path)
    assert (await resolve(session)).descriptor.media_type.endswith("manifest.v1+json")
    assert await small_blob(session, config) == CONFIG


@pytest.mark.parametrize(
    "access", [ANONYMOUS, known_user(Credentials("alice", "wrong")), known_user(Credentials("bob"))]
)
async def test_who_has_no_right_is_denied_and_no_secret_told(
    registry: Registry, basic: registries.Registry, bearer: registries.Registry, access: Access
) -> None:
    for server in (basic, bearer):
        with pytest.raises(PermissionDenied, match="denied") as caught:
            await resolve(await at(registry, server, "private/x:1", access))
        assert "wrong" not in caught.value.message


async def test_a_login_is_tried_and_may_give_an_identity_token(
    registry: Registry, basic: registries.Registry, bearer: registries.Registry
) -> None:
    assert await login(registry, basic.host, ALICE) == ""
    assert await login(registry, bearer.host, ALICE) == "identity-token"
    for server in (basic, bearer):
        with pytest.raises(PermissionDenied):
            await login(registry, server.host, Credentials("alice", "wrong"))


async def test_tokens_are_got_with_a_password_and_kept_for_the_transfer(
    registry: Registry, bearer: registries.Registry, tokens: TokenServer, tmp_path: Path
) -> None:
    session = await at(registry, bearer, "team/app:1", known_user(ALICE))
    config = await pushed(session, tmp_path)
    assert await small_blob(session, config) == CONFIG
    asked = [values["scope"] for _, values in tokens.asked]
    assert asked == [["repository:team/app:pull,push"], ["repository:team/app:pull"]]
    assert {method for method, _ in tokens.asked} == {"GET"}


async def test_a_token_server_that_only_takes_forms_gets_one(
    registry: Registry, bearer: registries.Registry, tokens: TokenServer, tmp_path: Path
) -> None:
    tokens.methods = {"POST"}
    session = await at(registry, bearer, "team/forms:1", known_user(ALICE))
    await pushed(session, tmp_path)
    method, values = tokens.asked[-1]
    assert (method, values["grant_type"], values["username"]) == ("POST", ["password"], ["alice"])


async def test_an_identity_token_is_exchanged(
    registry: Registry, bearer: registries.Registry, tokens: TokenServer, tmp_path: Path
) -> None:
    user = Credentials(token="identity-token")
    await pushed(await at(registry, bearer, "team/id:1", known_user(user)), tmp_path)
    assert tokens.asked[-1][1]["grant_type"] == ["refresh_token"]
    with pytest.raises(PermissionDenied):
        await resolve(
            await at(registry, bearer, "team/id:1", known_user(Credentials(token="revoked")))
        )


async def test_what_is_public_is_there_for_everybody(
    registry: Registry, bearer: registries.Registry, tokens: TokenServer, tmp_path: Path
) -> None:
    await pushed(await at(registry, bearer, "public/x:1", known_user(ALICE)), tmp_path)
    tokens.anonymous = {"public/x"}
    await resolve(await at(registry, bearer, "public/x:1", ANONYMOUS))
    with pytest.raises(NotFound):
        await resolve(await at(registry, bearer, "public/x:2", ANONYMOUS))


async def test_a_token_that_the_registry_takes_no_more_is_renewed(
    registry: Registry, bearer: registries.Registry, tokens: TokenServer, tmp_path: Path
) -> None:
    """It says that tokens live for an hour; they are dead on arrival, the first time."""
    tokens.life, tokens.told = -120, 3600
    session = await at(registry, bearer, "team/short:1", known_user(ALICE))
    with pytest.raises(PermissionDenied):
        await pushed(session, tmp_path)
    tokens.life = 300
    await pushed(session, tmp_path)
    assert len(tokens.asked) == 2


async def test_users_do_not_get_each_others_tokens(
    registry: Registry, bearer: registries.Registry, tmp_path: Path
) -> None:
    await pushed(await at(registry, bearer, "team/own:1", known_user(ALICE)), tmp_path)
    wrong = known_user(Credentials("alice", "guessed"))
    assert wrong.identity != known_user(ALICE).identity
    with pytest.raises(PermissionDenied):
        await resolve(await at(registry, bearer, "team/own:1", wrong))


async def test_credentials_are_asked_for_once_however_many_requests_need_them(
    registry: Registry, bearer: registries.Registry, tmp_path: Path
) -> None:
    import asyncio

    await pushed(await at(registry, bearer, "team/once:1", known_user(ALICE)), tmp_path)
    asked: list[str] = []

    def ask(host: str) -> Credentials:
        asked.append(host)
        return ALICE

    session = await at(registry, bearer, "team/once:1", Access(ask, "x"))
    await asyncio.gather(*(resolve(session) for _ in range(6)))
    assert asked == [bearer.host]


async def test_a_mount_asks_for_both_repositories_at_once(
    registry: Registry, bearer: registries.Registry, tokens: TokenServer, tmp_path: Path
) -> None:
    config = await pushed(await at(registry, bearer, "team/from:1", known_user(ALICE)), tmp_path)
    uploads = Uploads(await at(registry, bearer, "team/to:1", known_user(ALICE)))
    sent = await uploads.blob(config, tmp_path / "config", lambda _: None, ["team/from"])
    assert sent is False
    assert tokens.asked[-1][1]["scope"] == [
        "repository:team/from:pull",
        "repository:team/to:pull,push",
    ]
    # where the other one does not have it, it is uploaded
    assert await uploads.blob(config, tmp_path / "config", lambda _: None, ["team/none"]) is True
