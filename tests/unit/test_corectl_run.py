"""corectl run against a workloads service whose containers are plain processes."""

from __future__ import annotations

import hashlib
import os
import pty
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.patience import eventually
from tests.servers import Processes, Server, serving


@pytest.fixture
def processes() -> Processes:
    return Processes()


@pytest.fixture
def server(short_tmp: Path, processes: Processes) -> Iterator[Server]:
    with serving(short_tmp / "sock", processes) as running:
        yield running
        running.run(processes.close)


@pytest.fixture
def runtime_dir(short_tmp: Path) -> Iterator[Path]:
    """Where the pipes go; empty again at the end."""
    path = short_tmp / "run"
    path.mkdir()
    yield path
    assert list(path.iterdir()) == []


Popen = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def corectl(server: Server, runtime_dir: Path) -> Popen:
    environment = {**os.environ, "XDG_RUNTIME_DIR": str(runtime_dir)}

    def popen(*arguments: str, **options: Any) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "corectl", "--address", str(server.address), *arguments]
        return subprocess.Popen(
            command,
            **{  # type: ignore[call-overload]
                "stdin": subprocess.DEVNULL,
                "stdout": subprocess.PIPE,
                "stderr": subprocess.PIPE,
                "env": environment,
                "start_new_session": True,
                **options,
            },
        )

    return popen


def finish(running: subprocess.Popen[bytes], data: bytes | None = None) -> tuple[int, bytes, bytes]:
    out, err = running.communicate(data, timeout=60)
    return running.returncode, out, err


def test_output_streams_and_exit_code_are_the_containers(corectl: Popen) -> None:
    script = "echo out; echo err >&2; exit 7"
    assert finish(corectl("run", "busybox", "sh", "-c", script)) == (7, b"out\n", b"err\n")


def test_options_after_the_image_belong_to_the_command(
    corectl: Popen, processes: Processes
) -> None:
    assert finish(corectl("run", "busybox", "echo", "--rm", "-d", "--", "-x"))[1] == (
        b"--rm -d -- -x\n"
    )
    assert not processes.made["made-0"].config.auto_remove


def test_a_process_that_dies_of_a_signal_is_128_and_more(corectl: Popen) -> None:
    assert finish(corectl("run", "busybox", "sh", "-c", "kill -9 $$"))[0] == 137


def test_input_reaches_the_container_and_ends(corectl: Popen) -> None:
    running = corectl("run", "-i", "busybox", "cat", stdin=subprocess.PIPE)
    assert finish(running, b"there and back") == (0, b"there and back", b"")


def test_input_is_not_attached_unless_asked_for(corectl: Popen) -> None:
    running = corectl("run", "busybox", "cat", stdin=subprocess.PIPE)
    assert finish(running, b"nobody reads this")[:2] == (0, b"")


def test_a_hundred_megabytes_come_back_byte_for_byte(corectl: Popen, tmp_path: Path) -> None:
    source = tmp_path / "random"
    block = os.urandom(1 << 20)
    with source.open("wb") as file:
        for number in range(100):
            file.write(number.to_bytes(4, "big") + block[4:])
    with source.open("rb") as stdin:
        running = corectl("run", "-i", "busybox", "cat", stdin=stdin)
        assert running.stdout is not None
        out = hashlib.sha256()
        while data := running.stdout.read(1 << 20):
            out.update(data)
    assert finish(running)[0] == 0
    assert out.hexdigest() == hashlib.sha256(source.read_bytes()).hexdigest()


def test_all_output_is_passed_on_to_a_slow_reader(corectl: Popen) -> None:
    running = corectl("run", "busybox", "sh", "-c", "head -c 3000000 /dev/zero")
    time.sleep(1.5)
    assert len(finish(running)[1]) == 3_000_000


def test_a_command_that_is_not_there_is_127(corectl: Popen, processes: Processes) -> None:
    code, _, err = finish(corectl("run", "--rm", "busybox", "/no/such/command"))
    assert code == 127
    assert err == b'corectl: exec: "/no/such/command": No such file or directory\n'
    assert processes.removed == ["made-0"]


def test_a_command_that_cannot_be_run_is_126(corectl: Popen) -> None:
    assert finish(corectl("run", "busybox", "/etc/passwd"))[0] == 126


def test_an_absent_image_is_pulled(corectl: Popen, processes: Processes) -> None:
    code, out, err = finish(corectl("run", "other", "echo", "hello"))
    assert (code, out) == (0, b"hello\n")
    assert b"downloading" in err
    assert "other" in processes.images


def test_an_absent_image_is_not_pulled_when_told(corectl: Popen) -> None:
    code, _, err = finish(corectl("run", "--pull=never", "other", "true"))
    assert (code, err) == (125, b"corectl: image 'other': not found\n")


def test_an_image_that_nobody_has_is_two_lines(corectl: Popen) -> None:
    code, _, err = finish(corectl("run", "absent", "true"))
    first, second = err.decode().splitlines()
    assert (code, first) == (125, "corectl: image 'absent': not here: pulling it")
    assert "no such thing in the registry" in second


def test_detached_prints_the_id(corectl: Popen, processes: Processes) -> None:
    code, out, _ = finish(corectl("run", "-d", "--name", "web", "busybox", "true"))
    assert (code, out) == (0, b"web\n")
    assert processes.made["web"].stdio.stdout == ""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGQUIT])
