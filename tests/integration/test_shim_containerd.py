"""Our shim under Debian's containerd, found on PATH by its runtime name and driven by ctr."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import daemons, shims
from tests.daemons import Daemon
from tests.patience import eventually
from tests.watching import watched

pytestmark = pytest.mark.root
RUNTIME = ("--runtime", "io.containerd.cored.v2")
IMAGE = "docker.io/library/busybox:latest"


@pytest.fixture(scope="module")
def containerd(busybox: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    place = tmp_path_factory.mktemp("bin")
    script = place / "containerd-shim-cored-v2"
    script.write_text(f'#!/bin/sh\nexec {sys.executable} -I -S -c "{shims.BOOT}" "$@"\n')
    script.chmod(0o755)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", f"{place}:{os.environ['PATH']}")
        with daemons.containerd() as running:
            running.ctr("images", "import", str(busybox))
            yield running


def pid_of(daemon: Daemon, name: str) -> int:
    lines = daemon.ctr("tasks", "ls").stdout.splitlines()
    return next(int(line.split()[1]) for line in lines if line.split()[0] == name)


def shim_of(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("PPid:")[1].split()[0])


def remove(daemon: Daemon, name: str) -> None:
    daemon.ctr("tasks", "rm", "-f", name, check=False)
    daemon.ctr("containers", "rm", name)


def test_containerd_runs_a_container_through_our_shim(containerd: Daemon) -> None:
    run = ("run", "--rm", *RUNTIME, IMAGE)
    assert containerd.ctr(*run, "one", "echo", "hello").stdout == "hello\n"
    assert containerd.ctr(*run, "two", "sh", "-c", "exit 7", check=False).returncode == 7
    failed = containerd.ctr(*run, "three", "/no/such/program", check=False)
    assert failed.returncode != 0
    assert "no such file" in failed.stderr
    assert containerd.ctr("containers", "ls", "-q").stdout == ""


def test_containerd_hears_of_all_that_happens_in_its_order(
    containerd: Daemon, tmp_path: Path
) -> None:
    with watched(containerd, tmp_path / "events") as lines:
        containerd.ctr("run", "-d", *RUNTIME, IMAGE, "told", "sleep", "1000")
        shim = shim_of(pid_of(containerd, "told"))
        assert Path(f"/proc/{shim}/comm").read_text() == "cored-shim\n"
        done = containerd.ctr("tasks", "exec", "--exec-id", "e", "told", "echo", "in")
        assert done.stdout == "in\n"
        containerd.ctr("tasks", "pause", "told")
        containerd.ctr("tasks", "resume", "told")
        containerd.ctr("tasks", "metrics", "told")
        containerd.ctr("tasks", "kill", "--signal", "SIGKILL", "told")
        eventually(lambda: "STOPPED" in containerd.ctr("tasks", "ls").stdout)
        remove(containerd, "told")

        def topics() -> list[str]:
            return [word for line in lines() for word in line.split() if "/tasks/" in word]

        # what shims tell takes a way of its own
        eventually(lambda: "/tasks/delete" in topics())
        told = topics()
    assert told == [
        f"/tasks/{topic}"
        for topic in (
            "create", "start", "exec-added", "exec-started", "exit", "paused", "resumed", "exit",
            "delete",
        )
    ]  # fmt: skip


def test_a_container_outlives_containerd_and_is_found_again(containerd: Daemon) -> None:
    containerd.ctr("run", "-d", *RUNTIME, IMAGE, "survivor", "sleep", "1000")
    pid = pid_of(containerd, "survivor")
    containerd.kill()
    containerd.start()
    assert pid_of(containerd, "survivor") == pid
    assert "RUNNING" in containerd.ctr("tasks", "ls").stdout
    remove(containerd, "survivor")


def test_the_delete_action_cleans_up_after_a_killed_shim(containerd: Daemon) -> None:
    containerd.ctr("run", "-d", *RUNTIME, IMAGE, "bereft", "sleep", "1000")
    pid = pid_of(containerd, "bereft")
    os.kill(shim_of(pid), signal.SIGKILL)
    eventually(lambda: not Path(f"/proc/{pid}").exists())
    eventually(lambda: "bereft" not in containerd.ctr("tasks", "ls").stdout)
    containerd.ctr("containers", "rm", "bereft")


def test_the_delete_action_ends_a_living_shim(containerd: Daemon, short_tmp: Path) -> None:
    bundle = short_tmp / "bundle"
    mounts = shims.make_bundle(bundle, short_tmp, "x", ["sleep", "1000"])
    flags = ("-namespace", "tests", "-address", str(short_tmp / "nobody"), "-id", "x")
    shim = ["containerd-shim-cored-v2", *flags, "-bundle", str(bundle)]
    environment = {k: v for k, v in os.environ.items() if k != "TTRPC_ADDRESS"}
    address = subprocess.check_output([*shim, "start"], cwd=bundle, text=True, env=environment)
    assert (bundle / "address").read_text() == address
    client = shims.Client(address)
    task = shims.Task("x", bundle, address, 0, mounts, client)
    pid = task.create()
    task.start()
    done = subprocess.run([*shim, "delete"], cwd=bundle, capture_output=True, check=True)
    answer = shims.pb.DeleteResponse.FromString(done.stdout)
    assert (answer.pid, answer.exit_status) == (pid, 137)
    assert not os.path.ismount(bundle / "rootfs")
    assert not os.path.exists(address.removeprefix("unix://"))
    with pytest.raises((ConnectionError, OSError)):
        task.state()
    client.close()
    shims.remove_cgroups()


def test_the_version_is_said() -> None:
    command = [sys.executable, "-I", "-S", "-c", shims.BOOT]
    assert subprocess.check_output([*command, "-v"]).startswith(b"containerd-shim-cored-v2 ")
    assert subprocess.run(command, capture_output=True, check=False).returncode == 2
