"""Runtimes by name, by table, by path and by options; how they are listed; shims with company."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any as Anything

import pytest
from google.protobuf.any_pb2 import Any

from cored._pb.containerd.runc.v1 import oci_pb2
from cored._pb.containerd.types import introspection_pb2 as types_pb2
from tests import daemons, shims
from tests.daemons import Daemon
from tests.grpc_client import Client
from tests.living import remove_cgroups

pytestmark = pytest.mark.root
IMAGE = "docker.io/library/busybox:latest"
DEBIANS = "/usr/bin/containerd-shim-runc-v2"
CONFIG = f"""
[plugins.runtime.shim]
runtime = "runc"
[plugins.runtime.shim.runtimes.gvisor]
path = "runsc"
options = ["--platform=ptrace", "--network=none"]
[plugins.runtime.shim.runtimes.elsewhere]
path = "/usr/bin/crun"
root = "/run/cored-test-elsewhere"
[plugins.runtime.shim.runtimes.gone]
path = "/opt/no-such-runtime"
[plugins.runtime.shim.runtimes.debian]
shim = "{DEBIANS}"
"""


@pytest.fixture(scope="module")
def daemon(busybox: Path) -> Iterator[Daemon]:
    with daemons.cored(CONFIG) as running:
        running.ctr("images", "import", str(busybox))
        yield running
    shutil.rmtree("/run/cored-test-elsewhere", ignore_errors=True)


def bundle(daemon: Daemon, id: str) -> Path:
    return daemon.home / "state/runtime.shim/default" / id


def chosen(daemon: Daemon, id: str) -> dict[str, Anything]:
    return dict(json.loads((bundle(daemon, id) / "runtime").read_text()))


def remove(daemon: Daemon, *ids: str) -> None:
    for id in ids:
        daemon.ctr("tasks", "rm", "-f", id, check=False)
        daemon.ctr("containers", "rm", id)


@pytest.mark.parametrize("name", ["runc", "crun", "gvisor", "elsewhere", "/usr/bin/crun"])
def test_a_container_asks_for_its_runtime(daemon: Daemon, name: str) -> None:
    done = daemon.corectl("run", "--rm", "--runtime", name, "busybox:latest", "echo", "hello")
    assert (done.returncode, done.stdout) == (0, b"hello\n"), done.stderr


def test_gvisor_is_gvisor(daemon: Daemon) -> None:
    done = daemon.corectl("run", "--rm", "--runtime", "gvisor", "busybox:latest", "dmesg")
    assert b"Starting gVisor" in done.stdout


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("gone", b"'/opt/no-such-runtime': not found on this host"),
        (
            "nobody",
            b"there are crun, debian, elsewhere, gone, gvisor, kata, runc, runsc, youki, and",
        ),
        ("io.containerd.wasmtime.v1", b"containerd-shim-wasmtime-v1 is not on PATH"),
    ],
)
def test_a_runtime_that_is_not_there_is_named(daemon: Daemon, name: str, says: bytes) -> None:
    done = daemon.corectl("run", "--rm", "--runtime", name, "busybox:latest", "true")
    assert done.returncode == 125
    assert says in done.stderr
    assert not list((daemon.home / "state/runtime.shim").glob("default/*"))


def test_runtimes_are_listed_with_what_they_can(daemon: Daemon) -> None:
    done = daemon.corectl("runtime", "ls", "--format", "json", check=True)
    found = {one["name"]: one for one in json.loads(done.stdout)}
    runc = found["runc"]
    assert (runc["usual"], runc["works"], runc["kind"]) == (True, True, "oci")
    assert runc["path"] == shutil.which("runc")
    assert runc["version"].startswith("1.")
    assert "seccomp" in runc["features"]["linux"]
    assert found["crun"]["features"] is None
    assert found["gvisor"]["limits"]["update"] == "runsc has no update command"
    assert (found["gone"]["works"], found["debian"]["kind"]) == (False, "shim")
    assert found["debian"]["version"].startswith("1.6")
    table = daemon.corectl("runtime", "ls", check=True).stdout.decode()
    assert table.splitlines()[0].split() == [
        "NAME", "KIND", "VERSION", "PATH", "FEATURES", "WORKS",
    ]  # fmt: skip
    assert "no: OCI runtime '/opt/no-such-runtime': not found" in table


def test_features_are_told_as_containerd_tells_them(daemon: Daemon) -> None:
    options = oci_pb2.Options(binary_name="runc")
    asked = types_pb2.RuntimeRequest(runtime_path="io.containerd.runc.v2")
    asked.options.type_url = "containerd.runc.v1.Options"
    asked.options.value = options.SerializeToString()
    given = Any(type_url="containerd.types.RuntimeRequest", value=asked.SerializeToString())
    with Client(daemon.address) as api:
        answer = api.introspection.PluginInfo(
            type="io.containerd.runtime.v2", id="task", options=given
        )
    assert answer.extra.type_url == "containerd.types.RuntimeInfo"
    info = types_pb2.RuntimeInfo.FromString(answer.extra.value)
    assert (info.name, info.options) == ("io.containerd.runc.v2", asked.options)
    assert info.features.type_url == (
        "types.containerd.io/opencontainers/runtime-spec/1/features/Features"
    )
    expected = subprocess.check_output(["runc", "features"])
    assert json.loads(info.features.value) == json.loads(expected)


def test_our_shim_tells_containerd_of_its_runtime() -> None:
    command = [sys.executable, "-I", "-S", "-c", shims.BOOT, "-info"]
    done = subprocess.run(command, input=b"", capture_output=True, check=True)
    info = types_pb2.RuntimeInfo.FromString(done.stdout)
    assert info.name == "io.containerd.cored.v2"
    assert info.annotations["path"] == shutil.which("runc")
    assert json.loads(info.features.value)["ociVersionMin"] == "1.0.0"


def test_runcs_options_choose_program_and_place(daemon: Daemon, short_tmp: Path) -> None:
    daemon.ctr(
        *("run", "-d", "--runc-binary", "crun", "--runc-root", str(short_tmp)),
        *(IMAGE, "opts", "sleep", "1000"),
    )
    try:
        assert chosen(daemon, "opts")["binary"] == shutil.which("crun")
        assert (short_tmp / "default/opts").is_dir()
    finally:
        remove(daemon, "opts")
    assert not (short_tmp / "default/opts").exists()


@pytest.fixture
def cgroup() -> Iterator[str]:
    """A new cgroup's path, in every hierarchy."""
    path = f"/cored-test-shim-{os.getpid()}"
    root = Path("/sys/fs/cgroup")
    unified = (root / "cgroup.procs").exists()
    trees = [root] if unified else [t for t in root.iterdir() if (t / "cgroup.procs").exists()]
    groups = [tree / path.lstrip("/") for tree in trees]
    for group in groups:
        group.mkdir()
        for name in ("cpuset.cpus", "cpuset.mems"):  # v1 has none for a new one
            if (group / name).exists() and not (group / "cgroup.controllers").exists():
                (group / name).write_text((group.parent / name).read_text())
    yield path
    # when the shim has ended
    remove_cgroups(path.lstrip("/") if unified else f"*{path}")


