"""Debian's unmodified ctr (containerd 1.6) against cored."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.daemons import Daemon
from tests.living import glob
from tests.patience import eventually
from tests.watching import watched

pytestmark = pytest.mark.root
IMAGE = "docker.io/library/busybox:latest"


def run(daemon: Daemon, *arguments: str) -> str:
    return daemon.ctr("run", "--rm", *arguments).stdout


def test_version_answers_for_the_server(daemon: Daemon) -> None:
    server = daemon.ctr("version").stdout.partition("Server:")[2]
    assert "Version:" in server
    assert "UUID:" in server


def test_plugins_are_listed_with_their_types(daemon: Daemon) -> None:
    rows = [line.split() for line in daemon.ctr("plugins", "ls").stdout.splitlines()[1:]]
    states = {(row[0], row[1]): row[-1] for row in rows if row}
    assert states["io.containerd.snapshotter.v1", "overlayfs"] == "ok"
    assert states["io.containerd.snapshotter.v1", "native"] == "ok"
    assert states["io.containerd.content.v1", "content"] == "ok"
    assert states["io.containerd.runtime.v2", "task"] == "ok"


def test_an_imported_image_is_listed_and_its_content_complete(daemon: Daemon) -> None:
    assert IMAGE in daemon.ctr("images", "ls").stdout
    assert f"{IMAGE} " in daemon.ctr("images", "check").stdout
    assert "complete" in daemon.ctr("images", "check").stdout
    assert daemon.ctr("content", "ls", "-q").stdout.startswith("sha256:")
    assert "sha256:" in daemon.ctr("snapshots", "ls").stdout


def test_a_container_runs_and_says_hello(daemon: Daemon) -> None:
    assert run(daemon, IMAGE, "hello", "echo", "hello") == "hello\n"
    assert "hello" not in daemon.ctr("containers", "ls").stdout


def test_the_exit_code_comes_through(daemon: Daemon) -> None:
    done = daemon.ctr("run", "--rm", IMAGE, "seven", "sh", "-c", "exit 7", check=False)
    assert done.returncode == 7


def test_stdout_and_stderr_stay_apart(daemon: Daemon) -> None:
    done = daemon.ctr("run", "--rm", IMAGE, "both", "sh", "-c", "echo out; echo err >&2")
    assert (done.stdout, done.stderr) == ("out\n", "err\n")


def test_stdin_reaches_the_container(daemon: Daemon) -> None:
    done = subprocess.run(
        ["ctr", "-a", str(daemon.address), "run", "--rm", IMAGE, "catty", "cat"],
        input=b"through the shim\n" * 1000,
        capture_output=True,
        timeout=60,
        check=True,
    )
    assert done.stdout == b"through the shim\n" * 1000


def test_a_detached_container_lives_its_life(daemon: Daemon) -> None:
    daemon.ctr("run", "-d", IMAGE, "sleeper", "sleep", "1000")
    assert "sleeper" in daemon.ctr("containers", "ls", "-q").stdout.split()
    assert "RUNNING" in daemon.ctr("tasks", "ls").stdout
    out = daemon.ctr("tasks", "exec", "--exec-id", "one", "sleeper", "echo", "inside").stdout
    assert out == "inside\n"
    assert len(daemon.ctr("tasks", "ps", "sleeper").stdout.splitlines()) == 2
    daemon.ctr("tasks", "kill", "-s", "SIGKILL", "sleeper")
    eventually(lambda: "STOPPED" in daemon.ctr("tasks", "ls").stdout)
    removed = daemon.ctr("tasks", "rm", "sleeper", check=False)
    assert removed.returncode in (0, 137)
    daemon.ctr("containers", "rm", "sleeper")
    assert "sleeper" not in daemon.ctr("snapshots", "ls").stdout


def test_pause_and_resume(daemon: Daemon) -> None:
    daemon.ctr("run", "-d", IMAGE, "pausing", "sleep", "1000")
    daemon.ctr("tasks", "pause", "pausing")
    assert "PAUSED" in daemon.ctr("tasks", "ls").stdout
    daemon.ctr("tasks", "resume", "pausing")
    assert "RUNNING" in daemon.ctr("tasks", "ls").stdout
    daemon.ctr("tasks", "rm", "-f", "pausing", check=False)
    daemon.ctr("containers", "rm", "pausing")


def test_events_come_in_order_and_the_exit_once(daemon: Daemon, tmp_path: Path) -> None:
    with watched(daemon, tmp_path / "events") as lines:
        run(daemon, IMAGE, "watched", "true")
        topics = [line.split()[5] for line in lines() if "watched" in line]
    tasks = [topic for topic in topics if topic.startswith("/tasks/")]
    assert tasks == ["/tasks/create", "/tasks/start", "/tasks/exit", "/tasks/delete"]


def test_namespaces_are_apart(daemon: Daemon) -> None:
    daemon.ctr("namespaces", "create", "elsewhere", "colour=blue")
    assert "colour=blue" in daemon.ctr("namespaces", "ls").stdout
    assert IMAGE not in daemon.ctr("--namespace", "elsewhere", "images", "ls").stdout
    daemon.ctr("namespaces", "rm", "elsewhere")


def test_leases_can_be_made_listed_and_dropped(daemon: Daemon) -> None:
    daemon.ctr("leases", "create", "--id", "mine", "purpose=test")
    assert "mine" in daemon.ctr("leases", "ls", "-q").stdout.split()
    daemon.ctr("leases", "rm", "mine")
    assert "mine" not in daemon.ctr("leases", "ls", "-q").stdout.split()


def test_an_unknown_image_is_one_clear_line(daemon: Daemon) -> None:
    done = daemon.ctr("run", "--rm", "docker.io/library/nothing:here", "x", "true", check=False)
    assert done.returncode != 0
    assert "not found" in done.stderr
    assert "x" not in daemon.ctr("containers", "ls", "-q").stdout.split()


def test_an_invalid_container_name_is_refused(daemon: Daemon) -> None:
    done = daemon.ctr("run", "--rm", IMAGE, "no spaces", "true", check=False)
    assert done.returncode != 0
    assert "no spaces" in done.stderr
    eventually(lambda: "no spaces" not in daemon.ctr("snapshots", "ls").stdout)


def test_a_command_that_is_not_there_leaves_nothing(daemon: Daemon) -> None:
    done = daemon.ctr("run", "--rm", IMAGE, "absent", "/no/such/command", check=False)
    assert done.returncode != 0
    assert "no such file or directory" in done.stderr.lower()
    assert "absent" not in daemon.ctr("tasks", "ls").stdout
    eventually(lambda: "absent" not in daemon.ctr("snapshots", "ls").stdout)
    assert not glob(Path("/sys/fs/cgroup"), "*/default/absent")
