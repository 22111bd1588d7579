"""kill -9 of the daemon: containers live on, and no exit code is lost."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import daemons
from tests.daemons import Daemon
from tests.grpc_client import Client, Seen
from tests.patience import eventually
from tests.watching import watched

pytestmark = pytest.mark.root
IMAGE = "docker.io/library/busybox:latest"


@pytest.fixture
def daemon(busybox: Path) -> Iterator[Daemon]:
    """A cored of this test's own: it is killed, while its shims sleep."""
    with daemons.cored("[plugins.runtime.shim]\nidle = 0.1\n") as running:
        running.ctr("images", "import", str(busybox))
        yield running


def pid_of(daemon: Daemon, name: str) -> int:
    for line in daemon.ctr("tasks", "ls").stdout.splitlines():
        if line.split()[0] == name:
            return int(line.split()[1])
    raise AssertionError(f"no task {name}")


def status_of(daemon: Daemon, name: str) -> str:
    for line in daemon.ctr("tasks", "ls").stdout.splitlines():
        if line.split()[0] == name:
            return line.split()[2]
    return "absent"


def test_a_container_outlives_the_daemon_and_is_found_again(daemon: Daemon) -> None:
    script = "while [ ! -e /go ]; do sleep 0.1; done; exit 42"
    daemon.ctr("run", "-d", IMAGE, "survivor", "sh", "-c", script)
    pid = pid_of(daemon, "survivor")
    daemon.kill()
    assert Path(f"/proc/{pid}").exists()
    daemon.start()
    assert pid_of(daemon, "survivor") == pid
    assert status_of(daemon, "survivor") == "RUNNING"
    attach = ["ctr", "-a", str(daemon.address), "tasks", "attach", "survivor"]
    with subprocess.Popen(attach) as waiting:
        daemon.ctr("tasks", "exec", "--exec-id", "go", "survivor", "touch", "/go")
        assert waiting.wait(60) == 42


def test_an_exit_while_no_daemon_runs_is_not_lost(daemon: Daemon) -> None:
    daemon.ctr("run", "-d", IMAGE, "unseen", "sh", "-c", "sleep 1; exit 23")
    pid = pid_of(daemon, "unseen")
    daemon.kill()
    eventually(lambda: not Path(f"/proc/{pid}").exists())
    daemon.start()
    assert status_of(daemon, "unseen") == "STOPPED"
    assert "exit code 23" in daemon.ctr("tasks", "rm", "unseen").stderr


def test_a_daemon_that_stops_does_not_wait_for_those_who_wait_for_events(busybox: Path) -> None:
    """dockerd and its like hold a subscription for as long as the daemon lives."""
    with daemons.cored("[grpc]\nshutdown_grace = 3600.0\n") as daemon:
        daemon.ctr("images", "import", str(busybox))
        daemon.ctr("run", "-d", IMAGE, "waited", "sleep", "1000")
        with Client(daemon.address, "default") as api:
            waiting = api.tasks.Wait.begin(container_id="waited")
            listening = Seen(api, api.events.Subscribe(timeout=120))
            listening.mark()  # both calls are there
            assert daemon.stop() == 0
            with api.refused("UNAVAILABLE", "stopping"):
                waiting.result(60)
            listening.thread.join(60)
            with api.refused("UNAVAILABLE", "stopping"):
                raise listening.failure


def test_sigterm_leaves_containers_running(daemon: Daemon) -> None:
    daemon.ctr("run", "-d", IMAGE, "steady", "sleep", "1000")
    pid = pid_of(daemon, "steady")
    assert daemon.stop() == 0
    assert Path(f"/proc/{pid}").exists()
    daemon.start()
    assert pid_of(daemon, "steady") == pid


def test_corectl_run_gets_the_exit_code_across_a_daemon_death(daemon: Daemon) -> None:
    command = ["run", "--rm", "busybox", "sh", "-c", "echo started; sleep 3; exit 9"]
    with subprocess.Popen(
        [*daemons.CORECTL, "--address", str(daemon.address), *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as client:
        assert client.stdout is not None
        assert client.stdout.readline() == b"started\n"
        daemon.kill()
        time.sleep(0.5)
        daemon.start()
        _, errors = client.communicate(timeout=60)
    assert (client.returncode, errors) == (9, b"")


def test_two_daemons_cannot_share_a_root(daemon: Daemon) -> None:
    second = subprocess.run(
        [*daemon.command[:3], "--address", f"{daemon.home}/other", *daemon.command[4:]],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert second.returncode == 1
    assert "in use by another cored" in second.stderr


def test_an_exit_is_told_once_whatever_becomes_of_the_daemon(daemon: Daemon) -> None:
    told = daemon.home / "events"

    def exits() -> int:
        lines = told.read_text().splitlines()
        return sum("/tasks/exit" in line and '"told"' in line for line in lines)

    with watched(daemon, told):
        daemon.ctr("run", "-d", IMAGE, "told", "true")
        eventually(exits)
        # by this the next daemon knows
        eventually((daemon.home / "state/runtime.shim/default/told/exit.told").exists)
        daemon.kill()
    daemon.start()
    with watched(daemon, told) as lines:
        assert status_of(daemon, "told") == "STOPPED"
        daemon.ctr("tasks", "rm", "told")
        daemon.ctr("containers", "rm", "told")
        lines()
    assert exits() == 1
