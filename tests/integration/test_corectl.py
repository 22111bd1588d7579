"""corectl against a real daemon: what a user types and gets."""

from __future__ import annotations

import hashlib
import os
import pty
import signal
import subprocess
from pathlib import Path

import pytest

from tests.daemons import CORECTL, Daemon
from tests.patience import eventually

pytestmark = pytest.mark.root


def cli(daemon: Daemon, *arguments: str) -> list[str]:
    return [*CORECTL, "--address", str(daemon.address), *arguments]


def leftovers(daemon: Daemon) -> list[str]:
    """What a failed or finished run must not leave: containers, tasks, snapshots in use, mounts."""
    found = daemon.ctr("containers", "ls", "-q").stdout.split()
    found += daemon.ctr("tasks", "ls", "-q").stdout.split()
    found += [row for row in daemon.ctr("snapshots", "ls").stdout.splitlines() if "Active" in row]
    mounts = Path(f"/proc/{daemon.process.pid}/mounts").read_text()  # type: ignore[union-attr]
    return found + [line for line in mounts.splitlines() if str(daemon.home) in line]


def test_the_exit_code_is_the_containers(daemon: Daemon) -> None:
    done = daemon.corectl("run", "--rm", "busybox", "sh", "-c", "exit 7")
    assert done.returncode == 7
    assert not leftovers(daemon)


def test_a_hundred_megabytes_through_cat(daemon: Daemon, tmp_path: Path) -> None:
    source = tmp_path / "random"
    block = os.urandom(1 << 20)
    with source.open("wb") as file:
        for number in range(100):
            file.write(number.to_bytes(4, "big") + block[4:])
    with source.open("rb") as stdin:
        with subprocess.Popen(
            cli(daemon, "run", "--rm", "-i", "busybox", "cat"), stdin=stdin, stdout=subprocess.PIPE
        ) as running:
            assert running.stdout is not None
            out = hashlib.sha256()
            while data := running.stdout.read(1 << 20):
                out.update(data)
    assert running.returncode == 0
    assert out.hexdigest() == hashlib.sha256(source.read_bytes()).hexdigest()


@pytest.mark.parametrize("command", [["sleep", "1000"], ["sh", "-c", "trap '' INT; sleep 1000"]])
def test_ctrl_c_stops_the_container(daemon: Daemon, command: list[str]) -> None:
    running = subprocess.Popen(
        cli(daemon, "run", "--rm", "busybox", *command), stderr=subprocess.DEVNULL
    )
    eventually(lambda: "RUNNING" in daemon.ctr("tasks", "ls").stdout)
    running.send_signal(signal.SIGINT)
    assert running.wait(60) >= 128
    assert not leftovers(daemon)


