"""Checkpoint and restore through the Tasks service: with gVisor, which needs nobody's help for it,
and with the runtimes that go through criu, where criu works."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from google.protobuf.any_pb2 import Any as AnyMessage

from cored._pb.containerd.runc.v1 import oci_pb2
from tests.daemons import Daemon, cored
from tests.grpc_client import Client
from tests.patience import eventually

pytestmark = pytest.mark.root
IMAGE = "docker.io/library/busybox:latest"
# a number of its own, and how often it was written
COUNT = (
    "t=$(head -c 8 /dev/urandom | md5sum | cut -c1-16); i=0; "
    "while :; do i=$((i+1)); echo $t $i > /new; mv /new /count; sleep 0.1; done"
)
CRIU = "application/vnd.containerd.container.criu.checkpoint.criu.tar"


@pytest.fixture(scope="module")
def gvisor(private_mounts: None, busybox: Path) -> Iterator[Daemon]:
    options = ["--platform=ptrace", "--network=none", "--ignore-cgroups"]
    config = (
        '[plugins.runtime.shim]\nruntime = "gvisor"\n'
        f'[plugins.runtime.shim.runtimes.gvisor]\npath = "runsc"\noptions = {options}\n'
    )
    with cored(config) as daemon:
        daemon.ctr("images", "import", str(busybox))
        yield daemon


@pytest.fixture
def api(gvisor: Daemon) -> Iterator[Client]:
    with Client(gvisor.address, "default") as api:
        api.leases.Create(id="checkpoints")
        yield api.within("default", "checkpoints")
        api.leases.Delete(id="checkpoints")


def counted(daemon: Daemon, id: str) -> tuple[str, int]:
    """Who counts, and how far."""
    asked = ("tasks", "exec", "--exec-id", f"e{time.time_ns()}", id, "cat", "/count")
    token, _, number = daemon.ctr(*asked, check=False).stdout.partition(" ")
    return token, int(number or 0)


def options(**values: object) -> AnyMessage:
    made = oci_pb2.CheckpointOptions(**values)  # type: ignore[arg-type]
    return AnyMessage(type_url=made.DESCRIPTOR.full_name, value=made.SerializeToString())


def test_a_task_goes_into_a_blob_and_comes_back(api: Client, gvisor: Daemon) -> None:
    gvisor.ctr("run", "-d", IMAGE, "frozen", "sh", "-c", COUNT)
    eventually(lambda: counted(gvisor, "frozen")[1] > 3)
    before = counted(gvisor, "frozen")
    image, spec = api.tasks.Checkpoint(
        container_id="frozen", options=options(exit=True)
    ).descriptors
    assert image.media_type == CRIU
    assert "checkpoint.config" in spec.media_type
    kept = AnyMessage.FromString(
        b"".join(page.data for page in api.content.Read(digest=spec.digest))
    )
    assert kept == api.containers.Get(id="frozen").container.spec
    api.tasks.Wait(container_id="frozen")
    api.tasks.Delete(container_id="frozen")

    mounts = api.snapshots.Mounts(snapshotter="overlayfs", key="frozen").mounts
    made = api.tasks.Create(container_id="frozen", rootfs=mounts, checkpoint=image)
    assert made.pid == 0
    assert api.tasks.Get(container_id="frozen").process.status == 1  # created
    started = api.tasks.Start(container_id="frozen")
    assert started.pid > 0
    # it goes on counting where it was, in memory that nothing else has
    restored = counted(gvisor, "frozen")
    eventually(lambda: counted(gvisor, "frozen") > restored)
    assert restored >= before and restored[0] == before[0]
    api.tasks.Kill(container_id="frozen", signal=9)
    assert api.tasks.Wait(container_id="frozen").exit_status == 137
    api.tasks.Delete(container_id="frozen")
    api.containers.Delete(id="frozen")
    assert list((gvisor.home / "state/checkpoints").glob(".*")) == []


def test_a_restored_task_that_never_starts_can_be_deleted(api: Client, gvisor: Daemon) -> None:
    gvisor.ctr("run", "-d", IMAGE, "cold", "sh", "-c", COUNT)
    image, _ = api.tasks.Checkpoint(container_id="cold", options=options(exit=True)).descriptors
    api.tasks.Wait(container_id="cold")
    api.tasks.Delete(container_id="cold")
    mounts = api.snapshots.Mounts(snapshotter="overlayfs", key="cold").mounts
    with api.refused("INVALID_ARGUMENT", "some/thing"):
        wrong = type(image)(media_type="some/thing", digest=image.digest, size=image.size)
        api.tasks.Create(container_id="cold", rootfs=mounts, checkpoint=wrong)
    with api.refused("NOT_FOUND"):
        gone = type(image)(media_type=CRIU, digest="sha256:" + "0" * 64, size=1)
        api.tasks.Create(container_id="cold", rootfs=mounts, checkpoint=gone)
    api.tasks.Create(container_id="cold", rootfs=mounts, checkpoint=image)
    api.tasks.Delete(container_id="cold")
    api.containers.Delete(id="cold")
    with api.refused("NOT_FOUND"):
        api.tasks.Checkpoint(container_id="cold")


def test_checkpoints_go_through_criu_where_it_works(daemon: Daemon, tmp_path: Path) -> None:
    works = shutil.which("criu") is not None and (
        subprocess.run(["criu", "check"], capture_output=True, check=False).returncode == 0
    )
    daemon.ctr("run", "-d", IMAGE, "criu", "sh", "-c", COUNT)
    (tmp_path / "image").mkdir()
    done = daemon.ctr(
        "tasks", "checkpoint", "--image-path", str(tmp_path / "image"), "criu", check=False
    )
    if works:
        assert done.returncode == 0, done.stderr
        assert any((tmp_path / "image").iterdir())
    else:
        assert done.returncode == 1
        assert "checkpoint" in done.stderr
    # leave-running is the default: it is none the worse for it
    assert daemon.ctr("tasks", "ls").stdout.split().count("RUNNING") == 1
    daemon.ctr("tasks", "rm", "-f", "criu")
    daemon.ctr("containers", "rm", "criu")
