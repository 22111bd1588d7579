"""Shims that sleep: the worker ends when nothing happens, and nobody can tell that it did."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import signal
import socket
import struct
import subprocess
import termios
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cored._pb.containerd.runtime.sandbox.v1 import sandbox_pb2
from cored._pb.containerd.services.events.ttrpc.v1 import events_pb2 as forward_pb2
from cored._pb.containerd.task.v2 import shim_pb2 as pb
from cored._pb.ttrpc import request_pb2
from cored.rpc.ttrpc import RESPONSE, Decoder, Frame, encode
from tests import shims
from tests.patience import eventually
from tests.shims import Task, Zygote

pytestmark = pytest.mark.root


@pytest.fixture
def runc(short_tmp: Path) -> Iterator[Zygote]:
    with shims.zygote(short_tmp, fast=True) as running:
        running.idle = 0.1
        yield running
    assert str(short_tmp) not in Path("/proc/self/mounts").read_text()


def gone(pid: int) -> bool:
    try:
        return "Z" in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return True


def worker(task: Task) -> int:
    """The shim's worker; 0 while it sleeps."""
    for child in Path(f"/proc/{task.shim_pid}/task/{task.shim_pid}/children").read_text().split():
        try:
            if Path(f"/proc/{child}/comm").read_text() == "cored-shim\n":
                return 0 if gone(int(child)) else int(child)
        except (FileNotFoundError, ProcessLookupError):
            continue
    return 0


def asleep(task: Task) -> None:
    """Return when the shim sleeps."""
    eventually(lambda: not worker(task))


def woken(task: Task, note: os.stat_result) -> bool:
    """Whether the shim has been awake since it left this note, however shortly."""
    path = task.bundle / "asleep"
    return not path.exists() or path.stat() != note


def running(runc: Zygote, *arguments: str, **streams: Any) -> Task:
    """A started task whose shim sleeps."""
    task = runc.task(*arguments, terminal=streams.get("terminal", False))
    task.create(**streams)
    task.start()
    asleep(task)
    return task


def test_an_idle_shim_sleeps_wakes_for_a_request_and_sleeps_again(runc: Zygote) -> None:
    task = running(runc, "sleep", "1000")
    note = (task.bundle / "asleep").stat()
    pid = task.state().pid
    eventually(lambda: woken(task, note))
    for _ in range(3):
        asleep(task)
        other = shims.Client(task.address)
        request = pb.ConnectRequest(id=task.id)
        answer = other.call("Connect", request, pb.ConnectResponse())
        assert (answer.shim_pid, answer.task_pid) == (task.shim_pid, pid)
        other.close()
        assert task.state().status == 2
    asleep(task)
    task.kill(signal.SIGTERM)
    asleep(task)
    task.kill(signal.SIGKILL)
    assert task.wait().exit_status == 137
    asleep(task)
    assert task.delete().exit_status == 137


def test_a_shim_without_a_task_does_not_sleep(runc: Zygote) -> None:
    task = runc.task("true")
    first = worker(task)
    time.sleep(0.5)
    assert worker(task) == first > 0


def test_a_created_container_may_be_slept_over_too(runc: Zygote) -> None:
    task = runc.task("sh", "-c", "exit 4")
    pid = task.create()
    asleep(task)
    assert task.start() == pid
    assert task.wait().exit_status == 4
    asleep(task)
    deleted = task.delete()
    assert (deleted.pid, deleted.exit_status) == (pid, 4)


