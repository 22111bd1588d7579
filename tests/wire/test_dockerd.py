"""Debian's unmodified dockerd with cored in containerd's place, and its clients."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.daemons import Daemon, cored
from tests.docker import Docker, dockerd
from tests.patience import eventually

pytestmark = pytest.mark.root
SERVE = "mkdir /www; echo served > /www/index.html; exec busybox httpd -f -p 80 -h /www"


@pytest.fixture(scope="module")
def running(private_mounts: None) -> Iterator[Daemon]:
    with cored() as daemon:
        yield daemon
        for line in daemon.log.splitlines():
            entry = json.loads(line) if line.startswith("{") else {}
            assert (entry.get("component"), entry.get("level")) != ("rpc", "error"), line


@pytest.fixture(scope="module")
def docker(running: Daemon, busybox: Path) -> Iterator[Docker]:
    with dockerd(running) as docker:
        docker("load", "-i", str(busybox))
        yield docker


def served(docker: Docker) -> bool:
    return docker.inside("curl", "-s", "http://127.0.0.1:8080/").stdout == "served\n"


def test_docker_sees_cored_as_its_containerd(docker: Docker) -> None:
    assert "+cored." in docker("version", "--format", "{{json .Server.Components}}").stdout


def test_run_and_its_exit_codes(docker: Docker) -> None:
    assert docker("run", "--rm", "busybox", "echo", "hello").stdout == "hello\n"
    docker("run", "--rm", "busybox", "sh", "-c", "exit 7", code=7)
    assert "not found" in docker("run", "--rm", "busybox", "no-such-program", code=127).stderr


def test_stdin_and_both_streams_come_through(docker: Docker) -> None:
    text = "line\n" * 50_000
    done = docker("run", "--rm", "-i", "busybox", "sh", "-c", "cat; echo end >&2", input=text)
    assert (done.stdout, done.stderr) == (text, "end\n")


def test_a_server_is_published_executed_in_and_restarted(docker: Docker) -> None:
    docker(
        "run", "-d", "-p", "127.0.0.1:8080:80", "--name", "web", "busybox", "sh", "-c", SERVE
    )  # fmt: skip
    eventually(lambda: served(docker))
    assert docker("exec", "web", "echo", "inside").stdout == "inside\n"
    docker("exec", "web", "sh", "-c", "exit 3", code=3)
    assert "/dev/pts/" in docker.on_a_terminal("exec", "-it", "web", "tty")
    assert "httpd" in docker("top", "web").stdout
    assert docker("stats", "--no-stream", "--format", "{{.PIDs}}", "web").stdout == "1\n"
    docker("pause", "web")
    assert docker.inspect("web")["State"]["Status"] == "paused"
    docker("unpause", "web")
    first = docker.inspect("web")["State"]["Pid"]
    docker("restart", "-t", "0", "web")
    assert docker.inspect("web")["State"]["Pid"] != first
    eventually(lambda: served(docker))
    docker("stop", "-t", "0", "web")
    assert docker.inspect("web")["State"]["ExitCode"] == 137
    assert docker("wait", "web").stdout == "137\n"
    docker("rm", "web")


def test_logs_and_events_tell_each_thing_once(docker: Docker) -> None:
    since = str(int(time.time()))
    docker("run", "-d", "--name", "talks", "busybox", "sh", "-c", "echo out; echo err >&2")
    assert docker("wait", "talks").stdout == "0\n"
    done = docker("logs", "talks")
    assert (done.stdout, done.stderr) == ("out\n", "err\n")
    time.sleep(1.1)  # events are asked for by whole seconds
    events = docker(
        "events", "--since", since, "--until", str(int(time.time())),
        "--filter", "container=talks", "--format", "{{.Action}}",
    )  # fmt: skip
    assert events.stdout.split() == ["create", "attach", "start", "die"] or (
        events.stdout.split() == ["create", "start", "die"]
    )
    docker("rm", "talks")


def test_memory_limits_and_kills_are_seen(docker: Docker) -> None:
    program = "x=a; while :; do x=$x$x; done"
    docker("run", "--name", "greedy", "-m", "16m", "busybox", "sh", "-c", program, code=137)
    assert docker.inspect("greedy")["State"]["OOMKilled"] is True
    docker("rm", "greedy")


@pytest.mark.parametrize("end", [Daemon.kill, Daemon.stop], ids=["killed", "stopped"])
def test_containers_outlive_cored(
    docker: Docker, running: Daemon, end: Callable[[Daemon], object]
) -> None:
    docker("run", "-d", "--name", "stays", "busybox", "sleep", "1000")
    pid = docker.inspect("stays")["State"]["Pid"]
    end(running)
    running.start()

    def back() -> bool:
        command = ["/usr/bin/docker", "-H", docker.host, "exec", "stays", "echo", "still"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        return done.stdout == "still\n"

    eventually(back)
    assert docker.inspect("stays")["State"]["Pid"] == pid
    docker("kill", "stays")
    assert docker("wait", "stays").stdout == "137\n"
    docker("rm", "stays")


def test_an_image_is_built(docker: Docker, tmp_path: Path) -> None:
    (tmp_path / "added").write_text("added\n")
    (tmp_path / "Dockerfile").write_text(
        "FROM busybox\nRUN echo built > /built\nCOPY added /added\nCMD cat /built /added\n"
    )
    docker("build", "-t", "mine", str(tmp_path))
    assert docker("run", "--rm", "mine").stdout == "built\nadded\n"


def test_compose_brings_an_application_up_and_down(docker: Docker, tmp_path: Path) -> None:
    (tmp_path / "docker-compose.yml").write_text(
        """
version: "3"
services:
  a:
    image: busybox
    command: sleep 1000
  b:
    image: busybox
    command: sh -c "until ping -c1 a; do sleep 0.1; done; sleep 1000"
    depends_on: [a]
"""
    )
    docker.compose(tmp_path, "up", "-d")
    eventually(lambda: "1 packets received" in docker.compose(tmp_path, "logs", "b"))
    listed = docker.compose(tmp_path, "ps")
    assert listed.count(" Up ") == 2
    docker.compose(tmp_path, "down", "-t", "0")
    assert docker("ps", "-aq").stdout == ""
