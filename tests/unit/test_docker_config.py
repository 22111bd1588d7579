"""docker's config.json and credential helpers, as docker reads and writes them."""

from __future__ import annotations

import base64
import json
import stat
from pathlib import Path
from typing import Any

import pytest
from corectl.credentials import Login, Logins, auths_for
from corectl.docker_config import HUB, server_key

from cored.errors import CoredError, FailedPrecondition, InvalidArgument

HELPER = r"""#!/bin/sh
# keeps secrets as docker's helpers do: one file for each server, in $STORE
echo "$0 $*" >> "$STORE/calls"
case $1 in
store) text=$(cat); name=$(echo "$text" | sed 's/.*"ServerURL": "\([^"]*\)".*/\1/' | tr / _)
       echo "$text" > "$STORE/$name" ;;
get) name=$(cat | tr / _)
     [ -f "$STORE/$name" ] || { echo "credentials not found in native keychain"; exit 1; }
     cat "$STORE/$name" ;;
erase) name=$(cat | tr / _)
       [ -f "$STORE/$name" ] || { echo "credentials not found in native keychain"; exit 1; }
       rm "$STORE/$name" ;;
list) echo '{"a.example": "me"}' ;;
esac
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty DOCKER_CONFIG, and a PATH with two helpers beside the shell's tools."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "store").mkdir()
    helper = tmp_path / "bin/docker-credential-fake"
    helper.write_text(HELPER)
    helper.chmod(0o755)
    broken = tmp_path / "bin/docker-credential-broken"
    broken.write_text("#!/bin/sh\ncat; echo 'the keyring is locked'; exit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:/usr/bin:/bin")
    monkeypatch.setenv("STORE", f"{tmp_path}/store")
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "config"))
    return tmp_path / "config/config.json"


def write(place: Path, document: Any) -> None:
    place.parent.mkdir(exist_ok=True)
    place.write_text(json.dumps(document))


def auth(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


@pytest.mark.parametrize(
    ("server", "key"),
    [
        ("", HUB),
        ("docker.io", HUB),
        ("https://index.docker.io/v1/", HUB),
        ("registry-1.docker.io", HUB),
        ("registry.example:5000", "registry.example:5000"),
        ("https://registry.example/v2/", "registry.example"),
    ],
)
def test_servers_have_dockers_keys(server: str, key: str) -> None:
    assert server_key(server) == key


@pytest.mark.parametrize("key", ["a.example", "https://a.example/v1/", "http://a.example"])
def test_logins_of_new_and_old_files_are_found(place: Path, key: str) -> None:
    write(place, {"auths": {key: {"auth": auth("me:pass:word")}}})
    assert Logins().get("a.example") == Login("me", "pass:word")
    assert Logins().get("b.example") is None


def test_identity_tokens_are_found(place: Path) -> None:
    write(place, {"auths": {HUB: {"auth": auth("me:"), "identitytoken": "tok"}}})
    assert Logins().get("docker.io") == Login("me", "", "tok")


def test_other_keys_stay_untouched_and_nobody_else_can_read(place: Path) -> None:
    before = {
        "HttpHeaders": {"X": "y"},
        "auths": {"b.example": {"auth": auth("b:b"), "email": "b@b"}},
        "psFormat": "table {{.ID}}",
    }
    write(place, before)
    place.chmod(0o644)
    Logins().put("a.example", Login("me", "sesame"))
    after = json.loads(place.read_text())
    assert after.pop("auths") == {**before.pop("auths"), "a.example": {"auth": auth("me:sesame")}}  # type: ignore[dict-item]
    assert after == before
    assert stat.S_IMODE(place.stat().st_mode) == 0o600
    assert [p.name for p in place.parent.iterdir()] == ["config.json"]


def test_a_file_behind_a_link_stays_where_it_is(place: Path, tmp_path: Path) -> None:
    write(place, {})
    real = tmp_path / "real.json"
    place.rename(real)
    place.symlink_to(real)
    Logins().put("a.example", Login("me", "sesame"))
    assert place.is_symlink()
    assert "a.example" in real.read_text()


def test_a_login_comes_and_goes(place: Path) -> None:
    assert Logins().put("", Login("me", "sesame")) == str(place)
    assert json.loads(place.read_text()) == {"auths": {HUB: {"auth": auth("me:sesame")}}}
    assert Logins().get("index.docker.io") == Login("me", "sesame")
    assert Logins().erase("docker.io")
    assert not Logins().erase("docker.io")
    assert json.loads(place.read_text()) == {"auths": {}}


@pytest.mark.parametrize(
    "settings", [{"credsStore": "fake"}, {"credHelpers": {"a.example": "fake"}}]
)
def test_a_helper_keeps_the_secret_and_the_file_does_not(place: Path, settings: Any) -> None:
    write(place, settings)
    assert Logins().put("a.example", Login("me", "sesame")) == ""
    assert json.loads(place.read_text()) == {**settings, "auths": {"a.example": {}}}
    assert Logins().get("a.example") == Login("me", "sesame")
    assert Logins().erase("a.example")
    assert Logins().get("a.example") is None
    assert "sesame" not in (place.parent.parent / "store/calls").read_text()


def test_a_helper_for_one_registry_is_not_asked_for_others(place: Path) -> None:
    write(
        place, {"credHelpers": {"a.example": "fake"}, "auths": {"b.example": {"auth": auth("b:b")}}}
    )
    found = auths_for(["b.example/x/y:1", "b.example/z", "debian"])
    assert [(a.host, a.username, a.password) for a in found] == [("b.example", "b", "b")]
    assert not (place.parent.parent / "store/calls").exists()


def test_identity_tokens_live_in_helpers_too(place: Path) -> None:
    write(place, {"credsStore": "fake"})
    Logins().put("a.example", Login("me", "", "tok"))
    assert Logins().get("a.example") == Login("", "", "tok")


def test_a_new_file_takes_the_machines_store(
    place: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "bin/docker-credential-fake").rename(
        tmp_path / "bin/docker-credential-secretservice"
    )
    monkeypatch.setattr("shutil.which", lambda name: name if name.endswith("service") else None)
    assert Logins().put("a.example", Login("me", "sesame")) == ""
    assert json.loads(place.read_text())["credsStore"] == "secretservice"


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ("{", "is not JSON"),
        ("[]", "is not a JSON object"),
        ('{"auths": []}', "auths is not an object"),
        ('{"auths": {"a.example": {"auth": "c2VjcmV0"}}}', "damaged"),
        ('{"credsStore": "absent"}', "not on PATH"),
        ('{"credsStore": "broken"}', "locked"),
    ],
)
def test_what_is_wrong_is_said_without_the_secret(place: Path, document: str, words: str) -> None:
    place.parent.mkdir()
    place.write_text(document)
    with pytest.raises((InvalidArgument, FailedPrecondition)) as caught:
        Logins().get("a.example")
    assert words in str(caught.value)
    assert "c2VjcmV0" not in str(caught.value)


def test_no_error_has_the_secret(place: Path) -> None:
    write(place, {"credsStore": "broken"})
    with pytest.raises(CoredError) as caught:
        Logins().put("a.example", Login("me", "sesame"))
    chain: BaseException | None = caught.value
    while chain is not None:
        assert "sesame" not in repr(chain) + str(vars(chain))
        chain = chain.__cause__ or chain.__context__
    assert "sesame" not in repr(Login("me", "sesame", "sesame"))
