"""Pulls through a registry that misbehaves, by a whole daemon: right, or said, and nothing bad
kept."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from tests import images
from tests.daemons import Daemon, cored
from tests.faults import Fault, Proxy, proxy
from tests.living import glob
from tests.patience import eventually
from tests.registries import Registry, registry
from tests.tokens import TokenServer, token_server

pytestmark = pytest.mark.root
SIZE = 3_000_000


@pytest.fixture(scope="module")
def remote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with registry(tmp_path_factory.mktemp("registry")) as running:
        yield running


@pytest.fixture
def faulty(remote: Registry) -> Iterator[Proxy]:
    with proxy(remote.host) as running:
        yield running


@pytest.fixture(scope="module")
def certs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("certs.d")


@pytest.fixture(scope="module")
def daemon(certs: Path, private_mounts: None) -> Iterator[Daemon]:
    registry = "timeout = 4\nattempts = 3\nconnections = 2\n"
    config = f'registry_config_dirs = ["{certs}"]\n[registry]\n{registry}'
    with cored(config) as running:
        yield running


def made(remote: Registry, name: str, scratch: Path, *, shared: bytes = b"") -> images.Image:
    """An image with a layer of random bytes in the registry, on top of a shared one if given."""
    layers = [images.layer({"shared": shared})] if shared else []
    image = images.make([*layers, images.layer({"data": os.urandom(SIZE)})])
    remote.push(images.write_layout(image, scratch / f"{name}.tar", "x.invalid/y:z"), f"{name}:1")
    return image


def blobs(daemon: Daemon) -> dict[str, str]:
    """All blobs of the store: the name that each has, and the digest that it should have."""
    found = {}
    for path in glob(daemon.home / "root", "**/blobs/sha256/**/*"):
        if path.is_file() and len(path.name) >= 60:
            found[str(path)] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def assert_sound(daemon: Daemon) -> None:
    found = blobs(daemon)
    assert found
    for path, digest in found.items():
        assert digest in path.replace("/", ""), path


def pull(daemon: Daemon, faulty: Proxy, name: str, space: str) -> tuple[int, str]:
    done = daemon.corectl("-n", space, "pull", f"{faulty.host}/{name}:1")
    return done.returncode, done.stderr.decode()


def check(daemon: Daemon, faulty: Proxy, name: str, space: str) -> None:
    """The image is whole, and unpacked."""
    shown = daemon.ctr("-n", space, "images", "check", f"name=={faulty.host}/{name}:1")
    assert "complete" in shown.stdout
    assert "true" in shown.stdout.splitlines()[1]


def test_what_passes_is_waited_out(
    daemon: Daemon, remote: Registry, faulty: Proxy, tmp_path: Path
) -> None:
    image = made(remote, "passing", tmp_path)
    for fault in (
        Fault(status=503),
        Fault(cut=1_000_000),
        Fault(status=429, changes={"Retry-After": "0"}),
        Fault(stall=500_000),
        Fault(status=500),
    ):
        faulty.on("GET", f"blobs/{image.layers[0]['digest']}", fault)
    faulty.on("GET", "manifests", Fault(cut=10))
    faulty.on("GET", f"blobs/{image.config['digest']}", Fault(status=502))
    code, said = pull(daemon, faulty, "passing", "passing")
    assert (code, said.count("corectl: ")) == (0, 0), said
    check(daemon, faulty, "passing", "passing")
    assert_sound(daemon)


@pytest.mark.parametrize(
    ("name", "fault", "told"),
    [
        ("cut", Fault(cut=0), "0 of"),
        ("short", Fault(status=200, body=b"x" * 100), "has 100 bytes"),
        ("damaged", Fault(damage=1_500_000), "digest mismatch"),
        ("limit", Fault(status=429, changes={"Retry-After": "900"}), "900 seconds"),
    ],
)
def test_what_stays_is_said_and_nothing_bad_is_kept(
    daemon: Daemon,
    remote: Registry,
    faulty: Proxy,
    tmp_path: Path,
    name: str,
    fault: Fault,
    told: str,
) -> None:
    image = made(remote, f"bad-{name}", tmp_path)
    digest = image.layers[0]["digest"]
    faulty.on("GET", f"blobs/{digest}", fault, -1)
    code, said = pull(daemon, faulty, f"bad-{name}", f"bad-{name}")
    assert code == 1
    assert told in said
    assert digest in said
    assert digest not in daemon.ctr("-n", f"bad-{name}", "content", "ls", "-q").stdout
    assert_sound(daemon)
    # and when all is well again, so is the image
    faulty._rules.clear()
    assert pull(daemon, faulty, f"bad-{name}", f"bad-{name}")[0] == 0
    check(daemon, faulty, f"bad-{name}", f"bad-{name}")


def test_a_mirror_that_sends_something_else_is_passed_over(
    daemon: Daemon, certs: Path, remote: Registry, faulty: Proxy, tmp_path: Path
) -> None:
    image = made(remote, "mirrored", tmp_path)
    faulty.on("GET", f"blobs/{image.layers[0]['digest']}", Fault(damage=1_000_000), -1)
    place = certs / "origin.example"
    place.mkdir()
    (place / "hosts.toml").write_text(
        f'server = "http://{remote.host}"\n[host."http://{faulty.host}"]\n'
    )
    reference = "origin.example/mirrored:1"
    daemon.corectl("-n", "mirrored", "pull", reference, check=True)
    shown = daemon.ctr("-n", "mirrored", "images", "check", f"name=={reference}").stdout
    assert "complete" in shown
    assert "blob fetched anew" in daemon.log
    assert daemon.ctr("-n", "mirrored", "snapshots", "ls").stdout.count("Committed") == 1
    assert_sound(daemon)


def test_tokens_that_end_in_the_middle_of_a_layer_are_renewed(
    daemon: Daemon, remote: Registry, faulty: Proxy, tmp_path: Path
) -> None:
    image = made(remote, "tokens", tmp_path)
    with token_server(tmp_path / "tokens") as tokens:
        tokens.anonymous = {"tokens"}
        challenge = f'Bearer realm="{tokens.realm}",service="x"'
        denied = Fault(status=401, changes={"WWW-Authenticate": challenge})
        for fault in (denied, Fault(cut=1_000_000), denied):
            faulty.on("GET", f"blobs/{image.layers[0]['digest']}", fault)
        code, said = pull(daemon, faulty, "tokens", "tokens")
        assert code == 0, said
        assert len(tokens.asked) == 2
    layer = faulty.requests("GET", f"blobs/{image.layers[0]['digest']}")
    sent = [seen.headers.get("authorization", "") for seen in layer]
    assert sent[0] == "" != sent[1] == sent[2] != sent[3]
    assert layer[3].headers["range"].startswith("bytes=")


def test_ten_clients_cost_one_transfer(
    daemon: Daemon, remote: Registry, faulty: Proxy, tmp_path: Path
) -> None:
    made(remote, "ten", tmp_path)
    faulty.on("GET", "blobs", Fault(rate=2 * SIZE))
    with ThreadPoolExecutor(10) as pool:
        codes = list(pool.map(lambda _: pull(daemon, faulty, "ten", "ten")[0], range(10)))
    assert codes == [0] * 10
    fetched = [seen.path for seen in faulty.requests("GET", "/blobs/")]
    assert len(fetched) == len(set(fetched)) == 2


def test_a_layer_that_two_images_share_is_fetched_once(
    daemon: Daemon, remote: Registry, faulty: Proxy, tmp_path: Path
) -> None:
    shared = os.urandom(SIZE)
    first = made(remote, "first", tmp_path, shared=shared)
    second = made(remote, "second", tmp_path, shared=shared)
    assert first.layers[0] == second.layers[0]
    faulty.on("GET", f"blobs/{first.layers[0]['digest']}", Fault(rate=2 * SIZE))
    with ThreadPoolExecutor(2) as pool:
        both = pool.map(lambda name: pull(daemon, faulty, name, "two"), ["first", "second"])
        assert [code for code, _ in both] == [0, 0]
    assert len(faulty.requests("GET", f"blobs/{first.layers[0]['digest']}")) == 1
    for name in ("first", "second"):
        check(daemon, faulty, name, "two")


def test_what_came_of_a_pull_that_failed_is_not_fetched_again(
    daemon: Daemon, remote: Registry, faulty: Proxy, tmp_path: Path
) -> None:
    image = made(remote, "kept", tmp_path)
    path = f"blobs/{image.layers[0]['digest']}"
    faulty.on("GET", path, Fault(cut=2_000_000))
    faulty.on("GET", path, Fault(status=503), 3)
    code, said = pull(daemon, faulty, "kept", "kept")
    assert code == 1
    assert "what came is kept" in said
    assert pull(daemon, faulty, "kept", "kept")[0] == 0
    starts = [int(s.headers["range"][6:-1]) for s in faulty.requests("GET", path)[1:]]
    assert len(set(starts)) == 1
    assert starts[0] > 1_000_000
    assert daemon.ctr("-n", "kept", "leases", "ls", "-q").stdout == ""


def test_a_daemon_that_dies_in_the_middle_goes_on_where_it_was(
    remote: Registry, faulty: Proxy, tmp_path: Path
) -> None:
    image = made(remote, "dying", tmp_path)
    path = f"blobs/{image.layers[0]['digest']}"
    faulty.on("GET", path, Fault(stall=2_000_000))
    with cored() as daemon:
        pulling = threading.Thread(target=pull, args=(daemon, faulty, "dying", "dying"))
        pulling.start()
        eventually(lambda: ingested(daemon) >= 1_500_000)
        daemon.kill()
        pulling.join()
        daemon.start()
        code, said = pull(daemon, faulty, "dying", "dying")
        assert code == 0, said
        check(daemon, faulty, "dying", "dying")
        assert_sound(daemon)
    start = re.fullmatch(r"bytes=(\d+)-", faulty.requests("GET", path)[1].headers["range"])
    assert start is not None
    assert 1_500_000 <= int(start[1]) <= 2_000_000


def ingested(daemon: Daemon) -> int:
    sizes = [0]
    for path in glob(daemon.home / "root", "**/ingest/*/data"):
        with suppress(FileNotFoundError):  # it is a blob by now
            sizes.append(path.stat().st_size)
    return max(sizes)


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TokenServer]:
    with token_server(tmp_path_factory.mktemp("tokens")) as running:
        yield running


def test_secrets_are_nowhere_to_be_read(
    tokens: TokenServer, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Not in logs (at level debug), nor in arguments or environments of any process."""
    secret = tokens.users["alice"]
    with registry(tmp_path_factory.mktemp("private"), tokens.settings) as private:
        with proxy(private.host) as faulty, cored() as daemon:
            archive = images.write_layout(
                images.make([images.layer({"data": os.urandom(SIZE)})]), tmp_path / "x.tar", "a/b:1"
            )
            reference = f"{faulty.host}/a/b:1"
            private.push(archive, "a/b:1", user=f"alice:{secret}")
            faulty.on("GET", "blobs", Fault(rate=3 * SIZE), -1)
            login = base64.b64encode(f"alice:{secret}".encode()).decode()
            config = {"auths": {faulty.host: {"auth": login}}}
            (tmp_path / "config.json").write_text(json.dumps(config))
            pulling = threading.Thread(
                target=daemon.corectl,
                args=("-n", "s", "pull", reference),
                kwargs={"check": True, "env": {**os.environ, "DOCKER_CONFIG": str(tmp_path)}},
            )
            pulling.start()
            eventually(lambda: ingested(daemon) > 0)
            tree = processes(daemon)
            pulling.join()
            bearer = [
                s.headers["authorization"] for s in faulty.seen if "authorization" in s.headers
            ]
            assert bearer
            hidden = [secret, login, *(each.partition(" ")[2] for each in bearer)]
            assert len(tree) >= 2
            for text in (daemon.log, *tree):
                assert not any(each in text for each in hidden)


def processes(daemon: Daemon) -> list[str]:
    """Arguments and environments of the daemon and all below it."""
    assert daemon.process is not None
    wanted, found = {daemon.process.pid}, []
    for place in sorted(Path("/proc").glob("[0-9]*"), key=lambda p: int(p.name)):
        try:
            parent = int((place / "stat").read_text().rpartition(")")[2].split()[1])
            if int(place.name) in wanted or parent in wanted:
                wanted.add(int(place.name))
                found += [(place / name).read_text() for name in ("cmdline", "environ")]
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found