def test_an_exit_while_asleep_is_recorded_and_told_to_all_who_wait(runc: Zygote) -> None:
    task = runc.task("sh", "-c", "read x; exit 9")
    stdin = task.fifo("in")
    pid = task.create(stdin=stdin)
    task.start()
    clients = [task.client, shims.Client(task.address)]
    waiting = [
        client.begin("Wait", pb.WaitRequest(id=task.id)) for client in clients for _ in (1, 2)
    ]
    asleep(task)
    assert not (task.bundle / "exit.json").exists()
    os.kill(pid, signal.SIGKILL)
    for number, stream in enumerate(waiting):
        answer = clients[number // 2].finish(stream, pb.WaitResponse())
        assert answer.exit_status == 137
    record = json.loads((task.bundle / "exit.json").read_text())
    assert (record["pid"], record["status"]) == (pid, 137)
    clients[1].close()
    asleep(task)
    assert task.wait().exited_at == task.delete().exited_at


def test_a_connection_that_ends_while_asleep_wakes_nobody_and_leaves_nothing(runc: Zygote) -> None:
    task = running(runc, "sleep", "1000")
    note = (task.bundle / "asleep").stat()
    other = shims.Client(task.address)
    other.begin("Wait", pb.WaitRequest(id=task.id))
    eventually(lambda: woken(task, note))
    asleep(task)
    before = len(os.listdir(f"/proc/{task.shim_pid}/fd"))
    note = (task.bundle / "asleep").stat()
    other.close()
    time.sleep(0.3)
    assert not worker(task)
    assert (task.bundle / "asleep").stat() == note  # it has not been awake in the meantime
    assert task.state().status == 2
    asleep(task)
    eventually(lambda: len(os.listdir(f"/proc/{task.shim_pid}/fd")) == before - 1)
    task.kill(9)
    assert task.wait().exit_status == 137


def test_a_request_before_the_end_of_its_connection_is_served(runc: Zygote) -> None:
    task = running(runc, "sleep", "1000")
    other = shims.Client(task.address)
    other.call("Connect", pb.ConnectRequest(id=task.id), pb.ConnectResponse())
    asleep(task)
    other.begin("Kill", pb.KillRequest(id=task.id, signal=9))
    other.close()
    assert task.wait().exit_status == 137


def test_a_sleeping_shim_has_left_word_of_its_task(runc: Zygote) -> None:
    task = running(runc, "sh", "-c", "trap 'exit 4' TERM; sleep 1000 & wait")
    said = json.loads((task.bundle / "asleep").read_text())
    assert (said["status"], said["shim"]) == (2, task.shim_pid)
    for pid, began in ((said["pid"], said["began"]), (said["shim"], said["since"])):
        stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        assert int(stat[19]) == began
    assert said["address"] == task.address
    other = shims.Client(task.address)
    other._socket.sendall(b"\0")  # half a request keeps it awake
    eventually(lambda: worker(task))
    task.state()
    assert not (task.bundle / "asleep").exists()  # awake, it is to be asked
    other.close()
    asleep(task)
    os.kill(said["pid"], signal.SIGTERM)
    assert task.wait().exit_status == 4
    asleep(task)
    said = json.loads((task.bundle / "asleep").read_text())
    assert (said["status"], said["exit_status"], said["began"]) == (3, 4, 0)


def test_execs_are_slept_over(runc: Zygote) -> None:
    task = running(runc, "sleep", "1000")
    out, stdin = task.fifo("out"), task.fifo("in")
    program = shims.process("sh", "-c", "read x; echo got $x; exit 6")
    task.exec("e", program, stdout=out, stdin=stdin)
    pipe = os.open(out, os.O_RDONLY | os.O_NONBLOCK)
    asleep(task)
    assert task.start("e") > 0
    waiting = task.client.begin("Wait", pb.WaitRequest(id=task.id, exec_id="e"))
    asleep(task)
    with open(stdin, "wb", buffering=0) as writer:
        writer.write(b"word\n")
        assert task.client.finish(waiting, pb.WaitResponse()).exit_status == 6
    asleep(task)
    assert task.delete("e").exit_status == 6
    assert os.read(pipe, 100) == b"got word\n"
    os.close(pipe)
    asleep(task)
    assert task.state().status == 2


def test_a_terminal_is_slept_over(runc: Zygote) -> None:
    script = "stty size; while read x; do echo got $x; stty size; done"
    task = runc.task("sh", "-c", script, terminal=True)
    stdin, stdout = task.fifo("in"), task.fifo("out")
    task.create(terminal=True, stdin=stdin, stdout=stdout)
    seen = bytearray()
    reader = os.open(stdout, os.O_RDONLY | os.O_NONBLOCK)

    def shows(text: bytes) -> bool:
        try:
            seen.extend(os.read(reader, 4096))
        except BlockingIOError:
            return text in seen
        return text in seen

    task.start()
    for width, word in ((91, b"one"), (92, b"two"), (93, b"three")):
        asleep(task)
        task.client.call("ResizePty", pb.ResizePtyRequest(id=task.id, width=width, height=40))
        asleep(task)
        with open(stdin, "wb", buffering=0) as writer:  # detached again afterwards
            writer.write(word + b"\n")
        eventually(lambda word=word: shows(b"got " + word))  # type: ignore[misc]
        eventually(lambda width=width: shows(b"40 %d" % width))  # type: ignore[misc]
    os.close(reader)
    asleep(task)
    with open(stdout, "rb", buffering=0) as pipe, open(stdin, "wb", buffering=0) as writer:
        writer.write(b"late\n\x04")
        assert task.wait().exit_status == 0
        assert b"got late" in pipe.read(4096)


def test_a_log_goes_on_in_the_middle_of_a_line(runc: Zygote) -> None:
    script = "printf half; read x; echo ' a line'; read x; echo end"
    task = runc.task("sh", "-c", script)
    stdin, copy = task.fifo("in"), task.fifo("copy")
    log = task.bundle / "json.log"
    reader = os.open(copy, os.O_RDONLY | os.O_NONBLOCK)
    task.create(stdin=stdin, stdout=f"json-file://{log}?copy={copy}")
    task.start()
    copied = bytearray()

    def copies() -> bytes:
        try:
            copied.extend(os.read(reader, 4096))
        except BlockingIOError:
            return bytes(copied)
        return bytes(copied)

    eventually(lambda: copies() == b"half")
    asleep(task)
    with open(stdin, "wb", buffering=0) as writer:
        writer.write(b"\n")
        eventually(lambda: copies() == b"half a line\n")
        asleep(task)
        assert os.get_blocking(reader) is False
        writer.write(b"\n")
        assert task.wait().exit_status == 0
    task.delete()
    assert eventually(lambda: copies() == b"half a line\nend\n")
    os.close(reader)
    lines = [json.loads(line)["log"] for line in log.read_text().splitlines()]
    assert lines == ["half a line\n", "end\n"]


def test_a_full_pipe_for_stdin_is_slept_over_without_loss(runc: Zygote) -> None:
    task = runc.task("sh", "-c", "read x < /gate; cat")
    stdin, out = task.fifo("in"), task.fifo("out")
    gate = task.bundle / "rootfs" / "gate"
    task.create(stdin=stdin, stdout=out)
    os.mkfifo(gate)
    task.start()
    data = os.urandom(1 << 20)

    def write() -> None:
        with open(stdin, "wb", buffering=0) as writer:
            assert writer.write(data) == len(data)

    thread = threading.Thread(target=write)
    thread.start()
    eventually(lambda: full(stdin))
    asleep(task)
    gate.write_bytes(b"\n")
    with open(out, "rb") as pipe:
        received = pipe.read()
    thread.join()
    assert received == data
    assert task.wait().exit_status == 0


def full(fifo: str) -> bool:
    fd = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    try:
        count = struct.unpack("i", fcntl.ioctl(fd, termios.FIONREAD, bytes(4)))[0]
    finally:
        os.close(fd)
    return int(count) >= 1 << 16


def test_a_hundred_megabytes_go_through_many_sleeps(runc: Zygote) -> None:
    task = runc.task("cat")
    stdin, stdout = task.fifo("in"), task.fifo("out")
    task.create(stdin=stdin, stdout=stdout)
    task.start()
    block = os.urandom(1 << 20)
    sent, received = hashlib.sha256(), hashlib.sha256()
    workers = set()

    def write() -> None:
        with open(stdin, "wb", buffering=0) as writer:
            for number in range(100):
                data = number.to_bytes(4, "big") + block[4:]
                sent.update(data)
                assert writer.write(data) == len(data)
                if number % 20 == 10:
                    asleep(task)

    def read() -> None:
        with open(stdout, "rb") as pipe:
            while data := pipe.read(1 << 18):
                received.update(data)
                workers.add(worker(task))

    threads = [threading.Thread(target=each) for each in (write, read)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    assert received.digest() == sent.digest()
    assert len(workers - {0}) > 3
    assert task.wait().exit_status == 0


def test_a_binary_that_logs_is_slept_over(runc: Zygote, tmp_path: Path) -> None:
    logger = tmp_path / "logger"
    logger.write_text(f"#!/bin/sh\nexec 5>&-\nexec cat <&3 >{tmp_path}/log\n")
    logger.chmod(0o755)
    task = runc.task("sh", "-c", "read x; echo said")
    stdin = task.fifo("in")
    task.create(stdin=stdin, stdout=f"binary://{logger}")
    task.start()
    asleep(task)
    with open(stdin, "wb", buffering=0) as writer:
        writer.write(b"\n")
        assert task.wait().exit_status == 0
    eventually(lambda: (tmp_path / "log").read_text() == "said\n")


def test_an_out_of_memory_kill_while_asleep_is_told_before_the_exit(
    runc: Zygote, short_tmp: Path
) -> None:
    # the events' socket is the manager's
    with socket.socket(socket.AF_UNIX) as manager:
        manager.bind(f"{short_tmp}.ttrpc")
        manager.listen()
        manager.settimeout(30)
        limits = {"memory": {"limit": 12 << 20, "swap": 12 << 20}}
        task = runc.task("sh", "-c", "read x; x=a; while :; do x=$x$x; done")
        config = json.loads((task.bundle / "config.json").read_text())
        config["linux"]["resources"] = limits
        (task.bundle / "config.json").write_text(json.dumps(config))
        stdin = task.fifo("in")
        task.create(stdin=stdin)
        task.start()
        waiting = task.client.begin("Wait", pb.WaitRequest(id=task.id))
        asleep(task)
        with open(stdin, "wb", buffering=0) as writer:
            writer.write(b"\n")
            channel, _ = manager.accept()
            with channel:
                frame = next(iter(Decoder().feed(channel.recv(1 << 16))))
                request = request_pb2.Request.FromString(frame.payload)
                told = forward_pb2.ForwardRequest.FromString(request.payload).envelope
                assert told.topic == "/tasks/oom"
                assert not (task.bundle / "exit.json").exists()
                answer = request_pb2.Response().SerializeToString()
                channel.sendall(encode(Frame(frame.stream, RESPONSE, answer)))
            assert task.client.finish(waiting, pb.WaitResponse()).exit_status == 137
    os.unlink(f"{short_tmp}.ttrpc")


def test_a_sandbox_is_slept_over(runc: Zygote) -> None:
    task = runc.task("true")  # only its shim is used
    client = shims.Client(task.address, "containerd.runtime.sandbox.v1.Sandbox")
    client.call("CreateSandbox", sandbox_pb2.CreateSandboxRequest(sandbox_id="box"))
    request = sandbox_pb2.StartSandboxRequest(sandbox_id="box")
    begun = client.call("StartSandbox", request, sandbox_pb2.StartSandboxResponse())
    assert begun.pid == task.shim_pid
    waiting = client.begin("WaitSandbox", sandbox_pb2.WaitSandboxRequest(sandbox_id="box"))
    asleep(task)
    asked = sandbox_pb2.SandboxStatusRequest(sandbox_id="box")
    found = client.call("SandboxStatus", asked, sandbox_pb2.SandboxStatusResponse())
    assert (found.state, found.created_at) == ("SANDBOX_READY", begun.created_at)
    asleep(task)
    client.call("ShutdownSandbox", sandbox_pb2.ShutdownSandboxRequest(sandbox_id="box"))
    ended = client.finish(waiting, sandbox_pb2.WaitSandboxResponse())
    assert ended.exited_at.seconds
    client.close()
    eventually(lambda: gone(task.shim_pid))


@pytest.mark.parametrize("sleeps", [True, False])
@pytest.mark.parametrize("victim", ["keeper", "worker"])
def test_a_shim_dies_whole(runc: Zygote, victim: str, sleeps: bool) -> None:
    task = runc.task("sleep", "1000")
    pid = task.create()
    task.start()
    if sleeps:
        asleep(task)
    other = shims.Client(task.address)
    if victim == "worker" or not sleeps:
        other._socket.sendall(b"\0")  # half a request keeps it awake
        eventually(lambda: worker(task))
        time.sleep(0.5)
    parts = [task.shim_pid, worker(task)] if worker(task) else [task.shim_pid]
    os.kill(parts[0] if victim == "keeper" else parts[1], signal.SIGKILL)
    task.client._socket.settimeout(60)
    assert task.client._socket.recv(1) == b""
    other.close()
    for part in parts:
        eventually(lambda part=part: gone(part))  # type: ignore[misc]
    path = task.address.removeprefix("unix://")
    with socket.socket(socket.AF_UNIX) as probe, pytest.raises(ConnectionRefusedError):
        probe.connect(path)
    # what is left is the manager's to clean up
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: gone(pid))
    subprocess.run([runc.runtime, "--root", f"{runc.place}/runtime", "delete", task.id], check=True)
    subprocess.run(["umount", task.bundle / "rootfs"], check=True)
    os.unlink(path)
