"""Output from a container to who wants it: nothing is lost, torn or out of order."""

from __future__ import annotations

import asyncio
import os
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cored.engine import logs
from tests import daemons, shims
from tests.patience import eventually
from tests.shims import Task, Zygote

pytestmark = pytest.mark.root


@pytest.fixture
def runc(short_tmp: Path) -> Iterator[Zygote]:
    with shims.zygote(short_tmp, fast=True) as running:
        yield running


def ended(task: Task, seconds: float = 60.0) -> None:
    assert task.wait(timeout=seconds).exit_status == 0
    task.delete()


def read_log(path: Path) -> dict[str, bytes]:
    """All that a log has, by stream."""

    async def everything() -> dict[str, bytes]:
        found: dict[str, list[bytes]] = {"stdout": [], "stderr": []}
        async for record in logs.read(path):
            found[record.stream].append(record.data)
        return {stream: b"".join(pieces) for stream, pieces in found.items()}

    return asyncio.run(everything())


def numbers(count: int) -> bytes:
    return b"".join(b"%d\n" % number for number in range(1, count + 1))


@pytest.mark.parametrize("kind", ["json-file", "cri"])
def test_both_streams_are_in_one_rotated_log_and_in_order(runc: Zygote, kind: str) -> None:
    task = runc.task("sh", "-c", "(seq 1 20000 | sed s/$/e/ >&2) & seq 1 20000; wait")
    uri = f"{kind}://{task.bundle}/logs/0.log?max-size=64k&max-file=400"
    task.create(stdout=uri, stderr=uri)
    task.start()
    ended(task)
    found = read_log(task.bundle / "logs" / "0.log")
    assert found == {
        "stdout": numbers(20_000),
        "stderr": numbers(20_000).replace(b"\n", b"e\n"),
    }
    files = list((task.bundle / "logs").iterdir())
    assert len(files) > 5
    assert max(file.stat().st_size for file in files) <= 64 << 10


def test_lines_of_both_streams_keep_the_order_in_which_they_came(runc: Zygote) -> None:
    script = "for n in 1 2 3 4 5; do echo $n; read x; echo e$n >&2; read x; done"
    task = runc.task("sh", "-c", script)
    stdin, log = task.fifo("in"), task.bundle / "log"
    task.create(stdin=stdin, stdout=f"cri://{log}", stderr=f"cri://{log}")
    task.start()
    with open(stdin, "wb", buffering=0) as writer:
        for count in range(1, 11):
            eventually(lambda count=count: log.read_text().count("\n") == count)  # type: ignore[misc]
            writer.write(b"\n")
        ended(task)
    lines = log.read_text().splitlines()
    assert [line.split()[3] for line in lines] == [
        f"{e}{n}" for n in range(1, 6) for e in ("", "e")
    ]
    assert [line.split()[0] for line in lines] == sorted(line.split()[0] for line in lines)


def test_a_log_that_kubelet_renames_goes_on_in_a_new_file(runc: Zygote) -> None:
    task = runc.task("sh", "-c", "echo one; read x; echo two; read x; echo three >&2")
    stdin, log = task.fifo("in"), task.bundle / "0.log"
    task.create(stdin=stdin, stdout=f"cri://{log}", stderr=f"cri://{log}")
    task.start()
    with open(stdin, "wb", buffering=0) as writer:
        eventually(lambda: "one" in log.read_text())
        log.rename(task.bundle / "0.log.20260101-000000")
        log.touch()  # as ReopenContainerLog does
        writer.write(b"\n")
        eventually(lambda: "two" in log.read_text())
        log.unlink()
        writer.write(b"\n")
        ended(task)
    assert log.read_text().endswith("stderr F three\n")
    assert (task.bundle / "0.log.20260101-000000").read_text().endswith("stdout F one\n")


def test_what_nobody_reads_waits_and_holds_its_writer_up(runc: Zygote) -> None:
    task = runc.task("sh", "-c", "seq 1 300000; : > /done")
    stdout, done = task.fifo("out"), task.bundle / "upper" / "done"
    task.create(stdout=stdout)
    task.start()
    found = []
    for size in (1, 100_000, 7):  # readers that come, take a little, and go
        with open(stdout, "rb", buffering=0) as pipe:
            found.append(pipe.read(size))
        time.sleep(0.1)
    assert not done.exists()
    with open(stdout, "rb") as pipe:
        rest = threading.Thread(target=lambda: found.append(pipe.read()))
        rest.start()
        assert task.wait().exit_status == 0
        task.delete()
        rest.join(60)
    assert b"".join(found) == numbers(300_000)


def test_two_readers_of_a_fifo_get_all_of_it_between_them(runc: Zygote) -> None:
    task = runc.task("seq", "1", "200000")
    stdout = task.fifo("out")
    found: list[bytes] = []
    readers = [threading.Thread(target=shims.read_all, args=(stdout, found)) for _ in range(2)]
    for reader in readers:
        reader.start()
    task.create(stdout=stdout)
    task.start()
    ended(task)
    for reader in readers:
        reader.join(60)
    assert sum(map(len, found)) == len(numbers(200_000))
    assert sorted(b"".join(found)) == sorted(numbers(200_000))


