"""What corectl build sends: only what the builder has not kept, in little memory; and what else a
context can be."""

from __future__ import annotations

import functools
import http.server
import io
import os
import socket
import subprocess
import tarfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cored._pb.cored.build.v1 import build_pb2 as pb
from cored.client.builds import Builds
from cored.client.channel import Channel
from cored.client.contexts import ContextDirectory, ignore_of
from tests.builds import Entry, Shop, tree_of_tar
from tests.daemons import CORECTL, Daemon

pytestmark = pytest.mark.root


@pytest.fixture
def shop(daemon: Daemon, tmp_path: Path) -> Shop:
    return Shop(daemon, tmp_path)


class Counted(ContextDirectory):
    """Remembers which files the builder wanted."""

    asked: list[str]

    def contents(self, wanted: object) -> Iterator[bytes]:
        self.asked = [os.fsdecode(self._listing[n].path) for n in wanted]  # type: ignore[attr-defined]
        return super().contents(wanted)  # type: ignore[arg-type]


def sent(shop: Shop, context: Path) -> list[str]:
    """What a build of a directory sends."""
    directory = Counted("", context, ignore_of(""))
    options = pb.BuildOptions(
        dockerfile=(context / "Dockerfile").read_text(), named_contexts=[""], tags=["sent:1"]
    )
    with Channel(str(shop.daemon.address), namespace="default") as channel:
        (result,) = [
            event
            for event in Builds(channel).build(options, [directory])
            if event.HasField("result")
        ]
    assert result.result.names == ["docker.io/library/sent:1"]
    return directory.asked


def test_a_second_build_sends_only_what_changed(shop: Shop) -> None:
    context = shop.context(
        "FROM scratch\nCOPY . /\n",
        {"a": "1", "empty": "", "d/b": "2", "d/e/c": "3", "gone/x": "x", "turned": "file"},
    )
    (context / "link").symlink_to("a")
    assert sent(shop, context) == ["Dockerfile", "a", "d/b", "d/e/c", "empty", "gone/x", "turned"]
    assert sent(shop, context) == []

    times = (context / "d/b").stat()
    (context / "d/b").write_text("9")  # as long as before, and with the same time
    os.utime(context / "d/b", ns=(times.st_atime_ns, times.st_mtime_ns))
    (context / "a").chmod(0o751)
    (context / "gone/x").unlink()
    (context / "gone").rmdir()
    (context / "turned").unlink()
    (context / "turned").mkdir()
    (context / "turned/in").write_text("new")
    (context / "link").unlink()
    (context / "link").symlink_to("d")
    assert sent(shop, context) == ["a", "d/b", "turned/in"]
    tree = shop.tree(context)
    assert tree["d/b"][4] == "9" and tree["a"][1] == 0o751 and tree["link"][4] == "d"
    assert "gone" not in tree and tree["turned"][0] == "directory"
    assert tree["turned/in"][4] == "new" and tree["empty"][4] == "" and tree["d/e/c"][4] == "3"

    shop("builder", "prune")
    assert "d/e/c" in sent(shop, context)


def test_what_a_step_does_to_its_context_does_not_reach_the_next_build(shop: Shop) -> None:
    text = (
        "FROM busybox\nRUN --mount=type=bind,source=f,target=/f,rw --mount=target=/d,rw "
        "echo spoilt > /f && echo spoilt > /d/f\n"
    )
    context = shop.context(text, {"f": "clean\n"})
    shop.build(context)
    (context / "Dockerfile").write_text("FROM scratch\nCOPY f /f\n")
    assert shop.tree(context)["f"][4] == "clean\n"


def test_two_builds_of_one_directory_at_once_have_each_the_whole_of_it(shop: Shop) -> None:
    context = shop.context(
        "FROM busybox\nARG N\nRUN --mount=target=/c sleep 1; cat /c/f > /f\n", {"f": "both"}
    )
    words = [*CORECTL, "--address", str(shop.daemon.address), "build", "-q", str(context)]
    for _ in range(2):
        both = [
            subprocess.Popen([*words, "--build-arg", f"N={n}", "-t", f"c:{n}"]) for n in range(2)
        ]
        assert [process.wait(60) for process in both] == [0, 0]
        (context / "f").write_text("again")
    assert shop.ran("c:0", "cat", "/f") == shop.ran("c:1", "cat", "/f") == "again"


