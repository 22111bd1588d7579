"""What corectl build sends: only what the builder has not kept, in little memory; and what else a
context can be."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from corectl.build_context import ContextDirectory, ignore_of

from cored._pb.cored.build.v1 import build_pb2 as pb
from cored.client.builds import Builds
from cored.client.channel import Channel
from tests.builds import Shop
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
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


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
    with subprocess.Popen([*words, str(context)], stdout=subprocess.PIPE) as client:
        _, status, usage = os.wait4(client.pid, 0)
        client.returncode = os.waitstatus_to_exitcode(status)
    assert client.returncode == 0
    grown = peak(shop.daemon.process.pid) - before
    print(f"client {usage.ru_maxrss >> 10} MB at most, daemon {grown >> 20} MB more than before")
    assert usage.ru_maxrss << 10 < 120 << 20 and grown < 100 << 20

    (context / "small").write_text("two")
    assert sent(shop, context) == ["small"]
    assert shop.tree(context)["small"][4] == "two"
    (context / "large").unlink()
    shop("builder", "prune")
