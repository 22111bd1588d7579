"""exec and attach: streams, terminals, users, exit codes, detaching."""

from __future__ import annotations

import os
import pty
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.daemons import CORECTL, Daemon
from tests.patience import eventually

pytestmark = pytest.mark.root


class Terminal:
    """corectl on a terminal."""

    def __init__(self, ours: int, process: subprocess.Popen[bytes]) -> None:
        self.ours, self.process = ours, process
        self.seen = b""

    def type(self, data: bytes) -> None:
        os.write(self.ours, data)

    def sees(self, words: bytes) -> None:
        """Read until ``words`` appear."""
        while words not in self.seen:
            data = os.read(self.ours, 4096)
            assert data
            self.seen += data

    def ends(self) -> int:
        while True:
            try:
                data = os.read(self.ours, 4096)
            except OSError:
                break
            if not data:
                break
            self.seen += data
        return self.process.wait(60)


@contextmanager
def terminal(daemon: Daemon, *arguments: str) -> Iterator[Terminal]:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*CORECTL, "--address", str(daemon.address), *arguments],
        stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
    )  # fmt: skip
    os.close(theirs)
    try:
        yield Terminal(ours, process)
    finally:
        process.kill()
        process.wait()
        os.close(ours)


@pytest.fixture(scope="module")
def box(daemon: Daemon) -> Iterator[str]:
    daemon.corectl(
        "run", "-d", "--name", "box", "-e", "OWN=1", "busybox", "sleep", "1000", check=True
    )
    yield "box"
    daemon.corectl("rm", "-f", "box", check=True)


def test_output_input_and_exit_code(daemon: Daemon, box: str) -> None:
    done = daemon.corectl("exec", "-i", box, "sh", "-c", "cat; echo e >&2; exit 7", input=b"in")
    assert (done.returncode, done.stdout, done.stderr) == (7, b"in", b"e\n")
    assert daemon.corectl("exec", box, "cat").stdout == b""


def test_what_cannot_be_run(daemon: Daemon, box: str) -> None:
    missing = daemon.corectl("exec", box, "nothing")
    assert missing.returncode == 127
    assert missing.stderr.count(b"\n") == 1
    assert daemon.corectl("exec", box, "/etc/passwd").returncode == 126
    assert daemon.corectl("exec", "nobody", "true").returncode == 1
    daemon.corectl("create", "--name", "idle", "busybox", "true", check=True)
    done = daemon.corectl("exec", "idle", "true")
    assert (done.returncode, b"is not running" in done.stderr) == (1, True)
    daemon.corectl("rm", "idle", check=True)


def test_user_directory_environment_and_rights(daemon: Daemon, box: str) -> None:
    words = ("-u", "7:8", "-w", "/tmp", "-e", "A=1", "-e", "B=x y", box)
    script = "id -u; id -g; pwd; echo $A $B $OWN; grep CapEff /proc/self/status"
    out = daemon.corectl("exec", *words, "sh", "-c", script, check=True).stdout.decode().split("\n")
    assert out[:4] == ["7", "8", "/tmp", "1 x y 1"]
    assert int(out[4].split()[1], 16) == 0
    raised = daemon.corectl("exec", "--privileged", box, "grep", "CapEff", "/proc/self/status")
    plain = daemon.corectl("exec", box, "grep", "CapEff", "/proc/self/status")
    assert int(raised.stdout.split()[1], 16) > int(plain.stdout.split()[1], 16)
    assert b"is not in the image" in daemon.corectl("exec", "-u", "nobody-here", box, "id").stderr


def test_a_detached_command_goes_on(daemon: Daemon, box: str) -> None:
    daemon.corectl("exec", "-d", box, "sh", "-c", "sleep 0.3; touch /detached", check=True)
    eventually(lambda: daemon.corectl("exec", box, "test", "-e", "/detached").returncode == 0)


def test_a_terminal(daemon: Daemon, box: str) -> None:
    with terminal(daemon, "exec", "-it", box, "sh") as shell:
        shell.type(b"tty && echo got-$((40+2)); exit 3\n")
        assert shell.ends() == 3
        assert b"got-42" in shell.seen
        assert b"/dev/pts" in shell.seen


def test_execs_end_with_their_container_and_are_shown_while_they_run(daemon: Daemon) -> None:
    daemon.corectl("run", "-d", "--name", "short", "busybox", "sleep", "1000", check=True)
    running = subprocess.Popen(
        [*CORECTL, "--address", str(daemon.address), "exec", "short", "sleep", "1000"]
    )
    shown = ("inspect", "-f", "{{len .ExecIDs}}", "short")
    eventually(lambda: daemon.corectl(*shown).stdout.strip() == b"1")
    daemon.corectl("rm", "-f", "short", check=True)
    assert running.wait(60) == 137


