"""corectl with a daemon on another host: everything over mutual TLS, in real containers."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.daemons import CORECTL
from tests.living import glob
from tests.patience import eventually
from tests.remote import Remote, Wire, remote
from tests.screens import screen

pytestmark = pytest.mark.root

BIG = 12 << 20


@contextmanager
def begun(host: str, there: Remote, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """corectl with pipes to read; killed at the end."""
    with subprocess.Popen(
        [*CORECTL, *arguments],
        env={**there.environment, "CORED_HOST": host},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.fixture(scope="module")
def there(busybox: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Remote]:
    with remote(busybox, tmp_path_factory.mktemp("remote")) as running:
        yield running


@pytest.fixture(scope="module")
def box(there: Remote) -> Iterator[str]:
    there.corectl("run", "-d", "--name", "box", "busybox", "sleep", "1000")
    yield "box"
    there.corectl("rm", "-f", "box")


def test_run_has_both_outputs_and_the_exit_code(there: Remote) -> None:
    script = "echo out; echo err >&2; exit 7"
    done = there.corectl("run", "--rm", "busybox", "sh", "-c", script, check=False)
    assert (done.stdout, done.stderr, done.returncode) == (b"out\n", b"err\n", 7)


def test_input_ends_where_the_pipe_does(there: Remote) -> None:
    done = there.corectl("run", "-i", "--rm", "busybox", "wc", "-c", input=b"x" * 70_000)
    assert done.stdout.strip() == b"70000"


def test_exec_passes_streams_and_codes(there: Remote, box: str) -> None:
    done = there.corectl("exec", box, "sh", "-c", "echo out; echo err >&2; exit 9", check=False)
    assert (done.stdout, done.stderr, done.returncode) == (b"out\n", b"err\n", 9)
    assert there.corectl("exec", box, "absent", check=False).returncode == 127


@pytest.mark.parametrize("command", [("run", "--rm", "-i", "busybox"), ("exec", "-i", "box")])
def test_large_binaries_pass_both_ways_unharmed(
    there: Remote, box: str, command: tuple[str, ...]
) -> None:
    data = os.urandom(BIG)
    done = there.corectl(*command, "cat", input=data)
    assert hashlib.sha256(done.stdout).digest() == hashlib.sha256(data).digest()


def test_a_terminal_is_resized_and_left_and_joined_again(there: Remote) -> None:
    command = [*CORECTL, "run", "-it", "--name", "left", "busybox", "sh"]
    with screen(command, there.environment, 91, 31) as first:
        first.type(
            b"A=kept; until [ \"$(stty size)\" = '31 91' ]; do sleep 0.1; done; echo is-$A\n"
        )
        first.shows(rb"is-kept")
        first.resize(77, 22)
        first.type(
            b"until [ \"$(stty size)\" = '22 77' ]; do sleep 0.1; done; echo is-$(stty size)\n"
        )
        first.shows(rb"is-22 77")
        first.type(b"\x10\x11")
        assert first.ends() == 0
        assert b"read escape sequence" in first.seen
    with screen([*CORECTL, "attach", "left"], there.environment) as second:
        second.type(b"echo still-$A; exit 5\n")
        second.shows(rb"still-kept")
        assert second.ends() == 5
    there.corectl("rm", "left")
    # the pipes that the first one has left on the daemon's host
    eventually(lambda: not glob(there.daemon.home / "state", "**/corectl-*"))


def test_exec_with_a_terminal(there: Remote, box: str) -> None:
    with screen([*CORECTL, "exec", "-it", box, "sh"], there.environment, 66, 20) as shell:
        shell.type(b"tty; until [ \"$(stty size)\" = '20 66' ]; do sleep 0.1; done; exit 3\n")
        shell.shows(rb"/dev/pts/")
        assert shell.ends() == 3


def test_ctrl_c_reaches_a_container_elsewhere(there: Remote) -> None:
    script = "trap 'echo caught; exit 4' INT; echo ready; while :; do sleep 0.1; done"
    with begun(there.host, there, "run", "--rm", "busybox", "sh", "-c", script) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == b"ready\n"
        running.send_signal(signal.SIGINT)
        assert running.stdout.read() == b"caught\n"
        assert running.wait(60) == 4


def test_a_cut_wire_is_said_and_the_container_lives_on(there: Remote) -> None:
    wire = Wire(there.port)
    script = "while :; do echo tick; sleep 0.1; done"
    command = ("run", "--name", "cut", "busybox", "sh", "-c", script)
    with begun(wire.host, there, *command) as running:
        assert running.stdout is not None and running.stderr is not None
        assert running.stdout.readline() == b"tick\n"
        wire.cut()
        said = running.stderr.read().decode()
        assert running.wait(60) == 125
    assert "container 'cut': " in said and "connection lost" in said and "it goes on" in said
    assert there.corectl("inspect", "-f", "{{.State.Status}}", "cut").stdout == b"running\n"
    with (
        begun(there.host, there, "attach", "cut") as one,
        begun(there.host, there, "attach", "--no-stdin", "cut") as other,
    ):
        for joined in (one, other):
            assert joined.stdout is not None
            assert joined.stdout.readline() == b"tick\n"
        there.corectl("rm", "-f", "cut")
        assert (one.wait(60), other.wait(60)) == (137, 137)


def test_a_command_whose_client_is_gone_does_not_hang(there: Remote, box: str) -> None:
    wire = Wire(there.port)
    # more than pipes hold: it ends only when somebody goes on reading
    script = "echo begun; sleep 0.5; dd if=/dev/zero bs=65536 count=200; echo x > /finished"
    with begun(wire.host, there, "exec", box, "sh", "-c", script) as running:
        assert running.stdout is not None and running.stderr is not None
        assert running.stdout.readline() == b"begun\n"
        wire.cut()
        assert b"connection lost" in running.stderr.read()
        assert running.wait(60) == 1
    eventually(lambda: not there.corectl("exec", box, "cat", "/finished", check=False).returncode)


def test_files_go_both_ways(there: Remote, box: str, tmp_path: Path) -> None:
    data = os.urandom(1 << 20)
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "file").write_bytes(data)
    there.corectl("cp", str(tmp_path / "in"), f"{box}:/copied")
    there.corectl("cp", f"{box}:/copied/file", str(tmp_path / "out"))
    assert (tmp_path / "out").read_bytes() == data
    assert b"A /copied" in there.corectl("diff", box).stdout
    there.corectl("export", box, "-o", str(tmp_path / "all.tar"))
    with tarfile.open(tmp_path / "all.tar") as archive:
        assert archive.getmember("copied/file").size == len(data)


def test_images_are_built_saved_loaded_and_committed(
    there: Remote, box: str, tmp_path: Path
) -> None:
    (tmp_path / "Dockerfile").write_text("FROM busybox\nCOPY here /there\nRUN cat /there > /ran\n")
    (tmp_path / "here").write_text("sent along")
    there.corectl("build", "-t", "made", str(tmp_path))
    assert there.corectl("run", "--rm", "made", "cat", "/ran").stdout == b"sent along"
    there.corectl("save", "-o", str(tmp_path / "made.tar"), "made")
    there.corectl("rmi", "made")
    there.corectl("load", "-i", str(tmp_path / "made.tar"))
    there.corectl("exec", box, "sh", "-c", "echo committed > /mark")
    there.corectl("commit", box, "kept")
    assert there.corectl("run", "--rm", "kept", "cat", "/mark").stdout == b"committed\n"
    (tmp_path / "out").mkdir()
    there.corectl("build", "-q", "-o", f"type=local,dest={tmp_path / 'out'}", str(tmp_path))
    assert (tmp_path / "out" / "ran").read_text() == "sent along"


def test_logs_and_events_follow(there: Remote) -> None:
    script = "echo one; echo two >&2; sleep 1; echo three"
    wanted = ("--filter", "container=told", "--format", "{{.Action}}")
    with begun(there.host, there, "events", "--since", "1m", *wanted) as events:
        assert events.stdout is not None
        there.corectl("run", "-d", "--name", "told", "busybox", "sh", "-c", script)
        logs = there.corectl("logs", "-f", "told")
        assert (logs.stdout, logs.stderr) == (b"one\nthree\n", b"two\n")
        assert events.stdout.readline().strip() == b"create"
    there.corectl("rm", "-f", "told")


def test_what_is_only_on_this_machine_is_refused(there: Remote, tmp_path: Path) -> None:
    refused = (
        ("run", "-v", "./here:/there", "busybox"),
        ("create", "--mount", "type=bind,source=../x,target=/x", "busybox"),
        ("image", "mount", "busybox", str(tmp_path)),
        ("build", "--ssh", "default", str(tmp_path)),
    )
    for arguments in refused:
        done = there.corectl(*arguments, check=False)
        assert done.returncode != 0
        assert there.host in done.stderr.decode(), arguments
        assert done.stderr.count(b"\n") == 1


def test_an_application_has_its_files(there: Remote, tmp_path: Path) -> None:
    (tmp_path / "conf").write_text("configured")
    (tmp_path / "compose.yaml").write_text(
        """
name: far
services:
  web:
    image: busybox
    command: sleep 1000
    init: true
    configs: [{source: one, target: /etc/one}]
    secrets: [two]
configs: {one: {file: ./conf}}
secrets: {two: {environment: WORD}}
"""
    )
    environment = {**there.environment, "WORD": "hidden"}

    def compose(*arguments: str) -> str:
        done = subprocess.run(
            [*CORECTL, "compose", *arguments],
            cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    compose("up", "-d")
    assert compose("exec", "web", "cat", "/etc/one", "/run/secrets/two") == "configuredhidden"
    assert compose("run", "--rm", "web", "cat", "/run/secrets/two") == "hidden"
    compose("down")
