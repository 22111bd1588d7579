"""The client library with a real daemon: its examples, and what they do not show."""

from __future__ import annotations

import asyncio
import doctest
import hashlib
import importlib
import os
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cored.client import TLS, AsyncClient, Bind, Client, CommandFailed, Disconnected, Port, Tmpfs
from cored.errors import CoredError, FailedPrecondition, NotFound
from tests.conftest import PROJECT
from tests.remote import Remote, Wire, remote

pytestmark = pytest.mark.root

EXAMPLES = ("", ".api.builds", ".api.container_files", ".api.containers", ".api.images",
            ".api.places", ".api.system", ".api.watching")  # fmt: skip


@pytest.fixture(scope="module")
def there(busybox: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Remote]:
    with remote(busybox, tmp_path_factory.mktemp("library")) as running:
        yield running


@pytest.fixture(params=["here", "there"])
def client(request: pytest.FixtureRequest, there: Remote) -> Iterator[Client]:
    """On the daemon's socket, and over the network."""
    if request.param == "here":
        with Client(str(there.daemon.address)) as client:
            yield client
    else:
        with Client(there.host, tls=TLS.within(there.files)) as client:
            yield client


@pytest.mark.parametrize("module", EXAMPLES)
def test_examples_in_the_documentation_do_what_they_say(
    there: Remote, module: str, tmp_path: Path
) -> None:
    with Client(str(there.daemon.address)) as client:
        known: dict[str, Any] = {
            "client": client, "host": str(there.daemon.address), "directory": str(tmp_path)
        }  # fmt: skip
        found = importlib.import_module(f"cored.client{module}")
        result = doctest.testmod(found, extraglobs=known, optionflags=doctest.ELLIPSIS)
    assert result.attempted > 0
    assert result.failed == 0


