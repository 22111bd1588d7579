"""What a kubelet does all day, acted out: probes, rotation, crash loops, deletions, image GC."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from cored._pb.cri.v1 import api_pb2 as pb
from tests import images
from tests import kubelet as kubelets
from tests.daemons import Daemon
from tests.grpc_client import Client
from tests.kubelet import Kubelet, refused
from tests.patience import eventually

pytestmark = pytest.mark.root
# an application: it says what it does, is ready after a while, and takes its time to go
APPLICATION = (
    "echo starting; trap 'echo stopping; rm /ready; sleep 0.3; exit 0' TERM;"
    " touch /ready; n=0; while :; do n=$((n+1)); echo beat $n; sleep 0.1; done"
)


@pytest.fixture(scope="module")
def node(
    busybox: Path, private_mounts: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Daemon, Kubelet]]:
    pins = '[plugins.grpc_service.cri-images]\npinned = ["registry.example/agent:1"]\n'
    with kubelets.daemon(busybox, tmp_path_factory.mktemp("cni"), extra=pins) as both:
        yield both


@pytest.fixture
def kubelet(node: tuple[Daemon, Kubelet]) -> Kubelet:
    return node[1]


def _meta(name: str, attempt: int = 0) -> pb.ContainerMetadata:
    return pb.ContainerMetadata(name=name, attempt=attempt)


def _log(kubelet: Kubelet, id: str) -> str:
    return Path(kubelet.status(id).log_path).read_text()


def test_a_pod_of_three_containers_is_probed_and_goes_in_grace(kubelet: Kubelet) -> None:
    pod = kubelet.run(kubelet.pod_config(labels={"app": "shop"}))
    # one that prepares, to its end, before the others
    setup = kubelet.start(pod, "sh", "-c", "echo ready >/dev/shm/setup", metadata=_meta("setup"))
    assert kubelet.ended(setup).reason == "Completed"
    app = kubelet.start(pod, "sh", "-c", APPLICATION, metadata=_meta("app"))
    web = kubelet.start(
        pod, "sh", "-c", "cat /dev/shm/setup >/index.html; httpd -f -p 80 -h /",
        metadata=_meta("web"),
    )  # fmt: skip
    beside = kubelet.start(pod, metadata=_meta("beside"))
    # readiness, by a command in one and over the network from another
    eventually(lambda: kubelet.exec(app, "test", "-f", "/ready").exit_code == 0)
    fetch = ("wget", "-qO-", "http://127.0.0.1/")
    assert eventually(lambda: kubelet.exec(beside, *fetch).stdout) == b"ready\n"
    assert kubelet.exec(app, "test", "-f", "/nothing").exit_code == 1
    with refused(grpc.StatusCode.DEADLINE_EXCEEDED):
        kubelet.exec(beside, "sleep", "99", timeout=1)
    assert b"sleep 99" not in kubelet.exec(beside, "ps").stdout
    # many probes at once, while it is asked for everything else
    codes: list[int] = []

    def probe(number: int) -> None:
        codes.append(kubelet.exec(app, "sh", "-c", f"exit {number}").exit_code)

    probes = [threading.Thread(target=probe, args=(n,)) for n in range(12)]
    for one in probes:
        one.start()
    wanted = pb.ContainerFilter(pod_sandbox_id=pod)
    states = {c.id: c.state for c in kubelet.call("ListContainers", filter=wanted).containers}
    for one in probes:
        one.join()
    running = pb.CONTAINER_RUNNING
    assert states == {setup: pb.CONTAINER_EXITED, app: running, web: running, beside: running}
    assert sorted(codes) == list(range(12))
    # in grace: all containers at the same time, the pod after them
    _together(*(lambda id=id: kubelet.call("StopContainer", container_id=id, timeout=30)
                for id in (app, web, beside)))  # fmt: skip
    assert kubelet.status(app).exit_code == 0
    assert _log(kubelet, app).rstrip().endswith("stdout F stopping")
    kubelet.call("StopPodSandbox", pod_sandbox_id=pod)
    # what it was is there to be read until it is removed
    found = kubelet.call("PodSandboxStatus", pod_sandbox_id=pod)
    assert found.status.state == pb.SANDBOX_NOTREADY
    assert len(found.containers_statuses) == 4
    kubelet.call("RemovePodSandbox", pod_sandbox_id=pod)
    assert not kubelet.call("ListContainers", filter=wanted).containers


def _together(*calls: Any) -> None:
    threads = [threading.Thread(target=call) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_a_pod_that_does_not_want_to_go_is_deleted_by_force(kubelet: Kubelet) -> None:
    pod = kubelet.run()
    deaf = "trap '' TERM; (trap '' TERM; sleep 999) & while :; do sleep 0.1; done"
    one = kubelet.start(pod, "sh", "-c", deaf)
    # one that waits for its grace is not in the way of another who has none
    waiting = threading.Thread(
        target=lambda: kubelet.call("StopContainer", container_id=one, timeout=600, deadline=700)
    )
    waiting.start()
    kubelet.call("StopPodSandbox", pod_sandbox_id=pod)
    waiting.join()
    assert kubelet.status(one).exit_code == 137
    kubelet.call("RemovePodSandbox", pod_sandbox_id=pod)
    with refused(grpc.StatusCode.NOT_FOUND):
        kubelet.status(one)


def test_a_crash_loop_counts_up_and_keeps_the_last_attempts(
    kubelet: Kubelet, tmp_path: Path
) -> None:
    (tmp_path / "says").write_text("")
    pod = kubelet.run()
    mount = pb.Mount(container_path="/why", host_path=str(tmp_path / "says"))
    tried = []
    for attempt in range(4):
        script = f"echo attempt {attempt}; echo failed {attempt} >/why; exit {10 + attempt}"
        one = kubelet.start(
            pod, "sh", "-c", script, metadata=_meta("crash", attempt), mounts=[mount],
            log_path=f"crash/{attempt}.log", annotations={"restartCount": str(attempt)},
        )  # fmt: skip
        tried.append(one)
        status = kubelet.ended(one)
        assert (status.exit_code, status.reason) == (10 + attempt, "Error")
        assert (tmp_path / "says").read_text() == f"failed {attempt}\n"
        with refused(grpc.StatusCode.ALREADY_EXISTS):
            kubelet.create(pod, metadata=_meta("crash", attempt))
        for old in tried[:-2]:  # it keeps the last one for those who ask for its log
            kubelet.call("RemoveContainer", container_id=old)
    listed = kubelet.call("ListContainers", filter=pb.ContainerFilter(pod_sandbox_id=pod))
    assert [(c.metadata.name, c.metadata.attempt) for c in listed.containers] == [
        ("crash", 3), ("crash", 2),
    ]  # fmt: skip
    directory = Path(kubelet.status(tried[-1]).log_path).parent
    assert [kubelet.log(one) for one in tried[2:]] == ["attempt 2", "attempt 3"]
    # logs are the kubelet's to remove
    assert sorted(path.name for path in directory.iterdir()) == [f"{n}.log" for n in range(4)]
    kubelet.call("RemovePodSandbox", pod_sandbox_id=pod)


def test_no_line_is_lost_over_rotations(kubelet: Kubelet) -> None:
    pod = kubelet.run()
    script = (
        "n=0; while [ $n -lt 3000 ]; do n=$((n+1)); echo line $n;"
        " [ $((n % 100)) = 0 ] && sleep 0.02; done; true"
    )

    def over(id: str) -> bool:
        return bool(kubelet.status(id).state == pb.CONTAINER_EXITED)

    one = kubelet.start(pod, "sh", "-c", script)
    path = Path(kubelet.status(one).log_path)
    for number in range(5):
        eventually(lambda: (path.exists() and path.stat().st_size > 2000) or over(one))
        if over(one):
            break
        path.rename(f"{path}.{number}")
        try:
            kubelet.call("ReopenContainerLog", container_id=one)
        except grpc.RpcError as error:
            assert error.code() == grpc.StatusCode.FAILED_PRECONDITION  # it has just ended
            break
    kubelet.ended(one)
    parts = [p for n in range(5) if (p := Path(f"{path}.{n}")).exists()]
    lines = "".join(
        p.read_text() for p in [*parts, *([path] if path.exists() else [])]
    ).splitlines()
    assert [line.split(" ", 3)[3] for line in lines] == [f"line {n}" for n in range(1, 3001)]
    assert parts
    kubelet.call("RemovePodSandbox", pod_sandbox_id=pod)


def _imported(daemon: Daemon, place: Path, name: str, busybox: bytes) -> str:
    layers = [images.layer({"bin": None, "bin/busybox": busybox, "bin/sh": busybox,
                            "own": name.encode()})]  # fmt: skip
    made = images.make(layers, command=["/bin/sh"])
    daemon.ctr("-n", "k8s.io", "images", "import", str(images.write_layout(made, place, name)))
    return name


def test_images_are_collected_but_those_pinned_or_in_use(
    node: tuple[Daemon, Kubelet], tmp_path: Path
) -> None:
    daemon, kubelet = node
    program = Path("/bin/busybox").read_bytes()
    pinned, used, unused = (
        _imported(daemon, tmp_path / f"{number}.tar", name, program)
        for number, name in enumerate(
            ("registry.example/agent:1", "registry.example/used:1", "registry.example/old:1")
        )
    )
    pod = kubelet.run()
    one = kubelet.start(pod, "/bin/busybox", "sleep", "1000", image=pb.ImageSpec(image=used))

    def content() -> set[str]:
        with Client(daemon.address, "k8s.io") as api:
            return {info.digest for page in api.content.List() for info in page.info}

    def collect() -> set[str]:
        """What a kubelet does when the disk is full."""
        running = {c.image_id for c in kubelet.call("ListContainers").containers}
        for image in kubelet.call("ListImages").images:
            if not image.pinned and image.id not in running:
                kubelet.call("RemoveImage", image=pb.ImageSpec(image=image.id))
        return {tag for image in kubelet.call("ListImages").images for tag in image.repo_tags}

    before = content()
    disk = kubelet.call("ImageFsInfo").image_filesystems[0]
    assert disk.used_bytes.value and unused
    assert collect() == {pinned, used}
    eventually(lambda: content() < before)
    # one that is removed all the same is there for its containers, to the last of them
    kubelet.call("RemoveImage", image=pb.ImageSpec(image=used))
    daemon.ctr("-n", "k8s.io", "content", "prune", "references", check=False)
    assert kubelet.exec(one, "/bin/busybox", "cat", "/own").stdout == used.encode()
    assert kubelet.status(one).state == pb.CONTAINER_RUNNING
    with refused(grpc.StatusCode.NOT_FOUND):
        kubelet.create(pod, image=pb.ImageSpec(image=used))
    kubelet.call("RemovePodSandbox", pod_sandbox_id=pod)
    # removed by hand: the pin only keeps a kubelet from it
    kubelet.call("RemoveImage", image=pb.ImageSpec(image=pinned))

    def snapshots() -> list[str]:
        with Client(daemon.address, "k8s.io") as api:
            return [info.name for page in api.snapshots.List() for info in page.info]

    eventually(lambda: not snapshots(), 60)
