"""What becomes of containers, and of daemons: restarts, health, names, limits, events."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from cored._pb.cored.workloads.v1 import processes_pb2
from cored._pb.cored.workloads.v1 import workloads_pb2 as pb
from cored.client.channel import Channel
from cored.client.workloads import Workloads
from cored.errors import FailedPrecondition
from tests import daemons
from tests.daemons import Daemon
from tests.patience import eventually

pytestmark = pytest.mark.root


def run(daemon: Daemon, *arguments: str) -> str:
    """Run a container in the background; its id."""
    return daemon.corectl("run", "-d", *arguments, check=True).stdout.decode().strip()


def said(daemon: Daemon, *arguments: str) -> str:
    return daemon.corectl(*arguments, check=True).stdout.decode().strip()


def looked(daemon: Daemon, name: str) -> dict[str, Any]:
    (found,) = json.loads(said(daemon, "inspect", name))
    return dict(found)


@pytest.fixture
def own(busybox: Path) -> Iterator[Daemon]:
    """A daemon of the test's own, to be stopped and killed."""
    with daemons.cored() as running:
        running.ctr("images", "import", str(busybox))
        yield running


def test_a_failing_container_is_started_again_as_often_as_its_policy_says(daemon: Daemon) -> None:
    run(
        daemon,
        "--name",
        "fails",
        "--restart",
        "on-failure:2",
        "busybox",
        "sh",
        "-c",
        "echo x; exit 3",
    )
    eventually(lambda: looked(daemon, "fails")["RestartCount"] == 2)
    eventually(lambda: looked(daemon, "fails")["State"]["Status"] == "exited")
    assert looked(daemon, "fails")["State"]["ExitCode"] == 3
    assert said(daemon, "logs", "fails") == "x\nx\nx"
    daemon.corectl("rm", "fails", check=True)


def test_success_is_no_failure(daemon: Daemon) -> None:
    run(daemon, "--name", "succeeds", "--restart", "on-failure", "busybox", "true")
    eventually(lambda: looked(daemon, "succeeds")["State"]["Status"] == "exited")
    assert looked(daemon, "succeeds")["RestartCount"] == 0
    daemon.corectl("rm", "succeeds", check=True)


def test_a_container_that_was_stopped_stays_so(daemon: Daemon) -> None:
    run(daemon, "--name", "always", "--restart", "always", "busybox", "sleep", "1000")
    daemon.corectl("stop", "-t", "0", "always", check=True)
    assert looked(daemon, "always")["State"]["Status"] == "exited"
    daemon.corectl("start", "always", check=True)
    pid = looked(daemon, "always")["State"]["Pid"]
    # what ends by itself comes back
    daemon.corectl("exec", "always", "kill", "-9", "1")
    daemon.ctr("tasks", "kill", "-s", "SIGKILL", looked(daemon, "always")["Id"])
    eventually(lambda: looked(daemon, "always")["State"]["Pid"] not in (0, pid))
    daemon.corectl("rm", "-f", "always", check=True)


def test_a_restart_that_is_awaited_is_shown_and_can_be_called_off(daemon: Daemon) -> None:
    run(daemon, "--name", "loops", "--restart", "always", "busybox", "false")
    eventually(lambda: looked(daemon, "loops")["RestartCount"] >= 4)
    eventually(lambda: "Restarting (1)" in said(daemon, "ps", "--filter", "name=loops"))
    eventually(lambda: looked(daemon, "loops")["State"]["Status"] == "restarting")
    daemon.corectl("stop", "loops", check=True)
    assert looked(daemon, "loops")["State"]["Status"] == "exited"
    daemon.corectl("rm", "loops", check=True)