def test_a_terminal_is_a_terminal(daemon: Daemon) -> None:
    ours, theirs = pty.openpty()
    running = subprocess.Popen(
        cli(daemon, "run", "--rm", "-it", "busybox", "sh"),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    os.write(ours, b"tty && echo from-$((40+2)) && exit 5\n")
    seen = b""
    while True:
        try:
            data = os.read(ours, 4096)
        except OSError:
            break
        if not data:
            break
        seen += data
    os.close(ours)
    assert running.wait(60) == 5
    assert b"from-42" in seen
    assert b"/dev/pts" in seen or b"/dev/console" in seen


def test_a_detached_container_can_be_followed(daemon: Daemon) -> None:
    script = "while [ ! -e /go ]; do sleep 0.1; done;"
    script += "for i in 1 2 3; do echo line $i; sleep 0.2; done; exit 3"
    made = daemon.corectl("run", "-d", "--name", "talker", "busybox", "sh", "-c", script)
    assert made.returncode == 0
    assert "talker" in daemon.corectl("ps").stdout.decode()
    daemon.corectl("exec", "talker", "touch", "/go", check=True)
    logs = daemon.corectl("logs", "-f", "talker").stdout.decode()
    assert logs == "line 1\nline 2\nline 3\n"
    assert daemon.corectl("wait", "talker").stdout.split() == [b"3"]
    assert "talker" not in daemon.corectl("ps").stdout.decode()
    assert "talker" in daemon.corectl("ps", "-a").stdout.decode()
    assert daemon.corectl("rm", "talker").returncode == 0
    assert not leftovers(daemon)


def test_a_created_container_can_be_started_attached(daemon: Daemon) -> None:
    script = "echo begun; cat; exit 2"
    assert (
        daemon.corectl("create", "--name", "later", "busybox", "sh", "-c", script).returncode == 0
    )
    first = daemon.corectl("start", "-a", "-i", "later", input=b"typed\n")
    assert (first.returncode, first.stdout, first.stderr) == (2, b"begun\ntyped\n", b"")
    again = daemon.corectl("start", "-a", "later")
    assert (again.returncode, again.stdout) == (2, b"begun\n")
    assert daemon.corectl("rm", "later").returncode == 0
    assert not leftovers(daemon)


def test_environment_volume_and_directory(daemon: Daemon, tmp_path: Path) -> None:
    (tmp_path / "inside").write_text("from the host\n")
    done = daemon.corectl(
        *("run", "--rm", "-e", "COLOUR=blue", "-v", f"{tmp_path}:/data", "-w", "/data", "busybox"),
        *("sh", "-c", "echo $COLOUR; pwd; cat inside; echo back > answer"),
    )
    assert done.stdout.decode() == "blue\n/data\nfrom the host\n"
    assert (tmp_path / "answer").read_text() == "back\n"


def test_images_come_and_go(daemon: Daemon, busybox: Path) -> None:
    assert daemon.corectl("-n", "other", "image", "import", str(busybox)).returncode == 0
    assert "busybox" in daemon.corectl("-n", "other", "images").stdout.decode()
    assert daemon.corectl("-n", "other", "rmi", "busybox").returncode == 0
    assert "busybox" not in daemon.corectl("-n", "other", "images").stdout.decode()
    assert daemon.ctr("-n", "other", "snapshots", "ls").stdout.count("sha256") == 0
    assert daemon.ctr("-n", "other", "content", "ls", "-q").stdout == ""


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["run", "-q", "--rm", "localhost:1/nothing:here", "true"], 125, "localhost:1"),
        (["run", "--rm", "--name", "not valid!", "busybox", "true"], 125, "not valid!"),
        (["run", "--rm", "busybox", "/no/such/command"], 127, "/no/such/command"),
        (["run", "--rm", "busybox", "/etc/passwd"], 126, "/etc/passwd"),
        (["run", "--rm", "UPPER/case", "true"], 125, "UPPER/case"),
        (["kill", "nobody"], 1, "nobody"),
        (["rmi", "nothing"], 1, "nothing"),
        (["image", "import", "/etc/passwd"], 1, "/etc/passwd"),
        (["image", "import", "/no/such/file"], 1, "/no/such/file"),
        (["run", "--rm", "-v", "relative:path", "busybox", "true"], 125, "relative"),
    ],
)
def test_bad_input_is_one_clear_line_and_leaves_nothing(
    daemon: Daemon, arguments: list[str], code: int, words: str
) -> None:
    before = daemon.ctr("content", "ls", "-q").stdout.split()
    done = daemon.corectl(*arguments)
    lines = done.stderr.decode().strip().splitlines()
    assert done.returncode == code, done.stderr
    assert len(lines) == 1, lines
    assert lines[0].startswith("corectl: ")
    assert words in lines[0]
    assert not leftovers(daemon)
    assert set(daemon.ctr("content", "ls", "-q").stdout.split()) <= set(before)


def test_no_daemon_is_one_clear_line(tmp_path: Path) -> None:
    done = subprocess.run(
        [*CORECTL, "--address", str(tmp_path / "sock"), "ps"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "not running" in done.stderr


def test_version_shows_both_sides(daemon: Daemon) -> None:
    text = daemon.corectl("version").stdout.decode()
    assert text.count("0.1.0") >= 2


def test_no_runtime_on_the_host_is_said(busybox: Path) -> None:
    from tests import daemons

    with daemons.cored('[plugins.runtime.shim]\nruntime = "/no/such/runc"\n') as daemon:
        daemon.ctr("images", "import", str(busybox))
        done = daemon.corectl("run", "--rm", "busybox", "true")
        assert done.returncode == 125
        assert b"/no/such/runc" in done.stderr
        assert len(done.stderr.splitlines()) == 1
        assert not leftovers(daemon)