def peak(pid: int) -> int:
    """The most memory that a process ever had, in bytes."""
    status = Path(f"/proc/{pid}/status").read_text()
    found = status.partition("VmHWM:")[2].split()
    return int(found[0]) * 1024 if found else 0  # it has just ended


@pytest.mark.slow
def test_a_context_of_a_gigabyte_needs_little_memory(shop: Shop) -> None:
    context = shop.context("FROM scratch\nCOPY small /\n", {"small": "one"})
    with (context / "large").open("wb") as file:
        block = os.urandom(1 << 20)
        for _ in range(1024):
            file.write(block)
    assert shop.daemon.process is not None
    before = peak(shop.daemon.process.pid)
    words = [*CORECTL, "--address", str(shop.daemon.address), "build", "-q", "-t", "large:1"]
    most = 0
    # what wait4 says of a child is at least what its parent had
    with subprocess.Popen([*words, str(context)], stdout=subprocess.PIPE) as client:
        while client.poll() is None:
            most = max(most, peak(client.pid))
            time.sleep(0.02)
    assert client.returncode == 0
    grown = peak(shop.daemon.process.pid) - before
    print(f"client {most >> 20} MB at most, daemon {grown >> 20} MB more than before")
    assert 0 < most < 120 << 20 and grown < 100 << 20

    (context / "small").write_text("two")
    assert sent(shop, context) == ["small"]
    assert shop.tree(context)["small"][4] == "two"
    (context / "large").unlink()
    shop("builder", "prune")


GIT = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "protocol.file.allow=always")


def git(place: Path, *words: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(place), *GIT, *words], check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """Its URL and its directory: git's own server, with a submodule."""
    place = tmp_path_factory.mktemp("served")
    for name in ("inner.git", "app.git"):
        (place / name).mkdir()
        git(place / name, "init", "-q", "-b", "main")
    (place / "inner.git/file").write_text("of the submodule")
    git(place / "inner.git", "add", ".")
    git(place / "inner.git", "commit", "-qm", "one")
    app = place / "app.git"
    (app / "sub").mkdir()
    (app / "Dockerfile").write_text("FROM scratch\nCOPY . /\n")
    (app / "sub/Dockerfile").write_text("FROM scratch\nCOPY file /here\n")
    (app / "two").mkdir()
    (app / "two/Dockerfile").write_text("FROM scratch\nCOPY sub/file /there\n")
    (app / "sub/file").write_text("first")
    (app / "escape").symlink_to("/etc")
    (app / ".dockerignore").write_text("ignored\nescape\n")
    (app / "ignored").write_text("x")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    url = f"git://127.0.0.1:{port}"
    words = ("--listen=127.0.0.1", f"--port={port}", "--export-all", f"--base-path={place}")
    server = subprocess.Popen(["git", "daemon", "--reuseaddr", *words, str(place)])
    try:
        reachable(port)
        git(app, "submodule", "--quiet", "add", f"{url}/inner.git", "inner")
        git(app, "add", ".")
        git(app, "commit", "-qm", "one")
        git(app, "tag", "v1")
        (app / "sub/file").write_text("second")
        git(app, "commit", "-qam", "two")
        yield url, app
    finally:
        server.terminate()
        server.wait()


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def served(place: Path) -> Iterator[str]:
    """The URL of a directory's files."""
    handler = functools.partial(Quiet, directory=str(place))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def reachable(port: int) -> None:
    end = time.monotonic() + 60
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except OSError:
            assert time.monotonic() < end
            time.sleep(0.05)


def output(shop: Shop, *words: str, **options: object) -> dict[str, Entry]:
    """The files of what is built, Dockerfile and context as the words say."""
    done = shop.daemon.corectl("build", "-q", "-o", "type=tar,dest=-", *words, **options)
    assert done.returncode == 0, done.stderr.decode()
    return tree_of_tar(done.stdout)


