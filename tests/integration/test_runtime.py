"""The shim manager with real runtimes and shims: runc, crun, and containerd's own shim."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import daemons
from tests.daemons import Daemon
from tests.living import glob
from tests.patience import eventually
from tests.tasks import kill_zygote

pytestmark = pytest.mark.root
IMAGE = "docker.io/library/busybox:latest"


def crun_works() -> bool:
    """crun 1.8 refuses hybrid cgroups while a controller sits in the v2 tree."""
    controllers = Path("/sys/fs/cgroup/unified/cgroup.controllers")
    return shutil.which("crun") is not None and not (
        controllers.exists() and controllers.read_text().strip()
    )


@pytest.fixture(scope="module", params=["runc", "crun"])
def daemon(request: pytest.FixtureRequest, busybox: Path) -> Iterator[Daemon]:
    """A daemon for each OCI runtime."""
    if request.param == "crun" and not crun_works():
        pytest.skip("crun cannot run on this host's cgroup layout")
    with daemons.cored(f'[plugins.runtime.shim]\nruntime = "{request.param}"\n') as running:
        running.ctr("images", "import", str(busybox))
        yield running


def shim_of(daemon: Daemon, name: str) -> int:
    return parent(pid_of(daemon, name))


def pid_of(daemon: Daemon, name: str) -> int:
    for line in daemon.ctr("tasks", "ls").stdout.splitlines():
        if line.split()[0] == name:
            return int(line.split()[1])
    raise AssertionError(f"no task {name}")


def parent(pid: int) -> int:
    found = re.search(r"PPid:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    assert found
    return int(found[1])


def test_a_whole_life(daemon: Daemon) -> None:
    done = daemon.ctr("run", "--rm", IMAGE, "life", "sh", "-c", "echo out; exit 5", check=False)
    assert (done.returncode, done.stdout) == (5, "out\n")


def test_exec_kill_and_metrics(daemon: Daemon) -> None:
    daemon.ctr("run", "-d", IMAGE, "busy", "sleep", "1000")
    done = daemon.ctr(
        *("tasks", "exec", "--exec-id", "e1", "busy", "sh", "-c", "echo in; exit 4"), check=False
    )
    assert (done.returncode, done.stdout) == (4, "in\n")
    assert "memory" in daemon.ctr("tasks", "metrics", "busy").stdout
    daemon.ctr("tasks", "kill", "-s", "SIGTERM", "busy")
    daemon.ctr("tasks", "kill", "-s", "SIGKILL", "busy")
    daemon.ctr("tasks", "rm", "-f", "busy", check=False)
    daemon.ctr("containers", "rm", "busy")


def test_a_terminal(daemon: Daemon) -> None:
    done = subprocess.run(
        ["script", "-qec", f"ctr -a {daemon.address} run --rm -t {IMAGE} term tty", "/dev/null"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "/dev/pts" in done.stdout or "/dev/console" in done.stdout


def test_a_shim_that_is_killed_takes_its_container_along_and_says_so(daemon: Daemon) -> None:
    daemon.ctr("run", "-d", IMAGE, "orphan", "sleep", "1000")
    pid = pid_of(daemon, "orphan")
    os.kill(parent(pid), signal.SIGKILL)
    eventually(lambda: not Path(f"/proc/{pid}").exists())
    eventually(lambda: "STOPPED" in daemon.ctr("tasks", "ls").stdout)
    assert "exit code 137" in daemon.ctr("tasks", "rm", "orphan").stderr
    daemon.ctr("containers", "rm", "orphan")


def test_nothing_of_a_container_stays(daemon: Daemon) -> None:
    before = set(glob(Path("/sys/fs/cgroup"), "*/default/gone*/cgroup.procs"))
    for number in range(3):
        daemon.ctr("run", "--rm", IMAGE, f"gone{number}", "true")
    assert set(glob(Path("/sys/fs/cgroup"), "*/default/gone*/cgroup.procs")) == before
    assert not list((daemon.home / "state/runtime.shim/default").iterdir())
    assert not list((daemon.home / "state/runtime.shim/.runtime/default").iterdir())
    mounts = Path(f"/proc/{daemon.process.pid}/mounts").read_text()  # type: ignore[union-attr]
    assert str(daemon.home / "state") not in mounts


def test_the_zygote_may_die(daemon: Daemon) -> None:
    assert daemon.process is not None
    assert kill_zygote(daemon.process.pid)
    assert daemon.ctr("run", "--rm", IMAGE, "after", "echo", "again").stdout == "again\n"


def test_containerds_own_shim_runs_under_cored(daemon: Daemon) -> None:
    shim = shutil.which("containerd-shim-runc-v2")
    assert shim is not None
    done = daemon.ctr(
        *("run", "--rm", "--runtime", shim, IMAGE, "foreign", "sh", "-c", "echo theirs; exit 3"),
        check=False,
    )
    assert (done.returncode, done.stdout) == (3, "theirs\n"), done.stderr


def test_our_shim_runs_under_containerd(busybox: Path) -> None:
    """Through the console script, as any containerd would start it."""
    script = Path(os.sys.executable).with_name("containerd-shim-cored-v2")  # type: ignore[attr-defined]
    with daemons.containerd() as containerd:
        containerd.ctr("images", "import", str(busybox))
        done = containerd.ctr(
            *("run", "--rm", "--runtime", str(script), IMAGE, "ours", "sh", "-c", "echo o; exit 6"),
            check=False,
        )
        assert (done.returncode, done.stdout) == (6, "o\n"), done.stderr


def test_corectl_runs_containers_under_anybody_s_shim(daemon: Daemon) -> None:
    shim = ("--runtime", "/usr/bin/containerd-shim-runc-v2", "busybox")
    done = daemon.corectl("run", "--rm", *shim, "sh", "-c", "echo out; echo err >&2; exit 3")
    assert (done.returncode, done.stdout, done.stderr) == (3, b"out\n", b"err\n")
    daemon.corectl("run", "-d", "--name", "strange", *shim, "seq", "1000", check=True)
    daemon.corectl("wait", "strange", check=True)
    found = daemon.corectl("logs", "strange", check=True).stdout
    assert found == b"".join(b"%d\n" % number for number in range(1, 1001))
    daemon.corectl("rm", "strange", check=True)
