"""login, and what logins are used for: a real registry that knows one user."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.daemons import Daemon
from tests.registries import Registry, registry

pytestmark = pytest.mark.root
PASSWORD = "open sesame"
# bcrypt, which docker-registry insists on
HASH = "$2b$05$abcdefghijklmnopqrstuupx2xBUC4954936wVIjyyPHmUBFu0wCW"


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    place = tmp_path_factory.mktemp("registry")
    (place / "htpasswd").write_text(f"me:{HASH}\n")
    settings = f"auth:\n  htpasswd: {{realm: here, path: {place}/htpasswd}}\n"
    with registry(place, settings) as running:
        yield running


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    return tmp_path / "docker/config.json"


def login(daemon: Daemon, host: str, password: str, *more: str) -> tuple[int, str]:
    done = daemon.corectl(
        "login", host, "-u", "me", "--password-stdin", *more, input=f"{password}\n".encode()
    )
    return done.returncode, (done.stdout + done.stderr).decode()


def test_a_user_logs_in_pushes_pulls_and_logs_out(
    daemon: Daemon, guarded: Registry, config: Path
) -> None:
    reference = f"{guarded.host}/mine:1"
    refused = daemon.corectl("push", "busybox", reference)
    assert refused.returncode == 1
    assert b"denied" in refused.stderr
    code, said = login(daemon, guarded.host, PASSWORD)
    assert (code, "Login Succeeded" in said) == (0, True)
    assert str(config) in said
    daemon.corectl("push", "busybox", reference, check=True)
    daemon.corectl("pull", reference, check=True)
    again = daemon.corectl("login", guarded.host)  # with what is known
    assert again.returncode == 0, again.stderr
    out = daemon.corectl("logout", guarded.host, check=True).stdout
    assert out == f"Removing login credentials for {guarded.host}\n".encode()
    assert json.loads(config.read_text()) == {"auths": {}}
    assert b"Not logged in" in daemon.corectl("logout", guarded.host, check=True).stdout
    # what another request's credentials opened stays closed for one without
    assert daemon.corectl("pull", reference).returncode == 1
    daemon.corectl("rmi", reference, check=True)


def test_a_wrong_password_is_refused_and_not_kept(
    daemon: Daemon, guarded: Registry, config: Path
) -> None:
    assert login(daemon, guarded.host, PASSWORD)[0] == 0
    before = config.read_text()
    code, said = login(daemon, guarded.host, "wrong word")
    assert code == 1
    assert said.count("\n") == 1
    assert guarded.host in said
    assert config.read_text() == before


def test_what_is_no_registry_is_said(daemon: Daemon, config: Path) -> None:
    code, said = login(daemon, "127.0.0.1:1", PASSWORD)
    assert code == 1
    assert "cannot be reached" in said
    assert not config.exists()


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["--password-stdin"], 2, "needs --username"),
        (["-u", "me", "-p", "x", "--password-stdin"], 2, "exclude"),
        (["-u", "me"], 1, "no terminal"),
        (["-u", "me", "--password-stdin"], 1, "empty"),
    ],
)
def test_wrong_usage_is_said(
    daemon: Daemon, guarded: Registry, config: Path, words: list[str], code: int, told: str
) -> None:
    done = daemon.corectl("login", guarded.host, *words, input=b"")
    assert done.returncode == code
    assert told in done.stderr.decode()


def test_a_password_on_the_command_line_works_with_a_warning(
    daemon: Daemon, guarded: Registry, config: Path
) -> None:
    done = daemon.corectl("login", guarded.host, "-u", "me", "-p", PASSWORD, check=True)
    assert b"--password-stdin" in done.stderr
    assert done.stdout == b"Login Succeeded\n"


def test_no_secret_is_in_the_daemons_log(daemon: Daemon, guarded: Registry, config: Path) -> None:
    """At the level debug, with calls that succeed and calls that fail."""
    login(daemon, guarded.host, PASSWORD)
    login(daemon, guarded.host, "wrong word")
    daemon.corectl("pull", f"{guarded.host}/nothing:1")
    for secret in (PASSWORD, "wrong word", "bWU6b3BlbiBzZXNhbWU="):
        assert secret not in daemon.log