def test_signals_are_passed_on(corectl: Popen, number: signal.Signals) -> None:
    script = f"trap 'echo got; exit 33' {number.name[3:]}; echo ready; while :; do sleep 0.05; done"
    running = corectl("run", "busybox", "sh", "-c", script)
    assert running.stdout is not None
    assert running.stdout.readline() == b"ready\n"
    running.send_signal(number)
    assert finish(running)[:2] == (33, b"got\n")


def test_ctrl_c_ends_what_listens_to_it(corectl: Popen, processes: Processes) -> None:
    script = "trap 'exit 5' INT; echo ready; while :; do sleep 0.05; done"
    running = corectl("run", "busybox", "sh", "-c", script)
    assert running.stdout is not None
    running.stdout.readline()
    running.send_signal(signal.SIGINT)
    assert finish(running) == (5, b"", b"")
    assert processes.made["made-0"].signals == [signal.SIGINT]


def test_ctrl_c_ends_what_ignores_it(corectl: Popen, processes: Processes) -> None:
    script = "trap '' INT TERM; echo ready; while :; do sleep 0.05; done"
    running = corectl("run", "busybox", "sh", "-c", script)
    assert running.stdout is not None
    running.stdout.readline()
    running.send_signal(signal.SIGINT)
    code, _, err = finish(running)
    assert code == 137
    assert processes.made["made-0"].signals == [2, 15, 9]
    assert b"SIGINT did not end it, sending SIGTERM" in err
    assert b"SIGTERM did not end it, sending SIGKILL" in err


def test_ctrl_c_again_does_not_wait(corectl: Popen, processes: Processes) -> None:
    script = "trap : INT TERM; echo ready; while :; do sleep 0.05; done"
    running = corectl("run", "busybox", "sh", "-c", script)
    assert running.stdout is not None
    running.stdout.readline()
    for number in range(1, 4):
        running.send_signal(signal.SIGINT)
        eventually(lambda n=number: len(processes.made["made-0"].signals) >= n)  # type: ignore[misc]
    assert finish(running)[0] == 137
    assert processes.made["made-0"].signals == [2, 15, 9]


def test_a_reader_that_goes_away_ends_the_container(corectl: Popen) -> None:
    running = corectl("run", "busybox", "yes")
    assert running.stdout is not None
    running.stdout.read(100)
    running.stdout.close()
    running.stdout = None
    code, _, err = finish(running)
    assert code >= 128
    assert err == b""


def test_the_exit_code_survives_the_daemon(corectl: Popen, server: Server) -> None:
    running = corectl("run", "busybox", "sh", "-c", "echo started; sleep 1.5; echo late; exit 9")
    assert running.stdout is not None
    assert running.stdout.readline() == b"started\n"
    server.run(server.stop)
    time.sleep(0.5)
    server.run(server.start)
    assert finish(running)[:2] == (9, b"late\n")


def test_an_end_without_a_daemon_is_asked_of_the_next(corectl: Popen, server: Server) -> None:
    running = corectl("run", "busybox", "sh", "-c", "echo started; sleep 0.3; exit 9")
    assert running.stdout is not None
    running.stdout.readline()
    server.run(server.stop)
    time.sleep(1)
    server.run(server.start)
    assert finish(running)[0] == 9


def test_a_daemon_that_dies_over_the_start_is_survived(
    corectl: Popen, server: Server, processes: Processes
) -> None:
    processes.lateness = 30
    running = corectl("run", "--rm", "busybox", "sh", "-c", "echo started; sleep 0.6; exit 9")
    assert running.stdout is not None
    running.stdout.readline()
    server.run(server.stop)
    server.run(server.start)
    assert finish(running) == (9, b"", b"")


def test_without_a_daemon_one_can_leave(
    corectl: Popen, server: Server, processes: Processes
) -> None:
    running = corectl("run", "busybox", "sh", "-c", "echo started; exec sleep 30")
    assert running.stdout is not None
    running.stdout.readline()
    server.run(server.stop)
    running.send_signal(signal.SIGINT)
    assert running.stderr is not None
    assert b"Ctrl-C again leaves" in running.stderr.readline()
    running.send_signal(signal.SIGINT)
    code, _, err = finish(running)
    assert (code, err.count(b"\n")) == (125, 1)
    popen = processes.made["made-0"].popen
    assert popen is not None
    assert popen.poll() is None
    popen.kill()


def test_a_terminal_is_raw_sized_and_restored(corectl: Popen, processes: Processes) -> None:
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (33, 99))
    before = termios.tcgetattr(theirs)
    script = "read line; echo got-$line"
    running = corectl(
        *("run", "-it", "busybox", "sh", "-c", script), stdin=theirs, stdout=theirs, stderr=theirs
    )
    eventually(lambda: termios.tcgetattr(theirs)[3] & termios.ICANON == 0)
    os.write(ours, b"keys\n")
    assert running.wait(60) == 0
    assert b"got-keys" in os.read(ours, 4096)
    assert termios.tcgetattr(theirs) == before
    assert processes.sizes[0] == (99, 33)
    os.close(theirs)
    os.close(ours)


def test_a_terminal_needs_a_terminal(corectl: Popen) -> None:
    code, _, err = finish(corectl("run", "-it", "busybox", "true"))
    assert code == 1  # as docker has it
    assert b"not a terminal" in err


def test_an_ignored_signal_stays_ignored(corectl: Popen, processes: Processes) -> None:
    script = "echo ready; sleep 0.5; exit 4"
    running = corectl(
        *("run", "busybox", "sh", "-c", script),
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN),
    )
    assert running.stdout is not None
    running.stdout.readline()
    running.send_signal(signal.SIGHUP)
    assert finish(running)[0] == 4
    assert processes.made["made-0"].signals == []