def test_the_shim_moves_where_its_options_say_and_gives_its_pipes_away(
    short_tmp: Path, cgroup: str
) -> None:
    given = oci_pb2.Options(shim_cgroup=cgroup, io_uid=1234, io_gid=5678)
    options = Any(type_url="containerd.runc.v1.Options", value=given.SerializeToString())
    with shims.zygote(short_tmp) as zygote:
        task = zygote.task("sleep", "1000")
        out = task.fifo("out")
        task.create(stdout=out, options=options)
        # runc itself gives it to the process's user, and leaves the group
        assert (Path(out).stat().st_uid, Path(out).stat().st_gid) == (0, 5678)
        assert f":{cgroup}\n" in Path(f"/proc/{task.shim_pid}/cgroup").read_text()
        other = zygote.task("sleep", "1000")
        options.value = oci_pb2.Options(shim_cgroup="/no/such").SerializeToString()
        with pytest.raises(shims.Refused, match="shim cgroup '/no/such': does not exist"):
            other.create(options=options)


def test_containers_of_a_group_share_containerds_shim(daemon: Daemon) -> None:
    ids = ("first", "second", "third")
    try:
        for id in ids:
            daemon.ctr(
                *("run", "-d", "--runtime", "debian"),
                *("--annotation", "io.containerd.runc.v2.group=pod"),
                *(IMAGE, id, "sleep", "1000"),
            )
        addresses = {(bundle(daemon, id) / "address").read_text() for id in ids}
        assert len(addresses) == 1
        socket = addresses.pop().removeprefix("unix://")
        # one of them gone, its shim and socket are still the others'
        daemon.ctr("tasks", "kill", "-s", "SIGKILL", "first")
        remove(daemon, "first")
        assert Path(socket).exists()
        done = daemon.ctr("tasks", "exec", "--exec-id", "e", "second", "echo", "alive")
        assert done.stdout == "alive\n"
        daemon.kill()
        daemon.start()
        assert daemon.ctr("tasks", "ls").stdout.count("RUNNING") == 2
    finally:
        remove(daemon, *(id for id in ids if id in daemon.ctr("containers", "ls", "-q").stdout))
    assert not Path(socket).exists()


def test_a_shim_may_answer_in_json(daemon: Daemon) -> None:
    """As shims of version 3 do; ours does when it is a stranger's."""
    script = Path(sys.executable).with_name("containerd-shim-cored-v2")
    daemon.ctr("run", "-d", "--runtime", str(script), IMAGE, "three", "sleep", "1000")
    try:
        told = json.loads((bundle(daemon, "three") / "bootstrap.json").read_text())
        assert (told["version"], told["protocol"]) == (3, "ttrpc")
        daemon.kill()
        daemon.start()
        done = daemon.ctr("tasks", "exec", "--exec-id", "e", "three", "echo", "alive")
        assert done.stdout == "alive\n"
    finally:
        remove(daemon, "three")


def test_a_table_with_a_mistake_stops_the_daemon_with_its_name() -> None:
    with pytest.raises(
        RuntimeError, match=r"unknown key 'plugins.runtime.shim.runtimes.x.optoins'"
    ):
        with daemons.cored("[plugins.runtime.shim.runtimes.x]\noptoins = []\n"):
            pass