def test_policies_outlive_the_daemon(own: Daemon) -> None:
    for policy in ("no", "always", "unless-stopped"):
        run(own, "--name", policy, "--restart", policy, "busybox", "sleep", "1000")
        run(own, "--name", f"{policy}-ended", "--restart", policy, "busybox", "sleep", "1000")
        own.corectl("stop", "-t", "0", f"{policy}-ended", check=True)
    pids = {name: looked(own, name)["State"]["Pid"] for name in ("no", "always", "unless-stopped")}
    own.kill()
    own.start()
    for name, pid in pids.items():
        assert looked(own, name)["State"]["Pid"] == pid
    # docker's: always means also after a stop, once the daemon is another
    eventually(lambda: looked(own, "always-ended")["State"]["Running"])
    assert not looked(own, "no-ended")["State"]["Running"]
    assert not looked(own, "unless-stopped-ended")["State"]["Running"]


def test_what_ends_while_the_daemon_is_down_is_started_when_it_is_back(own: Daemon) -> None:
    run(own, "--name", "ends", "--restart", "always", "busybox", "sh", "-c", "sleep 1; exit 4")
    own.kill()
    time.sleep(1.5)
    own.start()
    eventually(lambda: looked(own, "ends")["RestartCount"] >= 1)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("--restart sometimes", "unknown"),
        ("--restart always:3", "no number of attempts"),
        ("--rm --restart always", "cannot be started again"),
        ("--health-cmd x --health-interval 1ns", "1 ms or more"),
        ("--stop-signal NOPE", "unknown"),
        ("--device vendor.com/class=none", "not found"),
        ("--umask 999", "octal"),
        ("--volumes-from nobody", "not found"),
        ("--ipc container:nobody", "not found"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(daemon: Daemon, options: str, words: str) -> None:
    done = daemon.corectl("run", *options.split(), "busybox", "true")
    assert done.returncode == 125
    assert words in done.stderr.decode()


def test_health_is_checked_and_told(daemon: Daemon) -> None:
    run(
        daemon,
        *("--name", "well", "--health-cmd", "cat /ok", "--health-interval", "100ms"),
        *("--health-retries", "2", "busybox", "sh", "-c", "touch /ok; sleep 1000"),
    )
    eventually(lambda: looked(daemon, "well")["State"]["Health"]["Status"] == "healthy")
    assert "(healthy)" in said(daemon, "ps", "--filter", "health=healthy")
    daemon.corectl("exec", "well", "rm", "/ok", check=True)
    eventually(lambda: looked(daemon, "well")["State"]["Health"]["Status"] == "unhealthy")
    health = looked(daemon, "well")["State"]["Health"]
    assert health["FailingStreak"] >= 2
    assert len(health["Log"]) <= 5
    assert "can't open '/ok'" in health["Log"][-1]["Output"]
    told = said(
        daemon, "events", "--since", "1m", "--until", "0s", "--filter", "container=well",
        "--filter", "event=health_status", "--format", "{{.Action}}",
    )  # fmt: skip
    assert told.splitlines() == ["health_status: healthy", "health_status: unhealthy"]
    daemon.corectl("rm", "-f", "well", check=True)


def test_a_check_that_hangs_is_ended(daemon: Daemon) -> None:
    run(
        daemon,
        *("--name", "hangs", "--health-cmd", "sleep 1000", "--health-interval", "50ms"),
        *("--health-timeout", "100ms", "--health-retries", "1", "busybox", "sleep", "1000"),
    )
    eventually(lambda: looked(daemon, "hangs")["State"]["Health"]["Status"] == "unhealthy")
    log = looked(daemon, "hangs")["State"]["Health"]["Log"]
    assert log[0]["ExitCode"] == -1
    assert "exceeded timeout" in log[0]["Output"]
    daemon.corectl("rm", "-f", "hangs", check=True)


def test_health_goes_on_under_the_next_daemon(own: Daemon) -> None:
    run(
        own,
        *("--name", "well", "--health-cmd", "true", "--health-interval", "100ms"),
        *("busybox", "sleep", "1000"),
    )
    eventually(lambda: looked(own, "well")["State"]["Health"]["Status"] == "healthy")
    own.kill()
    own.start()
    health = looked(own, "well")["State"]["Health"]
    assert health["Status"] == "healthy"
    eventually(lambda: looked(own, "well")["State"]["Health"]["Log"] != health["Log"])


def test_pause_and_unpause(daemon: Daemon) -> None:
    run(daemon, "--name", "frozen", "busybox", "sleep", "1000")
    daemon.corectl("pause", "frozen", check=True)
    assert "(Paused)" in said(daemon, "ps", "--filter", "status=paused")
    assert b"is paused" in daemon.corectl("exec", "frozen", "true").stderr
    daemon.corectl("unpause", "frozen", check=True)
    assert b"is not paused" in daemon.corectl("unpause", "frozen").stderr
    daemon.corectl("pause", "frozen", check=True)
    daemon.corectl("stop", "-t", "1", "frozen", check=True)
    daemon.corectl("rm", "frozen", check=True)


def test_rename(daemon: Daemon) -> None:
    run(daemon, "--name", "old", "busybox", "sleep", "1000")
    run(daemon, "--name", "other", "busybox", "sleep", "1000")
    assert b"taken by" in daemon.corectl("rename", "old", "other").stderr
    daemon.corectl("rename", "old", "new", check=True)
    assert looked(daemon, "new")["Name"] == "/new"
    assert daemon.corectl("inspect", "old").returncode == 1
    daemon.corectl("rm", "-f", "new", "other", check=True)


def test_update_changes_limits_now_and_for_the_next_start(daemon: Daemon) -> None:
    run(daemon, "--name", "limited", "-m", "64m", "busybox", "sleep", "1000")
    cgroup = "/sys/fs/cgroup"
    read = f"cat {cgroup}/memory.max 2>/dev/null || cat {cgroup}/memory/memory.limit_in_bytes"
    daemon.corectl("update", "-m", "96m", "--restart", "unless-stopped", "limited", check=True)
    assert said(daemon, "exec", "limited", "sh", "-c", read) == str(96 << 20)
    daemon.corectl("restart", "-t", "0", "limited", check=True)
    assert said(daemon, "exec", "limited", "sh", "-c", read) == str(96 << 20)
    host = looked(daemon, "limited")["HostConfig"]
    assert (host["Memory"], host["RestartPolicy"]["Name"]) == (96 << 20, "unless-stopped")
    daemon.corectl("rm", "-f", "limited", check=True)


def test_top_and_stats(daemon: Daemon) -> None:
    run(daemon, "--name", "busy", "busybox", "sh", "-c", "sleep 1000 & sleep 1000")
    assert said(daemon, "top", "busy").count("sleep 1000") >= 2
    assert said(daemon, "top", "busy", "-o", "pid,comm").splitlines()[0].split() == [
        "PID",
        "COMMAND",
    ]
    assert b"no column PID" in daemon.corectl("top", "busy", "-o", "comm").stderr
    (line,) = said(
        daemon, "stats", "--no-stream", "--format", "{{.Name}} {{.CPUPerc}} {{.PIDs}} {{.NetIO}}",
        "busy",
    ).splitlines()  # fmt: skip
    name, share, pids, *_ = line.split()
    assert (name, share[-1], int(pids)) == ("busy", "%", 2)
    daemon.corectl("rm", "-f", "busy", check=True)


def test_events_have_dockers_names_in_their_order(daemon: Daemon) -> None:
    daemon.corectl("run", "--rm", "--name", "told", "-l", "a=b", "busybox", "sh", "-c", "exit 2")
    told = said(
        daemon, "events", "--since", "1m", "--until", "0s", "--filter", "container=told",
        "--format", "{{json .}}",
    )  # fmt: skip
    found = [json.loads(line) for line in told.splitlines()]
    assert [one["Action"] for one in found] == ["create", "start", "die", "destroy"]
    assert found[2]["Actor"]["Attributes"]["exitCode"] == "2"
    assert found[0]["Actor"]["Attributes"]["a"] == "b"
    assert found[3]["Actor"]["Attributes"]["name"] == "told"


def test_prune_removes_what_does_not_run_and_fits(daemon: Daemon) -> None:
    run(daemon, "--name", "runs", "-l", "prune", "busybox", "sleep", "1000")
    for name in ("kept", "goes"):
        labels = ("-l", "prune") if name == "goes" else ()
        daemon.corectl("create", "--name", name, *labels, "busybox", "true", check=True)
    done = said(daemon, "container", "prune", "-f", "--filter", "label=prune")
    assert "Total reclaimed space" in done
    left = said(daemon, "ps", "-a", "--format", "{{.Names}}").split()
    assert {"runs", "kept"} <= set(left)
    assert "goes" not in left
    daemon.corectl("rm", "-f", "runs", "kept", check=True)


def test_what_a_container_starts_with(daemon: Daemon, tmp_path: Path) -> None:
    (tmp_path / "env").write_text("# no\nA=1\n\nB=2 3\n")
    (tmp_path / "labels").write_text("one=1\n")
    run(
        daemon,
        *("--name", "dressed", "--init", "--env-file", str(tmp_path / "env")),
        *("--label-file", str(tmp_path / "labels"), "--umask", "0027", "--annotation", "x.y=z"),
        *("--cidfile", str(tmp_path / "cid"), "--pidfile", str(tmp_path / "pid")),
        *("busybox", "sh", "-c", "touch /new; sleep 1000"),
    )
    found = looked(daemon, "dressed")
    assert (tmp_path / "cid").read_text() == found["Id"]
    assert (tmp_path / "pid").read_text() == str(found["State"]["Pid"])
    assert found["Spec"]["annotations"]["x.y"] == "z"
    assert found["Config"]["Labels"] == {"one": "1"}
    assert found["Path"] == "sh"
    eventually(lambda: daemon.corectl("exec", "dressed", "test", "-e", "/new").returncode == 0)
    assert said(daemon, "exec", "dressed", "sh", "-c", "echo $A $B") == "1 2 3"
    assert said(daemon, "exec", "dressed", "stat", "-c", "%a", "/new") == "640"
    assert said(daemon, "exec", "dressed", "cat", "/proc/1/comm") == "docker-init"
    assert b"is there already" in daemon.corectl(
        "run", "--cidfile", str(tmp_path / "cid"), "busybox", "true"
    ).stderr  # fmt: skip
    daemon.corectl("rm", "-f", "dressed", check=True)


def test_namespaces_of_another_container(daemon: Daemon) -> None:
    script = "echo shared >/dev/shm/f; sleep 1000"
    run(daemon, "--name", "first", "--ipc", "shareable", "busybox", "sh", "-c", script)
    run(daemon, "--name", "private", "busybox", "sleep", "1000")
    refused = daemon.corectl("run", "--ipc", "container:private", "busybox", "true")
    assert b"--ipc shareable" in refused.stderr
    eventually(lambda: daemon.corectl("exec", "first", "test", "-s", "/dev/shm/f").returncode == 0)
    shared = ("--rm", "--pid", "container:first", "--ipc", "container:first", "busybox")
    assert "sleep 1000" in said(daemon, "run", *shared, "ps")
    assert said(daemon, "run", *shared, "cat", "/dev/shm/f") == "shared"
    # a second start finds the first one's namespaces of then
    daemon.corectl("create", "--name", "second", *shared[1:], "cat", "/dev/shm/f", check=True)
    daemon.corectl("restart", "-t", "0", "first", check=True)
    eventually(lambda: daemon.corectl("exec", "first", "test", "-s", "/dev/shm/f").returncode == 0)
    daemon.corectl("start", "second", check=True)
    daemon.corectl("wait", "second", check=True)
    daemon.corectl("start", "-a", "second", check=True)
    daemon.corectl("rm", "-f", "first", "second", "private", check=True)


def test_filters_and_columns_of_ps(daemon: Daemon) -> None:
    daemon.corectl("create", "--name", "made", "-l", "color=red", "busybox", "true", check=True)
    daemon.corectl("run", "--name", "ended", "busybox", "sh", "-c", "exit 9")
    run(daemon, "--name", "runs", "-v", "named:/data", "busybox", "sleep", "1000")

    def names(*arguments: str) -> set[str]:
        return set(said(daemon, "ps", "--format", "{{.Names}}", *arguments).split())

    assert names() == {"runs"}
    assert names("-f", "status=created") == {"made"}
    assert names("-f", "exited=9") == {"ended"}
    assert names("-a", "-f", "label=color=red") == {"made"}
    assert names("-a", "-f", "volume=/data") == names("-a", "-f", "volume=named") == {"runs"}
    assert names("-a", "-f", "since=made") == {"ended", "runs"}
    assert names("-l") == {"runs"}
    assert names("-n", "2") == {"ended", "runs"}
    assert names("-a", "-f", "ancestor=busybox") == {"made", "ended", "runs"}
    assert b"unknown" in daemon.corectl("ps", "-f", "colour=red").stderr
    head = said(daemon, "ps", "-as").splitlines()[0]
    assert head.split()[2:] == ["IMAGE", "COMMAND", "CREATED", "STATUS", "PORTS", "NAMES", "SIZE"]
    assert len(said(daemon, "ps", "-lq", "--no-trunc")) == 64
    daemon.corectl("rm", "-fv", "made", "ended", "runs", check=True)
    daemon.corectl("volume", "rm", "named", check=True)


def test_logs_of_a_time(daemon: Daemon) -> None:
    script = "echo one; sleep 1.2; echo two; sleep 1.2; echo three"
    daemon.corectl("run", "--name", "speaks", "busybox", "sh", "-c", script, check=True)
    stamps = [line.split()[0] for line in said(daemon, "logs", "-t", "speaks").splitlines()]
    assert said(daemon, "logs", "--since", stamps[1], "speaks") == "two\nthree"
    assert said(daemon, "logs", "--until", stamps[1], "speaks") == "one\ntwo"
    assert said(daemon, "logs", "-n", "1", "speaks") == "three"
    assert b"not understood" in daemon.corectl("logs", "--since", "soon", "speaks").stderr
    daemon.corectl("rm", "speaks", check=True)


def test_the_images_health_check_and_volumes_hold(daemon: Daemon, tmp_path: Path) -> None:
    daemon.corectl("create", "--name", "base", "busybox", "true", check=True)
    daemon.corectl(
        "commit", "-c", "VOLUME /data", "-c", "CMD sleep 1000", "base", "vol:1", check=True
    )
    run(daemon, "--name", "holds", "vol:1")
    (mount,) = looked(daemon, "holds")["Mounts"]
    assert (mount["Type"], mount["Destination"]) == ("volume", "/data")
    assert mount["Name"] in said(daemon, "volume", "ls", "-q").split()
    daemon.corectl("rm", "-fv", "holds", check=True)
    assert mount["Name"] not in said(daemon, "volume", "ls", "-q").split()
    daemon.corectl("rm", "base", check=True)


def test_a_start_whose_client_is_cut_off_is_whole_or_has_not_happened(daemon: Daemon) -> None:
    path = "/cored.workloads.v1.Workloads/Start"
    with Channel(str(daemon.address), namespace="default") as channel:
        calls = Workloads(channel)
        for milliseconds in range(0, 36, 3):
            id = calls.create(pb.ContainerConfig(image="busybox", args=["sleep", "1000"])).id
            asked = channel.begin(path, pb.StartRequest(container=id), pb.StartResponse)
            time.sleep(milliseconds / 1000)
            asked.cancel()
            with suppress(FailedPrecondition):  # it runs already
                calls.start(id)
            assert calls.exec(processes_pb2.ExecRequest(container=id, args=["true"])).exec_id
            calls.remove(id, force=True)