def test_a_repository_of_git_is_a_context(shop: Shop, repository: tuple[str, Path]) -> None:
    url, _ = repository
    tree = output(shop, f"{url}/app.git")
    assert tree["sub/file"][4] == "second" and tree["inner/file"][4] == "of the submodule"
    assert not {"ignored", "escape", ".git", "inner/.git"} & set(tree)
    assert output(shop, f"{url}/app.git#v1:sub")["here"][4] == "first"
    assert output(shop, "-f", "two/Dockerfile", f"{url}/app.git")["there"][4] == "second"
    kept = output(shop, "--build-arg", "BUILDKIT_CONTEXT_KEEP_GIT_DIR=1", f"{url}/app.git")
    assert ".git/HEAD" in kept
    for wrong, told in (
        ("#v2", "couldn't find remote ref v2"),
        ("#main:none", "has no directory 'none'"),
        ("#main:escape", "has no directory 'escape'"),
        ("#main:inner", "Dockerfile 'Dockerfile': not in the context (name it with -f)"),
    ):
        done = shop.daemon.corectl("build", f"{url}/app.git{wrong}")
        assert done.returncode == 1 and told in done.stderr.decode()


def test_add_takes_repositories_and_knows_their_commits(
    shop: Shop, repository: tuple[str, Path]
) -> None:
    url, app = repository
    context = shop.context(
        f"FROM scratch\nADD --keep-git-dir=true {url}/app.git#main /kept/\n"
        f"ADD {url}/app.git#v1:sub /sub/\n"
    )
    tree = shop.tree(context)
    assert tree["kept/sub/file"][4] == "second" and "kept/.git/HEAD" in tree
    assert tree["sub/file"][4] == "first"
    assert shop.build(context).count("CACHED") == 2
    (app / "sub/file").write_text("third")
    git(app, "commit", "-qam", "three")
    assert shop.build(context, "--explain").count("ran ") == 2  # and the step after it


def test_an_archive_from_a_url_or_standard_input_is_a_context(shop: Shop) -> None:
    inside = {
        "Dockerfile": "FROM scratch\nCOPY f /\n", "f": "packed",
        "other": "FROM scratch\nCOPY f /o\n",
    }  # fmt: skip
    place = shop.place / "served"
    place.mkdir()
    for name, mode in (("c.tar", "w"), ("c.tar.gz", "w:gz"), ("c.tar.xz", "w:xz")):
        with tarfile.open(place / name, mode) as tar:  # type: ignore[call-overload]
            for path, text in inside.items():
                member = tarfile.TarInfo(path)
                member.size, member.uid = len(text), 7
                tar.addfile(member, io.BytesIO(text.encode()))
        with (place / name).open("rb") as archive:
            tree = output(shop, "-", stdin=archive)
        assert tree["f"] == ("file", 0o644, 0, 0, "packed")
        with (place / name).open("rb") as archive:
            assert set(output(shop, "-f", "other", "-", stdin=archive)) == {"o"}
    (place / "Dockerfile").write_text("FROM scratch\nWORKDIR /made\n")
    more = shop.context("", {"m": "more"})
    with served(place) as url:
        assert output(shop, f"{url}/c.tar.gz")["f"][4] == "packed"
        assert set(output(shop, f"{url}/Dockerfile")) == {"made"}
        named = shop.context("FROM scratch\nCOPY --from=far f /\nCOPY --from=near m /\n")
        given = (f"far={url}/c.tar", f"near={more}")
        words = [word for each in given for word in ("--build-context", each)]
        assert set(shop.tree(named, *words)) == {"f", "m"}
        done = shop.daemon.corectl("build", f"{url}/none.tar")
        assert done.returncode == 1 and "none.tar: File not found" in done.stderr.decode()
    text = b"FROM scratch\nCOPY <<E /from\nstandard input\nE\n"
    assert output(shop, "-", input=text)["from"][4] == "standard input\n"
    assert output(shop, "-f", "-", str(more), input=text + b"COPY m /\n")["m"][4] == "more"
    done = shop.daemon.corectl("build", "-", input=b"FROM scratch\nCOPY m /\n")
    assert "'m': not found" in done.stderr.decode()