def test_examples_in_the_readme_run(there: Remote, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (PROJECT / "README.md").read_text()
    section = re.search(r"^## From Python\n(.*?)^## ", text, re.M | re.S)
    assert section is not None
    blocks = re.findall(r"^```python\n(.*?)^```", section[1], re.M | re.S)
    assert blocks
    monkeypatch.setenv("CORED_HOST", there.host)
    monkeypatch.setenv("CORED_CERT_PATH", str(there.files))
    for block in blocks:
        exec(compile(block, "README.md", "exec"), {})


def test_large_input_and_output_pass_unharmed(client: Client) -> None:
    data = os.urandom(10 << 20)
    output = client.containers.run("busybox", ["cat"], input=data)
    assert hashlib.sha256(output.stdout).digest() == hashlib.sha256(data).digest()


def test_what_fails_says_how(client: Client) -> None:
    with pytest.raises(CommandFailed, match=r"exited with 3: broken") as caught:
        client.containers.run("busybox", ["sh", "-c", "echo broken >&2; exit 3"])
    assert caught.value.output.exit_status == 3
    ended = client.containers.run("busybox", ["false"], check=False)
    assert (ended.exit_status, ended.stdout, ended.stderr) == (1, b"", b"")
    with pytest.raises(NotFound, match="image 'absent'"):
        client.containers.run("absent")
    with pytest.raises(CoredError, match="absent-program"):
        client.containers.run("busybox", ["absent-program"])
    assert client.containers.list(all=True) == []


def test_options_reach_the_container(client: Client, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("bound")
    output = client.containers.run(
        "busybox",
        ["sh", "-c", "cat /here/file; echo; stat -fc %T /tmp; id -g; pwd; echo $A; hostname"],
        mounts=[Bind(str(tmp_path), "/here", read_only=True), Tmpfs("/tmp", "size=1m")],
        user="0:7",
        working_directory="/usr",
        env={"A": "b"},
        hostname="named",
        ports=[Port(80)],
    )
    assert output.text.split() == ["bound", "tmpfs", "7", "/usr", "b", "named"]


def test_a_life(client: Client) -> None:
    made = client.containers.create("busybox", ["sleep", "1000"], name="life", init=True)
    assert (made.status, made.name) == ("created", "life")
    client.containers.start("life")
    client.containers.pause("life")
    assert client.containers.get("life").status == "paused"
    client.containers.unpause("life")
    client.containers.rename("life", "lives")
    client.containers.update("lives", memory=64 << 20)
    assert [one.name for one in client.containers.list()] == ["lives"]
    assert client.containers.stats(["lives"])[0].running
    assert ("sleep 1000" in row[-1] for row in client.containers.top("lives").rows)
    client.containers.stop("lives", timeout=5)
    assert client.containers.wait("lives") == client.containers.get("lives").exit_status
    client.containers.remove("lives")


def test_a_terminal(client: Client) -> None:
    command = ["sh", "-c", "until [ \"$(stty size)\" = '33 99' ]; do sleep 0.1; done; tty; read x"]
    with client.containers.begin(
        "busybox", command, stdin=True, terminal=True, auto_remove=True
    ) as session:
        session.resize(99, 33)
        seen = b""
        for stream, data in session:
            assert stream == "stdout"
            seen += data
            if seen.endswith(b"/dev/console\r\n") or re.search(rb"/dev/pts/\d+\r\n$", seen):
                session.write(b"\n")
        assert session.wait() == 0
    with pytest.raises(FailedPrecondition, match="takes no more input"):
        with client.containers.begin("busybox", ["true"], stdin=True, auto_remove=True) as ended:
            assert ended.wait() == 0
            for _ in range(100_000):
                ended.write(b"x" * 100_000)


def test_attaching_shows_what_comes(client: Client) -> None:
    script = "while ! [ -e /go ]; do sleep 0.1; done; echo said; exit 6"
    made = client.containers.create("busybox", ["sh", "-c", script])
    client.containers.start(made.id)
    with client.containers.attach(made.id) as session, client.containers.attach(made.id) as second:
        client.containers.write_file(made.id, "/go", b"")
        assert list(session) == [("stdout", b"said\n")]
        assert list(second) == [("stdout", b"said\n")]
        assert (session.wait(), second.wait()) == (6, 6)
    client.containers.remove(made.id)


def test_a_session_that_is_closed_leaves_its_container(client: Client) -> None:
    with client.containers.begin("busybox", ["sleep", "1000"]) as session:
        pass
    assert client.containers.get(session.id).status == "running"
    client.containers.remove(session.id, force=True)


def test_a_cut_wire_is_disconnected_and_others_go_on(there: Remote) -> None:
    wire = Wire(there.port)
    with Client(wire.host, tls=TLS.within(there.files)) as client:
        session = client.containers.begin("busybox", ["sh", "-c", "echo go; exec sleep 1000"])
        with session, pytest.raises(Disconnected):
            for _ in session:
                wire.cut()
    with Client(there.host, tls=TLS.within(there.files)) as again:
        assert again.containers.get(session.id).status == "running"
        again.containers.remove(session.id, force=True)


async def test_many_at_once_are_awaited(there: Remote) -> None:
    async with AsyncClient(there.host, tls=TLS.within(there.files)) as client:
        runs = [client.containers.run("busybox", ["echo", str(n)]) for n in range(4)]
        assert [output.text for output in await asyncio.gather(*runs)] == [
            f"{n}\n" for n in range(4)
        ]
        made = await client.containers.create("busybox", ["sh", "-c", "echo one; echo two"])
        await client.containers.start(made.id)
        lines = [line.data async for line in client.containers.logs(made.id, follow=True)]
        assert lines == [b"one\n", b"two\n"]
        await client.containers.remove(made.id, force=True)
        with pytest.raises(NotFound):
            await client.containers.get(made.id)


async def test_an_awaited_session_has_streams(there: Remote) -> None:
    async with AsyncClient(str(there.daemon.address)) as client:
        begun = await client.containers.begin("busybox", ["cat"], stdin=True, auto_remove=True)
        async with begun as session:
            await session.write(b"through")
            await session.close_stdin()
            assert [piece async for piece in session] == [("stdout", b"through")]
            assert await session.wait() == 0


async def test_a_task_that_is_cancelled_breaks_its_call_off(there: Remote) -> None:
    async with AsyncClient(str(there.daemon.address)) as client:
        made = await client.containers.create("busybox", ["sleep", "1000"])
        await client.containers.start(made.id)
        waiting = asyncio.create_task(client.containers.wait(made.id))
        events = client.system.events()
        coming = asyncio.create_task(anext(events))
        await asyncio.sleep(0.2)
        for task in (waiting, coming):
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        end = time.monotonic() + 60
        while any(t.name.startswith("cored ") for t in threading.enumerate()):
            assert time.monotonic() < end
            await asyncio.sleep(0.05)
        await client.containers.remove(made.id, force=True)
