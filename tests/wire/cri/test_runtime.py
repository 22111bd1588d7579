"""Runtime info, Metrics, events, and a daemon that is ended and comes back."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import grpc
import pytest

from cored._pb.cri.v1 import api_pb2 as pb
from tests import kubelet as kubelets
from tests.kubelet import Kubelet, refused
from tests.patience import eventually

pytestmark = pytest.mark.root


def test_the_runtime_says_what_it_is_and_that_it_is_ready(kubelet: Kubelet) -> None:
    version = kubelet.call("Version")
    assert (version.runtime_name, version.runtime_api_version) == ("cored", "v1")
    status = kubelet.call("Status", verbose=True)
    conditions = {one.type: one.status for one in status.status.conditions}
    assert conditions == {"RuntimeReady": True, "NetworkReady": True}
    handlers = {one.name: one.features for one in status.runtime_handlers}
    assert {"", "runc", "crun"} <= set(handlers)
    assert handlers["runc"].user_namespaces
    assert status.features.supplemental_groups_policy and status.info["config"]
    driver = kubelet.call("RuntimeConfig").linux.cgroup_driver
    systemd = Path("/run/systemd/system").is_dir()
    assert driver == (pb.SYSTEMD if systemd else pb.CGROUPFS)
    network = pb.NetworkConfig(pod_cidr="10.0.0.0/24")
    kubelet.call("UpdateRuntimeConfig", runtime_config=pb.RuntimeConfig(network_config=network))


@pytest.mark.parametrize("handler", ["runc", "crun"])
def test_a_handler_is_the_runtime_of_that_name(kubelet: Kubelet, handler: str) -> None:
    pod = kubelet.run(handler=handler)
    assert kubelet.call("PodSandboxStatus", pod_sandbox_id=pod).status.runtime_handler == handler
    assert kubelet.output(pod, "echo", "by", handler) == f"by {handler}"
    kubelet.call("RemovePodSandbox", pod_sandbox_id=pod)


def test_usage_of_containers_and_pods_is_counted(kubelet: Kubelet, pod: str) -> None:
    busy = kubelet.start(pod, "sh", "-c", "echo x >/file; while :; do :; done", labels={"b": "1"})
    idle = kubelet.create(pod)

    def used() -> bool:
        stats = kubelet.call("ContainerStats", container_id=busy).stats
        return bool(stats.cpu.usage_core_nano_seconds.value and stats.writable_layer.used_bytes)

    eventually(used)
    stats = kubelet.call("ContainerStats", container_id=busy).stats
    assert stats.memory.working_set_bytes.value > 0
    assert stats.writable_layer.fs_id.mountpoint and stats.attributes.labels["b"] == "1"
    wanted = pb.ContainerStatsFilter(pod_sandbox_id=pod)
    listed = kubelet.call("ListContainerStats", filter=wanted).stats
    assert [one.attributes.id for one in listed] == [busy]
    pages = kubelet.call("StreamContainerStats", filter=wanted)
    assert [one.attributes.id for page in pages for one in page.container_stats] == [busy]
    assert idle
    found = kubelet.call("PodSandboxStats", pod_sandbox_id=pod).stats
    assert found.linux.network.default_interface.name == "eth0"
    assert [one.attributes.id for one in found.linux.containers] == [busy]
    one = pb.PodSandboxStatsFilter(id=pod)
    assert len(kubelet.call("ListPodSandboxStats", filter=one).stats) == 1
    pages = kubelet.call("StreamPodSandboxStats", filter=one)
    assert [s.attributes.id for page in pages for s in page.pod_sandbox_stats] == [pod]
    for method, name in (("ContainerStats", "container_id"), ("PodSandboxStats", "pod_sandbox_id")):
        with refused(grpc.StatusCode.NOT_FOUND):
            kubelet.call(method, **{name: "none"})


def test_metrics_are_described_and_have_a_value_for_each_label(kubelet: Kubelet, pod: str) -> None:
    limits = pb.LinuxContainerResources(memory_limit_in_bytes=64 << 20, cpu_period=100000)
    one = kubelet.start(pod, resources=limits)
    keys = {d.name: len(d.label_keys) for d in kubelet.call("ListMetricDescriptors").descriptors}
    found = kubelet.call("ListPodSandboxMetrics").pod_metrics
    (mine,) = (metrics for metrics in found if metrics.pod_sandbox_id == pod)
    assert [c.container_id for c in mine.container_metrics] == [one]
    samples = [*mine.metrics, *mine.container_metrics[0].metrics]
    for sample in samples:
        assert len(sample.label_values) == keys[sample.name], sample.name
    values = {sample.name: sample.value.value for sample in samples}
    assert values["container_spec_memory_limit_bytes"] == 64 << 20
    assert values["container_processes"] == 1 and values["container_network_receive_bytes_total"]
    pages = kubelet.call("StreamPodSandboxMetrics")
    assert pod in {m.pod_sandbox_id for page in pages for m in page.pod_sandbox_metrics}


def test_events_tell_of_every_step_in_order(kubelet: Kubelet) -> None:
    stream = kubelet.call("GetContainerEvents")
    seen: list[tuple[str, int]] = []

    def listen() -> None:
        try:
            for event in stream:
                seen.append((event.container_id, event.container_event_type))
        except grpc.RpcError:
            return

    listener = threading.Thread(target=listen)
    listener.start()
    first = kubelet.run()
    eventually(lambda: seen or kubelet.call("RemovePodSandbox", pod_sandbox_id=kubelet.run()))
    one = kubelet.start(first, "true")
    kubelet.ended(one)
    kubelet.call("RemoveContainer", container_id=one)
    kubelet.call("RemovePodSandbox", pod_sandbox_id=first)
    eventually(lambda: (first, pb.CONTAINER_DELETED_EVENT) in seen)
    stream.cancel()
    listener.join()
    kinds = [kind for id, kind in seen if id == one]
    assert kinds == [
        pb.CONTAINER_CREATED_EVENT,
        pb.CONTAINER_STARTED_EVENT,
        pb.CONTAINER_STOPPED_EVENT,
        pb.CONTAINER_DELETED_EVENT,
    ]
    assert [kind for id, kind in seen if id == first][-2:] == kinds[-2:]


@pytest.fixture
def mortal(busybox: Path, tmp_path: Path, private_mounts: None) -> Any:
    with kubelets.daemon(busybox, tmp_path) as both:
        yield both


def test_pods_outlive_the_daemon_and_are_known_to_the_next_one(mortal: Any) -> None:
    daemon, kubelet = mortal
    pod = kubelet.run(kubelet.pod_config(labels={"kept": "yes"}))
    lives = kubelet.start(pod, "sh", "-c", "while :; do echo tick; sleep 0.1; done")
    dies, fresh = kubelet.start(pod, "sh", "-c", "sleep 1; exit 6"), kubelet.create(pod)
    stopped = kubelet.run()
    kubelet.call("StopPodSandbox", pod_sandbox_id=stopped)
    before = kubelet.call("PodSandboxStatus", pod_sandbox_id=pod).status
    daemon.kill()
    daemon.start()
    assert kubelet.call("PodSandboxStatus", pod_sandbox_id=pod).status == before
    assert kubelet.status(lives).state == pb.CONTAINER_RUNNING
    assert kubelet.status(fresh).state == pb.CONTAINER_CREATED
    assert kubelet.ended(dies).exit_code == 6
    states = {one.id: one.state for one in kubelet.call("ListPodSandbox").items}
    assert states == {pod: pb.SANDBOX_READY, stopped: pb.SANDBOX_NOTREADY}
    # all that could be done before can be done now
    assert kubelet.exec(lives, "hostname").exit_code == 0
    path = Path(kubelet.status(lives).log_path)
    path.rename(f"{path}.1")
    kubelet.call("ReopenContainerLog", container_id=lives)
    eventually(lambda: "tick" in path.read_text())
    kubelet.call("StartContainer", container_id=fresh)
    assert kubelet.call("ContainerStats", container_id=lives).stats.memory.usage_bytes.value
    kubelet.call("StopContainer", container_id=lives, timeout=0)
    with refused(grpc.StatusCode.ALREADY_EXISTS):
        kubelet.run(pb.PodSandboxConfig(metadata=before.metadata))


def test_an_end_is_not_forgotten_over_a_change_of_limits(kubelet: Kubelet, pod: str) -> None:
    one = kubelet.start(pod, "sleep", "0.5")
    over = threading.Event()

    def change() -> None:
        size = 64
        while not over.is_set():
            size = size % 96 + 32
            limits = pb.LinuxContainerResources(memory_limit_in_bytes=size << 20)
            try:
                kubelet.call("UpdateContainerResources", container_id=one, linux=limits)
            except grpc.RpcError:
                return  # it has ended

    changer = threading.Thread(target=change)
    changer.start()
    try:
        assert kubelet.ended(one).exit_code == 0
    finally:
        over.set()
        changer.join()
    assert kubelet.status(one).state == pb.CONTAINER_EXITED