def test_detach_keys_leave_a_container_that_can_be_attached_again(
    daemon: Daemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    with terminal(daemon, "run", "-it", "--name", "left", "busybox", "sh") as first:
        first.type(b"A=kept; echo ready-$A\n")
        first.sees(b"ready-kept")
        first.type(b"\x10\x11")
        assert first.ends() == 0
        assert b"read escape sequence" in first.seen
    with terminal(daemon, "attach", "--detach-keys", "ctrl-x", "left") as second:
        second.type(b"echo still-$A\n")
        second.sees(b"still-kept")
        second.type(b"\x18")
        assert second.ends() == 0
    with terminal(daemon, "attach", "left") as third:
        third.type(b"exit 5\n")
        assert third.ends() == 5
    # the pipes that the first one has left
    assert list(tmp_path.iterdir()) == []
    daemon.corectl("rm", "left", check=True)


def test_attach_to_what_was_started_in_the_background(daemon: Daemon) -> None:
    daemon.corectl("run", "-dit", "--name", "back", "busybox", "sh", check=True)
    with terminal(daemon, "attach", "back") as shell:
        shell.type(b"echo here-$((1+1)); exit 4\n")
        assert shell.ends() == 4
        assert b"here-2" in shell.seen
    assert b"is not running" in daemon.corectl("attach", "back").stderr
    daemon.corectl("rm", "back", check=True)


@contextmanager
def attached(daemon: Daemon, name: str, count: int) -> Iterator[list[subprocess.Popen[bytes]]]:
    """So many who have attached to a container, on pipes."""
    command = [*CORECTL, "--address", str(daemon.address), "attach", name]
    pipe = subprocess.PIPE
    with ExitStack() as stack:
        found = []
        for _ in range(count):
            process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe)
            stack.enter_context(process)
            stack.callback(process.kill)
            found.append(process)
        joined(daemon, name, count)
        yield found


def joined(daemon: Daemon, name: str, count: int) -> None:
    """Wait until so many have attached to it."""
    told = ("events", "--since", "1m", "--until", "0s", "--filter", "event=attach",
            "--filter", f"container={name}")  # fmt: skip
    eventually(lambda: len(daemon.corectl(*told).stdout.splitlines()) == count)


def test_input_stays_open_when_who_attached_to_a_background_container_goes(daemon: Daemon) -> None:
    daemon.corectl("run", "-di", "--name", "cat", "busybox", "cat", check=True)
    with attached(daemon, "cat", 2) as both:
        for process, text in zip(both, (b"one\n", b"two\n"), strict=True):
            assert process.stdin and process.stdout
            process.stdin.write(text)
            process.stdin.close()
            process.stdin = None
            eventually(lambda text=text: text in daemon.corectl("logs", "cat").stdout)
            process.kill()
    assert daemon.corectl("inspect", "-f", "{{.State.Status}}", "cat").stdout == b"running\n"
    daemon.corectl("rm", "-f", "cat", check=True)


def test_all_who_attach_have_the_whole_output_and_may_write(daemon: Daemon) -> None:
    script = "read go; echo $go >&2; dd if=/dev/zero bs=1024 count=3000 2>/dev/null; printf end"
    daemon.corectl("run", "-di", "--name", "many", "--log-driver", "none", "busybox",
                   "sh", "-c", f"{script}; read more; exit $more", check=True)  # fmt: skip
    with attached(daemon, "many", 4) as (*crowd, quitter):
        quitter.kill()
        assert crowd[0].stdin and crowd[1].stdin
        crowd[1].stdin.write(b"said\n")
        crowd[1].stdin.flush()
        # what has no end of line is there at once, for everybody
        whole = bytes(3_072_000) + b"end"
        with ThreadPoolExecutor(3) as readers:
            seen = [readers.submit(one.stdout.read, len(whole)) for one in crowd if one.stdout]
            assert [each.result(60) == whole for each in seen] == [True] * 3
        crowd[0].stdin.write(b"7\n")
        crowd[0].stdin.flush()
        for one in crowd:
            assert one.wait(60) == 7
            assert one.communicate() == (b"", b"said\n")
    daemon.corectl("rm", "many", check=True)


def test_who_attaches_second_shares_the_terminal(daemon: Daemon) -> None:
    with terminal(daemon, "run", "-it", "--name", "shared", "busybox", "sh") as first:
        first.type(b"echo first-$((1+1))\n")
        first.sees(b"first-2")
        with terminal(daemon, "attach", "shared") as second:
            joined(daemon, "shared", 1)
            second.type(b"echo second-$((1+2))\n")
            second.sees(b"second-3")
            first.sees(b"second-3")
            second.type(b"\x10\x11")
            assert second.ends() == 0
        first.type(b"exit 9\n")
        assert first.ends() == 9
    daemon.corectl("rm", "shared", check=True)