def test_two_followers_of_a_log_each_get_all_of_it(runc: Zygote) -> None:
    task = runc.task("sh", "-c", "seq 1 5000; sleep 0.3; seq 5001 10000")
    log, running = task.bundle / "log", True
    task.create(stdout=f"json-file://{log}?max-size=50k&max-file=100")
    found: list[list[bytes]] = [[], []]

    async def follow(into: list[bytes]) -> None:
        async for record in logs.read(log, follow=lambda: running):
            into.append(record.data)

    threads = [threading.Thread(target=lambda f=f: asyncio.run(follow(f))) for f in found]  # type: ignore[misc]
    threads[0].start()
    task.start()
    time.sleep(0.2)
    threads[1].start()
    ended(task)
    running = False
    for thread in threads:
        thread.join(60)
    assert [b"".join(pieces) for pieces in found] == [numbers(10_000)] * 2


def test_a_terminal_waits_for_its_reader_too(runc: Zygote) -> None:
    task = runc.task("sh", "-c", "seq 1 100000; : > /done", terminal=True)
    stdin, stdout = task.fifo("in"), task.fifo("out")
    task.create(terminal=True, stdin=stdin, stdout=stdout)
    task.start()
    with open(stdout, "rb", buffering=0) as pipe:
        found = [pipe.read(1000)]
    time.sleep(0.3)  # detached: the container goes on only as far as there is room
    assert not (task.bundle / "upper" / "done").exists()
    with open(stdout, "rb") as pipe:
        rest = threading.Thread(target=lambda: found.append(pipe.read()))
        rest.start()
        ended(task)
        rest.join(60)
    assert b"".join(found).replace(b"\r", b"") == numbers(100_000)


def test_a_shim_that_is_killed_leaves_whole_lines(runc: Zygote) -> None:
    task = runc.task("sh", "-c", "while :; do seq 1 1000; done")
    log = task.bundle / "log"
    task.create(stdout=f"json-file://{log}?max-size=100k&max-file=5")
    task.start()
    eventually(lambda: (task.bundle / "log.4").exists())
    pid = task.state().pid
    os.kill(task.shim_pid, 9)
    os.kill(pid, 9)
    eventually(lambda: not Path(f"/proc/{pid}").exists())
    mounted = subprocess.run(["umount", task.bundle / "rootfs"], check=False)
    subprocess.run(
        [runc.runtime, "--root", runc.place / "runtime", "delete", "--force", task.id], check=True
    )
    assert mounted.returncode == 0
    found = read_log(log)["stdout"].split(b"\n")
    expected = [b"%d" % number for number in range(1, 1001)]
    start = expected.index(found[0])
    whole = len(found) - 1
    assert found[:whole] == [expected[(start + n) % 1000] for n in range(whole)]


def test_a_followed_log_is_whole_over_rotation_and_the_daemon_s_death(busybox: Path) -> None:
    script = "n=0; while [ $n -lt 60 ]; do seq $((n * 100 + 1)) $((n * 100 + 100)); n=$((n + 1));"
    options = ("--log-opt", "max-size=30k", "--log-opt", "max-file=100", "--name", "writer")
    command = ("busybox", "sh", "-c", f"{script} sleep 0.05; done")
    with daemons.cored() as daemon:
        daemon.ctr("images", "import", str(busybox))
        daemon.corectl("run", "-d", *options, *command, check=True)
        follow = [*daemons.CORECTL, "--address", str(daemon.address), "logs", "-f", "writer"]
        with subprocess.Popen(follow, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as early:
            assert early.stdout is not None
            assert early.stdout.readline() == b"1\n"
            daemon.kill()
            said = b"1\n" + early.stdout.read()
        assert numbers(6000).startswith(said.rpartition(b"\n")[0])
        daemon.start()
        followed = daemon.corectl("logs", "-f", "writer", check=True).stdout
        assert followed == numbers(6000)
        assert daemon.corectl("wait", "writer").stdout.strip() == b"0"
        assert daemon.corectl("logs", "--tail", "4000", "writer").stdout == followed[-20000:]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "size"), [("fifo", 1 << 30), ("json-file", 1 << 25), ("cri", 1 << 25)]
)
def test_a_gigabyte_comes_out_as_it_went_in(runc: Zygote, kind: str, size: int) -> None:
    line = bytes(range(48, 111)) + b"\n"
    task = runc.task("sh", "-c", f"yes '{line[:-1].decode()}' | head -c {size}")
    log = task.bundle / "log"
    if kind == "fifo":
        stdout = task.fifo("out")
        task.create(stdout=stdout)
        task.start()
        block, count = line * (1 << 14), 0
        with open(stdout, "rb") as pipe:
            waiting = threading.Thread(target=ended, args=(task, 240.0))
            waiting.start()
            while data := pipe.read(len(block)):
                assert data == block
                count += len(data)
        waiting.join()
    else:
        task.create(stdout=f"{kind}://{log}?max-size=20m&max-file=100")
        task.start()
        ended(task, 240)
        found = read_log(log)["stdout"]
        count = len(found)
        assert found == line * (size // len(line))
    assert count == size
