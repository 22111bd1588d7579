"""Debian's unmodified ctr against cored: terminals, attaching, execs, signals, limits."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.daemons import Daemon
from tests.patience import eventually

pytestmark = pytest.mark.root
IMAGE = "docker.io/library/busybox:latest"


class Terminal:
    """ctr with a terminal of ours around it."""

    def __init__(self, daemon: Daemon, *words: str) -> None:
        self._ours, theirs = pty.openpty()
        self.process = subprocess.Popen(
            ["ctr", "-a", str(daemon.address), *words],
            stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
        )  # fmt: skip
        os.close(theirs)
        self.seen = b""

    def type(self, text: str) -> None:
        os.write(self._ours, text.encode())

    def wait_for(self, text: str, seconds: float = 60.0) -> None:
        end = time.monotonic() + seconds
        while text.encode() not in self.seen:
            assert time.monotonic() < end, self.seen
            if select.select([self._ours], [], [], 0.1)[0]:
                with suppress(OSError):
                    self.seen += os.read(self._ours, 4096)

    def close(self) -> int:
        end = time.monotonic() + 60
        while self.process.poll() is None and time.monotonic() < end:
            if select.select([self._ours], [], [], 0.1)[0]:
                with suppress(OSError):
                    self.seen += os.read(self._ours, 4096)
        os.close(self._ours)
        return self.process.wait(60)


@contextmanager
def running(daemon: Daemon, name: str, *command: str) -> Iterator[None]:
    daemon.ctr("run", "-d", IMAGE, name, *command)
    try:
        yield
    finally:
        daemon.ctr("tasks", "rm", "-f", name, check=False)
        daemon.ctr("containers", "rm", name)


def test_a_terminal_is_one_inside_too(daemon: Daemon) -> None:
    terminal = Terminal(daemon, "run", "--rm", "-t", IMAGE, "tty", "sh")
    terminal.wait_for("# ")
    terminal.type("tty; stty size\n")
    terminal.wait_for("/dev/pts/0")
    terminal.type("exit 4\n")
    assert terminal.close() == 4


def test_an_exec_has_a_terminal_of_its_own(daemon: Daemon) -> None:
    with running(daemon, "host", "sleep", "1000"):
        terminal = Terminal(daemon, "tasks", "exec", "-t", "--exec-id", "sh", "host", "sh")
        terminal.wait_for("# ")
        terminal.type("echo $((6 * 7))\n")
        terminal.wait_for("42")
        terminal.type("exit 3\n")
        assert terminal.close() == 3


def ctr(daemon: Daemon, *words: str) -> subprocess.Popen[str]:
    """ctr with its streams in our hands."""
    return subprocess.Popen(
        ["ctr", "-a", str(daemon.address), *words],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip


def links(pid: int) -> list[str]:
    """What a process has open."""
    found = []
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):  # closed meanwhile
            found.append(os.readlink(link))
    return found


def said(process: subprocess.Popen[str], text: str) -> str:
    """What comes back for a line."""
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(f"{text}\n")
    process.stdin.flush()
    return process.stdout.readline()


def test_a_started_task_can_be_attached_to(daemon: Daemon) -> None:
    daemon.ctr("containers", "create", IMAGE, "talks", "cat")
    with ctr(daemon, "tasks", "start", "talks") as first:
        assert said(first, "one") == "one\n"
        with ctr(daemon, "tasks", "attach", "talks") as second:
            # it must be there before the other goes: a stdin without writers ends
            eventually(lambda: any("stdin" in link for link in links(second.pid)))
            first.kill()
            first.wait()
            assert said(second, "two") == "two\n"
            daemon.ctr("tasks", "kill", "-s", "SIGKILL", "talks")
            assert second.wait(60) == 137
    daemon.ctr("tasks", "rm", "-f", "talks", check=False)
    daemon.ctr("containers", "rm", "talks")


def test_many_execs_run_side_by_side(daemon: Daemon) -> None:
    with running(daemon, "busy", "sleep", "1000"):
        execs = [
            subprocess.Popen(
                ["ctr", "-a", str(daemon.address), "tasks", "exec", "--exec-id", f"e{n}", "busy",
                 "sh", "-c", f"sleep 0.2; echo {n}; exit {n}"],
                stdout=subprocess.PIPE, text=True,
            )
            for n in range(8)
        ]  # fmt: skip
        for number, process in enumerate(execs):
            out, _ = process.communicate(timeout=60)
            assert (out, process.returncode) == (f"{number}\n", number)


def test_metrics_name_what_a_task_uses(daemon: Daemon) -> None:
    with running(daemon, "measured", "sleep", "1000"):
        text = daemon.ctr("tasks", "metrics", "measured").stdout
        assert "memory." in text
        assert "pids.current" in text


def test_signals_reach_their_process_and_all_of_them(daemon: Daemon) -> None:
    program = "trap 'echo caught; exit 5' USR1; echo ready; while :; do sleep 0.1; done"
    process = subprocess.Popen(
        ["ctr", "-a", str(daemon.address), "run", IMAGE, "trap", "sh", "-c", program],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    daemon.ctr("tasks", "kill", "-s", "SIGUSR1", "trap")
    out, _ = process.communicate(timeout=60)
    assert (out, process.returncode) == ("caught\n", 5)
    daemon.ctr("containers", "rm", "trap")


def test_a_killed_exec_leaves_its_container_alone(daemon: Daemon) -> None:
    with running(daemon, "stays", "sleep", "1000"):
        process = subprocess.Popen(
            ["ctr", "-a", str(daemon.address), "tasks", "exec", "--exec-id", "victim", "stays",
             "sleep", "1000"]
        )  # fmt: skip
        eventually(lambda: len(daemon.ctr("tasks", "ps", "stays").stdout.splitlines()) == 3)
        daemon.ctr("tasks", "kill", "-s", "SIGKILL", "--exec-id", "victim", "stays")
        assert process.wait(60) == 137
        assert "RUNNING" in daemon.ctr("tasks", "ls").stdout


def test_options_of_run_take_effect(daemon: Daemon) -> None:
    done = daemon.ctr(
        "run", "--rm", "--env", "COLOUR=blue", "--cwd", "/tmp",
        "--read-only", "--memory-limit", "33554432", IMAGE, "options",
        "sh", "-c", "echo $COLOUR $PWD; touch /x 2>&1 | grep -c Read-only",
    )  # fmt: skip
    assert done.stdout.splitlines() == ["blue /tmp", "1"]
