"""A shim beside a real container, driven over its socket; with runc, its short cuts, and crun."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cored._pb.containerd.runc.v1 import oci_pb2
from cored._pb.containerd.task.v2 import shim_pb2 as pb
from cored._pb.io.containerd.cgroups.v1 import metrics_pb2
from tests import shims
from tests.patience import eventually
from tests.shims import Refused, Task, Zygote

pytestmark = pytest.mark.root
INVALID, NOT_FOUND, EXISTS, PRECONDITION, UNIMPLEMENTED = 3, 5, 6, 9, 12


@pytest.fixture(scope="session")
def crun_cgroups(private_mounts: None) -> None:
    """The layout that crun 1.8 insists on: no controller in the v2 tree."""
    place = Path("/sys/fs/cgroup/hugetlb")
    hybrid = Path("/sys/fs/cgroup/unified").is_mount()
    if hybrid and "hugetlb" in Path("/proc/cgroups").read_text() and not place.is_mount():
        place.mkdir(exist_ok=True)
        subprocess.run(["mount", "-t", "cgroup", "-o", "hugetlb", "cgroup", place], check=True)


@pytest.fixture(params=["runc", "runc-fast", "crun", "crun-fast"])
def zygote(request: pytest.FixtureRequest, short_tmp: Path) -> Iterator[Zygote]:
    name, _, fast = request.param.partition("-")
    if name == "crun":
        request.getfixturevalue("crun_cgroups")
    binary = "/usr/bin/crun" if name == "crun" else "/usr/sbin/runc"
    with shims.zygote(short_tmp, binary, fast=bool(fast)) as running:
        yield running
    left = Path("/proc/self/mounts").read_text()
    assert str(short_tmp) not in left


@pytest.fixture
def runc(short_tmp: Path) -> Iterator[Zygote]:
    """For what does not depend on the runtime."""
    with shims.zygote(short_tmp) as running:
        yield running


def reader(path: str) -> Callable[[], bytes]:
    """Read a FIFO from now on; the result waits for its end."""
    found: list[bytes] = []
    thread = threading.Thread(target=shims.read_all, args=(path, found))
    thread.start()

    def result() -> bytes:
        thread.join(60)
        assert not thread.is_alive(), f"{path}: no end of file"
        return found[0]

    return result


def alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_container_lives_and_its_end_is_known(zygote: Zygote) -> None:
    task = zygote.task("sh", "-c", "echo out; echo err >&2; exit 7")
    out, err = task.fifo("out"), task.fifo("err")
    read = [reader(out), reader(err)]
    before = time.time()
    pid = task.create(stdout=out, stderr=err)
    assert task.state().status == 1
    assert task.start() == pid
    answer = task.wait()
    assert answer.exit_status == 7
    assert before - 1 < answer.exited_at.seconds <= time.time()
    record = json.loads((task.bundle / "exit.json").read_text())
    assert (record["pid"], record["status"]) == (pid, 7)
    assert record["exited_at"] // 10**9 == answer.exited_at.seconds
    assert [each() for each in read] == [b"out\n", b"err\n"]
    assert task.state().status == 3
    deleted = task.delete()
    assert (deleted.pid, deleted.exit_status, deleted.exited_at) == (pid, 7, answer.exited_at)
    assert not os.path.ismount(task.bundle / "rootfs")
    assert not list((zygote.place / "runtime").iterdir())
    with pytest.raises(Refused) as refused:
        task.state()
    assert refused.value.code == NOT_FOUND


def test_a_signal_is_128_and_its_number(zygote: Zygote) -> None:
    task = zygote.task("sleep", "1000")
    task.create()
    task.start()
    with pytest.raises(Refused) as refused:
        task.delete()
    assert refused.value.code == PRECONDITION
    task.kill(signal.SIGKILL)
    assert task.wait().exit_status == 137
    with pytest.raises(Refused) as refused:
        task.kill(signal.SIGTERM)
    assert refused.value.code == NOT_FOUND
    assert "process already finished" in refused.value.message
    assert task.delete().exit_status == 137


def test_a_created_container_can_be_deleted(zygote: Zygote) -> None:
    task = zygote.task("true")
    pid = task.create()
    waiting = task.client.begin("Wait", pb.WaitRequest(id=task.id))
    task.delete()
    assert task.client.finish(waiting, pb.WaitResponse()).exit_status == 137
    assert not alive(pid)


def test_signals_have_their_default_meaning_in_a_container(zygote: Zygote) -> None:
    task = zygote.task("sh", "-c", "cat /proc/self/status; exec sleep 1000")
    log = task.bundle / "status"
    task.create(stdout=f"file://{log}")
    task.start()
    eventually(lambda: "SigIgn" in log.read_text() and "\nSigCgt" in log.read_text())
    status = dict(re.findall(r"^(Sig\w+):\s+(\w+)$", log.read_text(), re.MULTILINE))
    standard = (1 << 31) - 1
    assert int(status["SigIgn"], 16) & standard == 0
    assert int(status["SigBlk"], 16) == 0
    task.kill(signal.SIGKILL)


def test_a_program_that_is_not_there_is_a_clear_error_and_leaves_nothing(zygote: Zygote) -> None:
    task = zygote.task("/no/such/program")
    with pytest.raises(Refused) as refused:
        task.create()
        task.start()
    assert "no such" in refused.value.message.lower()
    task.remove()
    eventually(lambda: not os.path.ismount(task.bundle / "rootfs"))


def test_a_create_that_fails_leaves_nothing_and_can_be_tried_again(zygote: Zygote) -> None:
    task = zygote.task("true")
    config = (task.bundle / "config.json").read_text()
    (task.bundle / "config.json").write_text("{}")
    with pytest.raises(Refused):
        task.create()
    assert not os.path.ismount(task.bundle / "rootfs")
    (task.bundle / "config.json").write_text(config)
    task.create()
    task.start()
    assert task.wait().exit_status == 0


def test_a_root_filesystem_that_cannot_be_mounted_is_named(runc: Zygote) -> None:
    task = runc.task("true")
    task.rootfs[0].options[0] = "lowerdir=/no/such/directory"
    with pytest.raises(Refused) as refused:
        task.create()
    assert "rootfs" in refused.value.message


def test_a_hundred_megabytes_go_through_cat_byte_for_byte(zygote: Zygote) -> None:
    task = zygote.task("cat")
    stdin, stdout = task.fifo("in"), task.fifo("out")
    task.create(stdin=stdin, stdout=stdout)
    task.start()
    block = os.urandom(1 << 20)
    sent = hashlib.sha256()

    def write() -> None:
        with open(stdin, "wb", buffering=0) as writer:
            for number in range(100):
                data = number.to_bytes(4, "big") + block[4:]
                sent.update(data)
                assert writer.write(data) == len(data)

    writer = threading.Thread(target=write)
    writer.start()
    received = hashlib.sha256()
    with open(stdout, "rb") as pipe:
        while data := pipe.read(1 << 18):
            received.update(data)
    writer.join()
    assert received.digest() == sent.digest()
    assert task.wait().exit_status == 0


def test_close_io_ends_stdin_after_what_was_written(zygote: Zygote) -> None:
    task = zygote.task("cat")
    stdin, stdout = task.fifo("in"), task.fifo("out")
    read = reader(stdout)
    task.create(stdin=stdin, stdout=stdout)
    task.start()
    with open(stdin, "wb", buffering=0) as writer:
        writer.write(b"last words")
        task.client.call("CloseIO", pb.CloseIORequest(id=task.id, stdin=True))
        assert task.wait().exit_status == 0
    assert read() == b"last words"


def test_a_reader_may_come_late_go_and_return(runc: Zygote) -> None:
    task = runc.task("sh", "-c", "echo one; read x; echo two; read x; echo three; read x")
    stdin, stdout = task.fifo("in"), task.fifo("out")
    task.create(stdin=stdin, stdout=stdout)
    task.start()
    time.sleep(0.2)
    with open(stdin, "wb", buffering=0) as writer:
        for word in (b"one\n", b"two\n", b"three\n"):
            with open(stdout, "rb", buffering=0) as pipe:
                assert pipe.read(100) == word
            writer.write(b"\n")
    assert task.wait().exit_status == 0


def test_output_that_nobody_has_read_yet_waits_for_delete(runc: Zygote) -> None:
    task = runc.task("echo", "kept")
    stdout = task.fifo("out")
    task.create(stdout=stdout)
    task.start()
    task.wait()
    with open(os.open(stdout, os.O_RDONLY | os.O_NONBLOCK), "rb") as pipe:
        assert pipe.read() == b"kept\n"


def test_a_file_takes_both_streams(runc: Zygote) -> None:
    task = runc.task("sh", "-c", "echo a; echo b >&2; echo c")
    log = task.bundle / "log"
    task.create(stdout=f"file://{log}", stderr=f"file://{log}")
    task.start()
    task.wait()
    assert log.read_text() == "a\nb\nc\n"


def test_a_json_log_has_docker_s_lines_and_a_copy_for_readers(runc: Zygote) -> None:
    script = "echo first; read x; printf 'no end'; echo err >&2; read x; seq 1 20000"
    task = runc.task("sh", "-c", script)
    stdin, copy = task.fifo("in"), task.fifo("copy")
    log = task.bundle / "logs" / "json.log"
    task.create(stdin=stdin, stdout=f"json-file://{log}?copy={copy}", stderr=f"json-file://{log}")
    task.start()
    eventually(lambda: "first" in log.read_text())  # nobody reads the copy: nothing is held up
    with open(stdin, "wb", buffering=0) as writer:
        with open(os.open(copy, os.O_RDONLY | os.O_NONBLOCK), "rb", buffering=0) as pipe:
            writer.write(b"\n")
            assert eventually(lambda: pipe.read(100)) == b"no end"
        eventually(lambda: "err" in log.read_text())
        there = os.open(copy, os.O_RDONLY | os.O_NONBLOCK)  # the thread may be late
        read = reader(copy)
        writer.write(b"\n")
        assert task.wait().exit_status == 0
    task.delete()
    os.close(there)
    numbers = "".join(f"{n}\n" for n in range(1, 20001))
    assert read() == numbers.encode()
    entries = [json.loads(line) for line in log.read_text().splitlines()]
    assert set(map(frozenset, entries)) == {frozenset({"log", "stream", "time"})}
    text = "".join(entry["log"] for entry in entries if entry["stream"] == "stdout")
    assert text == "first\nno end" + numbers
    assert [entry["log"] for entry in entries if entry["stream"] == "stderr"] == ["err\n"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z", entries[0]["time"])


def test_a_reader_of_the_copy_that_leaves_while_it_is_full_holds_nobody_up(runc: Zygote) -> None:
    task = runc.task("sh", "-c", "read x; seq 1 200000; read x; echo end")
    stdin, copy = task.fifo("in"), task.fifo("copy")
    log = task.bundle / "json.log"
    task.create(stdin=stdin, stdout=f"json-file://{log}?copy={copy}")
    task.start()
    with open(stdin, "wb", buffering=0) as writer:
        idle = os.open(copy, os.O_RDONLY | os.O_NONBLOCK)
        writer.write(b"\n")
        time.sleep(0.5)  # by now the copy is full and the shim waits for its reader
        os.close(idle)
        eventually(lambda: '"200000' in log.read_text()[-200:])
        others = [shims.Client(task.address) for _ in range(4)]  # descriptors are used anew
        for other in others:
            request = pb.StateRequest(id=task.id)
            assert other.call("State", request, pb.StateResponse()).status == 2
            other.close()
        writer.write(b"\n")
    assert task.wait().exit_status == 0


def test_a_terminal_is_resized_and_relayed(zygote: Zygote) -> None:
    task = zygote.task("sh", "-c", "read x; stty size; echo got $x; tty; exit 5", terminal=True)
    stdin, stdout = task.fifo("in"), task.fifo("out")
    read = reader(stdout)
    task.create(terminal=True, stdin=stdin, stdout=stdout)
    task.start()
    task.client.call("ResizePty", pb.ResizePtyRequest(id=task.id, width=99, height=33))
    with open(stdin, "wb", buffering=0) as writer:
        writer.write(b"hello\n")
        assert task.wait().exit_status == 5
    task.delete()
    lines = read().replace(b"\r", b"").split(b"\n")
    assert lines[0] == b"hello"  # the terminal's echo
    assert b"33 99" in lines
    assert b"got hello" in lines


def test_a_terminal_is_there_for_who_attaches_later(runc: Zygote) -> None:
    task = runc.task("sh", "-c", "read a; echo 1=$a; read b; echo 2=$b", terminal=True)
    stdin, stdout = task.fifo("in"), task.fifo("out")
    read = reader(stdout)
    task.create(terminal=True, stdin=stdin, stdout=stdout)
    task.start()
    for word in (b"x\n", b"y\n"):
        time.sleep(0.1)
        with open(stdin, "wb", buffering=0) as writer:
            writer.write(word)
    assert task.wait().exit_status == 0
    task.delete()
    assert b"1=x" in read().replace(b"\r", b"")


def test_a_terminal_that_nobody_reads_holds_nobody_up(runc: Zygote) -> None:
    task = runc.task("seq", "1", "100000", terminal=True)
    task.create(terminal=True)
    task.start()
    assert task.wait().exit_status == 0


def test_further_processes_run_in_the_container(zygote: Zygote) -> None:
    task = zygote.task("sleep", "1000")
    task.create()
    task.start()
    out = task.fifo("out")
    read = reader(out)
    task.exec("e1", shims.process("sh", "-c", "hostname; echo $$; exit 3"), stdout=out)
    assert task.state("e1").status == 1
    waiting = task.client.begin("Wait", pb.WaitRequest(id=task.id, exec_id="e1"))
    pid = task.start("e1")
    assert pid > 0
    answer = task.client.finish(waiting, pb.WaitResponse())
    assert answer.exit_status == 3
    assert read().splitlines()[1] != b"1"
    with pytest.raises(Refused) as refused:
        task.exec("e1", shims.process("true"))
    assert refused.value.code == EXISTS
    assert task.delete("e1").exit_status == 3
    task.exec("e2", shims.process("sleep", "1000"))
    pid = task.start("e2")
    processes = task.client.call("Pids", pb.PidsRequest(id=task.id), pb.PidsResponse()).processes
    assert pid in {entry.pid for entry in processes}
    told = [entry.info for entry in processes if entry.pid == pid]
    assert told[0].type_url == "containerd.runc.v1.ProcessDetails"
    assert oci_pb2.ProcessDetails.FromString(told[0].value).exec_id == "e2"
    task.kill(signal.SIGTERM, "e2")
    assert task.wait("e2").exit_status == 143
    assert task.state().status == 2


def test_a_process_with_a_terminal(zygote: Zygote) -> None:
    task = zygote.task("sleep", "1000")
    task.create()
    task.start()
    out = task.fifo("out")
    read = reader(out)
    # the request says that it has a terminal, and that is what counts
    task.exec("tty", shims.process("sh", "-c", "test -t 0 && echo is"), terminal=True, stdout=out)
    task.start("tty")
    assert task.wait("tty").exit_status == 0
    task.delete("tty")
    assert read() == b"is\r\n"


def test_a_process_that_cannot_start_is_an_error_also_for_who_waits(zygote: Zygote) -> None:
    task = zygote.task("sleep", "1000")
    task.create()
    task.start()
    task.exec("bad", shims.process("/no/such/program"))
    waiting = task.client.begin("Wait", pb.WaitRequest(id=task.id, exec_id="bad"))
    with pytest.raises(Refused) as refused:
        task.start("bad")
    assert "no such" in refused.value.message.lower()
    assert task.client.finish(waiting, pb.WaitResponse()).exit_status != 0
    task.delete("bad")
    task.exec("bad", shims.process("true"))
    task.start("bad")
    assert task.wait("bad").exit_status == 0


def test_many_short_processes_lose_no_exit(zygote: Zygote) -> None:
    task = zygote.task("sleep", "1000")
    task.create()
    task.start()
    names = [f"e{number}" for number in range(8)]
    for number, name in enumerate(names):
        task.exec(name, shims.process("sh", "-c", f"exit {number}"))
    waiting = [
        task.client.begin("Wait", pb.WaitRequest(id=task.id, exec_id=name)) for name in names
    ]
    starting = [
        task.client.begin("Start", pb.StartRequest(id=task.id, exec_id=name)) for name in names
    ]
    for stream in starting:
        task.client.finish(stream, pb.StartResponse())
    codes = [task.client.finish(stream, pb.WaitResponse()).exit_status for stream in waiting]
    assert codes == list(range(8))


def test_start_is_answered_before_the_end_of_what_was_started(runc: Zygote) -> None:
    for number in range(5):
        task = runc.task("true")
        task.create()
        order = [
            task.client.begin("Wait", pb.WaitRequest(id=task.id)),
            task.client.begin("Start", pb.StartRequest(id=task.id)),
        ]
        seen: list[int] = []
        while len(seen) < 2:
            frames = task.client._decoder.feed(task.client._socket.recv(4096))
            seen += [frame.stream for frame in frames]
        assert seen == order[::-1], number


def test_pause_and_resume(zygote: Zygote) -> None:
    task = zygote.task("sleep", "1000")
    task.create()
    task.start()
    task.client.call("Pause", pb.PauseRequest(id=task.id))
    assert task.state().status == 4
    task.client.call("Resume", pb.ResumeRequest(id=task.id))
    assert task.state().status == 2


def test_update_changes_limits_and_stats_show_them(zygote: Zygote) -> None:
    task = zygote.task("sleep", "1000")
    task.create()
    task.start()
    request = pb.UpdateTaskRequest(id=task.id)
    request.resources.value = json.dumps({"memory": {"limit": 64 << 20}}).encode()
    task.client.call("Update", request)
    # runc's own threads are in the cgroup until it has become the program
    eventually(lambda: Path(f"/proc/{task.state().pid}/comm").read_text() == "sleep\n")
    stats = task.client.call("Stats", pb.StatsRequest(id=task.id), pb.StatsResponse()).stats
    assert stats.type_url == "io.containerd.cgroups.v1.Metrics"
    found = metrics_pb2.Metrics.FromString(stats.value)
    assert found.memory.usage.limit == 64 << 20
    assert 0 < found.memory.usage.usage < 64 << 20
    assert found.pids.current == 1
    assert found.pids.limit == 0
    assert found.cpu.usage.total > 0


def test_without_a_pid_namespace_all_processes_end_with_init(zygote: Zygote) -> None:
    script = "sleep 61 & echo $!; exit 0"
    task = zygote.task("sh", "-c", script, namespaces=("ipc", "uts", "mount", "network"))
    out = task.bundle / "log"
    task.create(stdout=f"file://{out}")
    task.start()
    assert task.wait().exit_status == 0
    pid = int(out.read_text())
    eventually(lambda: not alive(pid))


def test_connect_says_who_is_there(zygote: Zygote) -> None:
    task = zygote.task("sleep", "1000")
    pid = task.create()
    other = shims.Client(task.address, "containerd.task.v3.Task")
    found = other.call("Connect", pb.ConnectRequest(id=task.id), pb.ConnectResponse())
    assert (found.shim_pid, found.task_pid) == (task.shim_pid, pid)
    other.close()


def test_options_choose_the_runtime_and_its_root(runc: Zygote, short_tmp: Path) -> None:
    task = runc.task("sleep", "1000")
    options = oci_pb2.Options(binary_name="/usr/sbin/runc", root=str(short_tmp / "other"))
    request: dict[str, Any] = {"options": {"type_url": "containerd.runc.v1.Options"}}
    request["options"]["value"] = options.SerializeToString()
    task.create(**request)
    assert (short_tmp / "other" / "tests" / task.id).is_dir()
    # whoever cleans up after this shim must find it too
    assert json.loads((task.bundle / "runtime").read_text())["root"] == f"{short_tmp}/other/tests"


def test_what_a_shim_does_not_know_is_an_error(runc: Zygote) -> None:
    task = runc.task("true")
    for method, request, code in (
        ("Start", pb.StartRequest(id=task.id), NOT_FOUND),
        ("Nonsense", pb.StartRequest(), UNIMPLEMENTED),
    ):
        with pytest.raises(Refused) as refused:
            task.client.call(method, request)
        assert refused.value.code == code
    task.create()
    with pytest.raises(Refused) as refused:
        task.exec("../x", shims.process("true"))
    assert refused.value.code == INVALID
    with pytest.raises(Refused) as refused:
        task.kill(999)
    assert refused.value.code == INVALID


def test_a_killed_zygote_takes_no_shim_with_it(runc: Zygote) -> None:
    task = runc.task("sh", "-c", "sleep 1; exit 9")
    task.create()
    task.start()
    assert runc.process is not None
    runc.process.kill()
    runc.process.wait()
    other = shims.Client(task.address)
    waiting = other.begin("Wait", pb.WaitRequest(id=task.id))
    assert other.finish(waiting, pb.WaitResponse()).exit_status == 9
    other.close()
    assert task.delete().exit_status == 9


def test_a_zygote_ends_with_its_channel_and_shims_at_shutdown(runc: Zygote) -> None:
    task = runc.task("sleep", "1000")
    task.create()
    task.start()
    assert runc.process is not None
    assert runc.channel is not None
    runc.channel.close()
    assert runc.process.wait(60) == 0
    assert task.state().status == 2
    shutdown = pb.ShutdownRequest(id=task.id)
    task.client.call("Shutdown", shutdown)  # not while there is a task
    task.kill(9)
    task.wait()
    task.delete()
    task.client.call("Shutdown", shutdown)
    eventually(lambda: not alive(task.shim_pid))
    assert not os.path.exists(task.address.removeprefix("unix://"))


def test_requests_may_be_in_flight_together_and_errors_are_answered(runc: Zygote) -> None:
    assert "error" in runc.ask(n=1, namespace="tests", id="x", bundle="/no/such", address="a")
    assert runc.channel is not None
    for number in range(5):
        bundle = runc.place / f"b{number}"
        bundle.mkdir()
        request = {"n": number, "namespace": "tests", "id": f"x{number}", "bundle": str(bundle)}
        runc.channel.send(json.dumps({**request, "address": str(runc.place)}).encode())
    answers = [json.loads(runc.channel.recv(1 << 16)) for _ in range(5)]
    assert {answer["n"] for answer in answers} == set(range(5))
    for answer in answers:
        path = answer["address"].removeprefix("unix://")
        assert os.stat(path).st_mode & 0o777 == 0o600
        client = shims.Client(answer["address"])
        client.call("Shutdown", pb.ShutdownRequest(now=True))
        client.close()
        eventually(lambda path=path: not os.path.exists(path))


def test_a_shim_holds_no_descriptor_of_the_zygote(runc: Zygote) -> None:
    first, second = runc.task("sleep", "1000"), runc.task("sleep", "1000")
    for task in (first, second):
        task.create()
        task.start()
        assert runc.process is not None
        theirs = set(links(runc.process.pid))
        shared = {link for link in theirs & set(links(task.shim_pid)) if "/dev/null" not in link}
        assert not {link for link in shared if link.startswith(("pipe:", "socket:"))}


def links(pid: int) -> list[str]:
    return [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")]


def test_orphans_of_a_shared_pid_namespace_are_reaped(runc: Zygote) -> None:
    script = "for i in 1 2 3 4 5; do (sleep 0.1 & echo $! >> /pids); done; sleep 1000"
    task = runc.task("sh", "-c", script, namespaces=("ipc", "uts", "mount", "network"))
    task.create()
    task.start()
    orphans = task.bundle / "upper/pids"
    eventually(lambda: orphans.exists() and len(orphans.read_text().split()) == 5)
    eventually(lambda: not any(alive(int(pid)) for pid in orphans.read_text().split()))
    children = Path(f"/proc/{task.shim_pid}/task/{task.shim_pid}/children")
    eventually(lambda: len(children.read_text().split()) == 1)


def test_fields_of_task_are_answered_by_state(runc: Zygote) -> None:
    task: Task = runc.task("sleep", "1000")
    out = task.fifo("out")
    pid = task.create(stdout=out)
    task.start()
    found = task.state()
    assert (found.id, found.bundle, found.pid) == (task.id, str(task.bundle), pid)
    assert (found.status, found.stdout, found.terminal) == (2, out, False)
