"""Pods while the daemon is killed and comes back, and after the machine has been started anew."""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import random
import shutil
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest

from cored._pb.cri.v1 import api_pb2 as pb
from tests import kubelet as kubelets
from tests.daemons import Daemon
from tests.grpc_client import Client
from tests.kubelet import Kubelet
from tests.living import remove_cgroups
from tests.patience import eventually
from tests.traces import more, traces

pytestmark = pytest.mark.root
_AWAY = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
_PATIENCE = 120.0
CGROUP = f"/cored-pods-{os.getpid()}"
WORKERS, LIVES, KILLS = 6, 6, 6


@pytest.fixture
def node(busybox: Path, tmp_path: Path, private_mounts: None) -> Iterator[tuple[Daemon, Kubelet]]:
    with kubelets.daemon(busybox, tmp_path) as both:
        yield both
    for pattern in (CGROUP[1:], f"*{CGROUP}"):
        remove_cgroups(pattern)


def _config(kubelet: Kubelet, name: str = "", **fields: Any) -> pb.PodSandboxConfig:
    """A pod in a cgroup that a kubelet has made."""
    linux = pb.LinuxPodSandboxConfig(cgroup_parent=CGROUP)
    return kubelet.pod_config(name, linux=linux, **fields)


def _reboot(daemon: Daemon, ids: Sequence[str]) -> None:
    """End all that a reboot ends, beside the daemon: processes and mounts."""
    daemon.kill()
    state = f"{daemon.home}/state/"
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            cgroup = (path / "cgroup").read_text()
            if any(id in cgroup for id in ids) or _has_open(path, state):
                os.kill(int(path.name), signal.SIGKILL)
    for line in reversed(Path("/proc/self/mounts").read_text().splitlines()):
        if line.split()[1].startswith(state):
            subprocess.run(["umount", "-l", line.split()[1]], check=True)


def _has_open(process: Path, below: str) -> bool:
    for link in (process / "fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            if os.readlink(link).startswith(below):
                return True
    return False


@pytest.mark.parametrize("kept", [False, True], ids=["run is empty", "another boot id"])
def test_after_a_reboot_pods_are_not_ready_and_are_made_anew(node: Any, kept: bool) -> None:
    daemon, kubelet = node
    config = kubelet.pod_config()
    image = pb.ImageSpec(image=kubelets.IMAGE)
    volume = pb.Mount(container_path="/image", image=image, readonly=True)
    pod = kubelet.run(config)
    one, fresh = kubelet.start(pod, mounts=[volume]), kubelet.create(pod)
    done = kubelet.ended(kubelet.start(pod, "sh", "-c", "exit 3"))
    _reboot(daemon, [pod, one])
    if kept:
        (daemon.home / "state/runtime.shim/.boot").write_text("another boot")
    else:
        shutil.rmtree(daemon.home / "state")
    daemon.start()
    found = kubelet.call("PodSandboxStatus", pod_sandbox_id=pod).status
    assert found.state == pb.SANDBOX_NOTREADY
    status = kubelet.ended(one)
    assert (status.exit_code, status.reason) == (255, "Error" if kept else "Unknown")
    assert kubelet.status(done.id) == done
    assert kubelet.status(fresh).state == pb.CONTAINER_CREATED
    # the kubelet stops what is left of the pod and makes it anew under the next attempt
    kubelet.call("StopPodSandbox", pod_sandbox_id=pod)
    config.metadata.attempt += 1
    again = kubelet.run(config)
    fields = {"metadata": pb.ContainerMetadata(name="again", attempt=1), "mounts": [volume]}
    assert kubelet.output(again, "ls", "/image/bin/busybox", **fields) == "/image/bin/busybox"
    for id in (pod, again):
        kubelet.call("RemovePodSandbox", pod_sandbox_id=id)
    assert not kubelet.call("ListPodSandbox").items
    assert not list((daemon.home / "state/grpc_service.cri").glob("*/*"))


def _settled(what: Callable[[], list[str]]) -> None:
    """Nothing is left, or soon is not any more."""
    end = time.monotonic() + 60
    while (left := what()) and time.monotonic() < end:
        time.sleep(0.2)
    assert not left, "\n".join(left)


def test_a_container_that_was_not_finished_is_gone_with_the_daemon(node: Any) -> None:
    daemon, kubelet = node
    pod = kubelet.run()
    whole, half = kubelet.create(pod), kubelet.create(pod)
    daemon.kill()
    daemon.start()
    with Client(daemon.address, "k8s.io") as api:
        # as its record is until its spec is known
        record = api.containers.Get(id=half).container
        record.spec.value = b"{}"
        api.containers.Update(container=record, update_mask={"paths": ["spec"]})
    daemon.kill()
    daemon.start()
    assert [one.id for one in kubelet.call("ListContainers").containers] == [whole]
    with Client(daemon.address, "k8s.io") as api:
        assert half not in {info.name for page in api.snapshots.List() for info in page.info}
    kubelet.call("StartContainer", container_id=whole)
    kubelet.call("RemovePodSandbox", pod_sandbox_id=pod)


class Worker:
    """Makes pods, one after the other, as a kubelet does that does not know what came of a call."""

    def __init__(self, kubelet: Kubelet, number: int) -> None:
        self.kubelet = kubelet
        self.number = number
        self.again = 0
        self.done = 0
        self.failure = ""

    def run(self) -> None:
        try:
            for life in range(LIVES):
                self._live(f"w{self.number}-{life}", life)
                self.done += 1
        except (AssertionError, grpc.RpcError) as error:
            self.failure = f"worker {self.number}: {error}"

    def _live(self, name: str, life: int) -> None:
        config = _config(self.kubelet, name)
        pod = self._pod(config)
        code = 10 + life
        script = f"for n in 1 2 3 4 5 6 7 8; do echo line $n; sleep 0.05; done; exit {code}"
        ends = self._container(pod, config, "ends", "sh", "-c", script)
        stays = self._container(pod, config, "stays", "sleep", "1000")
        assert self._insist("ExecSync", container_id=stays, cmd=["echo", name]).stdout
        status = eventually(lambda: self._ended(ends), _PATIENCE)
        lines = Path(status.log_path).read_text().splitlines()
        assert status.exit_code == code, str(status)
        assert [one.split(" ", 3)[3] for one in lines] == [f"line {n}" for n in range(1, 9)]
        if life % 2:  # the other half by force
            self._insist("StopContainer", container_id=stays, timeout=5)
        self._insist("StopPodSandbox", pod_sandbox_id=pod)
        self._insist("RemovePodSandbox", pod_sandbox_id=pod)

    def _insist(self, method: str, **fields: Any) -> Any:
        """Call until the daemon answers."""
        end = time.monotonic() + _PATIENCE
        while True:
            try:
                return self.kubelet.call(method, **fields)
            except grpc.RpcError as error:
                if error.code() not in _AWAY or time.monotonic() > end:
                    raise AssertionError(f"{method}: {error.code()}: {error.details()}") from error
            time.sleep(0.05)

    def _pod(self, config: pb.PodSandboxConfig) -> str:
        """A pod that is ready; what may have come of an attempt that nobody answered is removed."""
        while True:
            try:
                return str(self.kubelet.call("RunPodSandbox", config=config).pod_sandbox_id)
            except grpc.RpcError as error:
                assert error.code() in _AWAY, f"{error.code()}: {error.details()}"
            self.again += 1
            for one in self._insist("ListPodSandbox").items:
                if one.metadata.uid == config.metadata.uid:
                    self._insist("StopPodSandbox", pod_sandbox_id=one.id)
                    self._insist("RemovePodSandbox", pod_sandbox_id=one.id)
            config.metadata.attempt += 1

    def _container(self, pod: str, config: pb.PodSandboxConfig, name: str, *command: str) -> str:
        meta = pb.ContainerMetadata(name=name)
        while True:
            try:
                made = self.kubelet.call(
                    "CreateContainer",
                    pod_sandbox_id=pod,
                    sandbox_config=config,
                    config=pb.ContainerConfig(
                        metadata=meta, image=pb.ImageSpec(image=kubelets.IMAGE), command=command,
                        log_path=f"{name}{meta.attempt}.log",
                    ),
                ).container_id  # fmt: skip
                self.kubelet.call("StartContainer", container_id=made)
                return str(made)
            except grpc.RpcError as error:
                assert error.code() in _AWAY, f"{error.code()}: {error.details()}"
            self.again += 1
            wanted = pb.ContainerFilter(pod_sandbox_id=pod)
            for one in self._insist("ListContainers", filter=wanted).containers:
                if one.metadata.name == name:
                    self._insist("RemoveContainer", container_id=one.id)
            meta.attempt += 1

    def _ended(self, id: str) -> pb.ContainerStatus | None:
        status = self._insist("ContainerStatus", container_id=id).status
        return status if status.state == pb.CONTAINER_EXITED else None


@pytest.mark.slow
def test_pods_come_and_go_while_the_daemon_is_killed(node: Any, tmp_path: Path) -> None:
    daemon, kubelet = node
    kubelet.call("RemovePodSandbox", pod_sandbox_id=kubelet.run())  # what is made once stays
    config = _config(kubelet, "lasting")
    pod = kubelet.run(config)
    ticks = "n=0; while :; do n=$((n+1)); echo tick $n; sleep 0.05; done"
    lasting = kubelet.start(pod, "sh", "-c", ticks)
    assert kubelet.exec(lasting, "true").exit_code == 0
    before, status = traces(daemon, CGROUP, tmp_path), kubelet.status(lasting)
    workers = [Worker(kubelet, number) for number in range(WORKERS)]
    threads = [threading.Thread(target=worker.run) for worker in workers]
    for thread in threads:
        thread.start()
    rng = random.Random(7)
    kills = 0
    while kills < KILLS and any(thread.is_alive() for thread in threads):
        time.sleep(rng.uniform(0.2, 0.9))
        daemon.kill()
        kills += 1
        daemon.start(60)
    for thread in threads:
        thread.join()
    print(f"{kills} kills, {sum(worker.again for worker in workers)} attempts were made again")
    assert "\n".join(worker.failure for worker in workers if worker.failure) == ""
    assert [worker.done for worker in workers] == [LIVES] * WORKERS and kills == KILLS
    # what was there all the time was left alone
    assert kubelet.status(lasting) == status
    lines = [line.split(" ")[-1] for line in Path(status.log_path).read_text().splitlines()]
    assert lines == [str(number) for number in range(1, len(lines) + 1)]
    assert [one.id for one in kubelet.call("ListPodSandbox").items] == [pod]
    assert [one.id for one in kubelet.call("ListContainers").containers] == [lasting]
    _settled(lambda: more(traces(daemon, CGROUP, tmp_path), before))


@pytest.mark.slow
def test_a_hundred_pods_up_and_down_leave_nothing_behind(node: Any, tmp_path: Path) -> None:
    daemon, kubelet = node
    ports = itertools.count(12000)
    up, failures = [], []
    descriptors = Path(f"/proc/{daemon.process.pid}/fd")

    def live() -> None:
        try:
            mapping = pb.PortMapping(container_port=80, host_port=next(ports))
            pod = kubelet.run(_config(kubelet, port_mappings=[mapping]))
            volume = pb.Mount(
                container_path="/i", image=pb.ImageSpec(image=kubelets.IMAGE), readonly=True
            )
            one = kubelet.start(pod, mounts=[volume])
            assert kubelet.exec(one, "true").exit_code == 0
            up.append(pod)
        except (AssertionError, grpc.RpcError) as error:
            failures.append(repr(error))

    def go(pod: str) -> None:
        kubelet.call("StopPodSandbox", pod_sandbox_id=pod)
        kubelet.call("RemovePodSandbox", pod_sandbox_id=pod)

    def many(calls: Iterator[Callable[[], None]]) -> None:
        with ThreadPoolExecutor(10) as pool:
            for done in [pool.submit(call) for call in calls]:
                done.result()

    live()
    go(up.pop())  # the bridge and its tables stay
    before, open_before = traces(daemon, CGROUP, tmp_path), len(list(descriptors.iterdir()))
    many(live for _ in range(100))
    assert not failures and len(up) == 100, daemon.log[-6000:]
    there = Counter(one.partition(" ")[0] for one in more(traces(daemon, CGROUP, tmp_path), before))
    print(dict(there))
    # all at the same time, and the look finds what it looks for
    assert there["record"] == there["task"] == 200 and there["snapshot"] >= 200
    for kind in ("mount", "process", "shim", "cgroup", "namespace", "link", "rule", "file"):
        assert there[kind] >= 100, kind
    many(functools.partial(go, pod) for pod in up)
    assert not kubelet.call("ListContainers").containers
    assert not kubelet.call("ListPodSandbox").items
    _settled(lambda: more(traces(daemon, CGROUP, tmp_path), before))
    eventually(lambda: len(list(descriptors.iterdir())) <= open_before + 5, 60)
