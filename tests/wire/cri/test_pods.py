"""PodSandbox, Networking, Idempotence, and what pods share."""

from __future__ import annotations

import os
import urllib.request
from pathlib import Path
from typing import Any

import grpc
import pytest

from cored._pb.cri.v1 import api_pb2 as pb
from tests.kubelet import Kubelet, refused
from tests.patience import eventually

pytestmark = pytest.mark.root


def _modes(**modes: Any) -> pb.LinuxPodSandboxConfig:
    context = pb.LinuxSandboxSecurityContext(namespace_options=pb.NamespaceOption(**modes))
    return pb.LinuxPodSandboxConfig(security_context=context)


def _security(**modes: Any) -> pb.LinuxContainerSecurityContext:
    return pb.LinuxContainerSecurityContext(namespace_options=pb.NamespaceOption(**modes))


def test_a_pod_is_ready_then_stopped_then_gone_and_keeps_what_it_was_given(
    kubelet: Kubelet,
) -> None:
    config = kubelet.pod_config(labels={"app": "web"}, annotations={"note": "of mine"})
    pod = kubelet.run(config)
    status = kubelet.call("PodSandboxStatus", pod_sandbox_id=pod, verbose=True)
    assert status.status.state == pb.SANDBOX_READY
    assert status.status.metadata == config.metadata
    assert dict(status.status.labels) == {"app": "web"}
    assert dict(status.status.annotations) == {"note": "of mine"}
    assert status.status.network.ip.startswith("10.213.")
    assert '"pid"' in status.info["info"]
    kubelet.call("StopPodSandbox", pod_sandbox_id=pod)
    status = kubelet.call("PodSandboxStatus", pod_sandbox_id=pod)
    assert status.status.state == pb.SANDBOX_NOTREADY
    kubelet.call("RemovePodSandbox", pod_sandbox_id=pod)
    with refused(grpc.StatusCode.NOT_FOUND):
        kubelet.call("PodSandboxStatus", pod_sandbox_id=pod)


def test_pods_are_listed_by_state_label_and_the_beginning_of_their_id(kubelet: Kubelet) -> None:
    pod = kubelet.run(kubelet.pod_config(labels={"tier": "one"}))
    other = kubelet.run(kubelet.pod_config(labels={"tier": "two"}))
    kubelet.call("StopPodSandbox", pod_sandbox_id=other)

    def ids(**fields: Any) -> set[str]:
        wanted = pb.PodSandboxFilter(**fields)
        listed = [one.id for one in kubelet.call("ListPodSandbox", filter=wanted).items]
        pages = kubelet.call("StreamPodSandboxes", filter=wanted)
        assert [one.id for page in pages for one in page.pod_sandboxes] == listed
        return set(listed)

    assert {pod, other} <= ids()
    assert ids(label_selector={"tier": "one"}) == {pod}
    assert ids(id=pod[:13]) == {pod}
    ready = pb.PodSandboxStateValue(state=pb.SANDBOX_READY)
    assert pod in ids(state=ready) and other not in ids(state=ready)
    assert ids(label_selector={"tier": "two"}, state=ready) == set()
    for id in (pod, other):
        kubelet.call("RemovePodSandbox", pod_sandbox_id=id)


def test_stopping_and_removing_what_is_not_there_succeeds(kubelet: Kubelet, pod: str) -> None:
    kubelet.call("StopPodSandbox", pod_sandbox_id="no-such-pod")
    kubelet.call("RemovePodSandbox", pod_sandbox_id="no-such-pod")
    kubelet.call("StopContainer", container_id="no-such-container", timeout=1)
    kubelet.call("RemoveContainer", container_id="no-such-container")
    kubelet.call("RemoveImage", image=pb.ImageSpec(image="docker.io/library/none:1"))
    kubelet.call("StopPodSandbox", pod_sandbox_id=pod)
    kubelet.call("StopPodSandbox", pod_sandbox_id=pod)


def test_a_pods_name_is_taken_until_it_is_removed(kubelet: Kubelet) -> None:
    config = kubelet.pod_config()
    pod = kubelet.run(config)
    with refused(grpc.StatusCode.ALREADY_EXISTS):
        kubelet.run(config)
    kubelet.call("RemovePodSandbox", pod_sandbox_id=pod)
    again = kubelet.run(config)
    assert again != pod
    kubelet.call("RemovePodSandbox", pod_sandbox_id=again)


def test_a_pod_that_cannot_be_made_leaves_nothing_behind(kubelet: Kubelet) -> None:
    with refused(grpc.StatusCode.INVALID_ARGUMENT):
        kubelet.run(pb.PodSandboxConfig())
    with refused(grpc.StatusCode.NOT_FOUND):
        kubelet.run(handler="no-such-handler")
    linux = pb.LinuxPodSandboxConfig(sysctls={"kernel.panic": "1"})
    config = kubelet.pod_config(linux=linux)
    with refused(grpc.StatusCode.INVALID_ARGUMENT):
        kubelet.run(config)
    left = kubelet.home / "state" / "grpc_service.cri"
    pods = {one.id for one in kubelet.call("ListPodSandbox").items}
    assert {path.name for path in (left / "netns").iterdir()} <= pods
    assert {path.name for path in (left / "pods").iterdir()} <= pods
    # and its name is free
    config.linux.sysctls.clear()
    kubelet.call("RemovePodSandbox", pod_sandbox_id=kubelet.run(config))


def test_containers_of_a_pod_share_network_host_name_memory_and_queues(
    kubelet: Kubelet, pod: str
) -> None:
    first = kubelet.start(pod, "sh", "-c", "echo here >/dev/shm/note; httpd -f -p 8080 -h /dev/shm")
    second = kubelet.start(pod)
    answer = eventually(
        lambda: kubelet.exec(second, "wget", "-qO-", "http://127.0.0.1:8080/note").stdout
    )
    assert answer == b"here\n"
    assert kubelet.exec(second, "cat", "/dev/shm/note").stdout == b"here\n"
    names = {kubelet.exec(one, "hostname").stdout for one in (first, second)}
    config = kubelet.call("PodSandboxStatus", pod_sandbox_id=pod).status
    assert names == {f"{config.metadata.name}\n".encode()}
    spaces = {kubelet.exec(one, "readlink", "/proc/self/ns/ipc").stdout for one in (first, second)}
    assert len(spaces) == 1
    assert os.fsencode(Path("/proc/self/ns/ipc").readlink()) + b"\n" not in spaces


def test_processes_are_a_containers_own_the_pods_or_another_containers(kubelet: Kubelet) -> None:
    pod = kubelet.run(kubelet.pod_config(linux=_modes(pid=pb.POD)))
    own = kubelet.start(pod, security=_security(pid=pb.CONTAINER))
    assert kubelet.exec(own, "cat", "/proc/1/cmdline").stdout == b"sleep\x001000\x00"
    shared = kubelet.start(pod, "sleep", "77", security=_security(pid=pb.POD))
    assert kubelet.exec(shared, "cat", "/proc/1/cmdline").stdout == b"/pause\x00"
    joined = kubelet.start(pod, "sleep", "78", security=_security(pid=pb.TARGET, target_id=own))
    assert kubelet.exec(joined, "cat", "/proc/1/cmdline").stdout == b"sleep\x001000\x00"
    with refused(grpc.StatusCode.NOT_FOUND):
        kubelet.create(pod, security=_security(pid=pb.TARGET, target_id="nobody"))
    kubelet.call("RemovePodSandbox", pod_sandbox_id=pod)


def test_the_pause_reaps_what_is_left_to_it(kubelet: Kubelet) -> None:
    pod = kubelet.run(kubelet.pod_config(linux=_modes(pid=pb.POD)))
    shared = kubelet.start(pod, security=_security(pid=pb.POD))
    kubelet.exec(shared, "sh", "-c", "(sleep 0.2 &) ; true")
    states = "cat /proc/[0-9]*/stat | cut -d' ' -f2,3"

    def settled() -> bool:
        seen = kubelet.exec(shared, "sh", "-c", states).stdout
        return b"(sleep) Z" not in seen and seen.count(b"(sleep)") == 1

    assert eventually(settled)
    kubelet.call("RemovePodSandbox", pod_sandbox_id=pod)


def test_the_hosts_namespaces_are_the_hosts(kubelet: Kubelet) -> None:
    modes = {"network": pb.NODE, "pid": pb.NODE, "ipc": pb.NODE}
    pod = kubelet.run(kubelet.pod_config(linux=_modes(**modes)))
    assert not kubelet.call("PodSandboxStatus", pod_sandbox_id=pod).status.network.ip
    one = kubelet.start(pod, security=_security(**modes))
    for kind in ("net", "pid", "ipc", "uts"):
        seen = kubelet.exec(one, "readlink", f"/proc/self/ns/{kind}").stdout.decode().strip()
        assert seen == str(Path(f"/proc/self/ns/{kind}").readlink())
    kubelet.call("RemovePodSandbox", pod_sandbox_id=pod)


def test_dns_sysctls_and_mappings_of_ids_are_as_the_pod_says(kubelet: Kubelet) -> None:
    dns = pb.DNSConfig(servers=["10.10.10.10"], searches=["cluster.local"], options=["ndots:8"])
    linux = _modes()
    linux.sysctls.update({"net.ipv4.ip_local_port_range": "2000 3000", "kernel.shmmni": "99"})
    pod = kubelet.run(kubelet.pod_config(dns_config=dns, linux=linux))
    command = "cat /etc/resolv.conf /proc/sys/net/ipv4/ip_local_port_range /proc/sys/kernel/shmmni"
    assert kubelet.output(pod, "sh", "-c", command) == (
        "search cluster.local\nnameserver 10.10.10.10\noptions ndots:8\n2000\t3000\n99"
    )
    kubelet.call("RemovePodSandbox", pod_sandbox_id=pod)


def test_a_pod_in_a_user_namespace_is_root_in_it_alone(kubelet: Kubelet) -> None:
    ids = [pb.IDMapping(host_id=1_000_000, container_id=0, length=65536)]
    linux = _modes(userns_options=pb.UserNamespace(mode=pb.POD, uids=ids, gids=ids))
    pod = kubelet.run(kubelet.pod_config(linux=linux))
    command = "cat /proc/self/uid_map; id -u; stat -c %u /bin/busybox; ip -o addr show eth0"
    lines = kubelet.output(pod, "sh", "-c", command).splitlines()
    assert lines[0].split() == ["0", "1000000", "65536"]
    assert lines[1:3] == ["0", "0"]
    assert kubelet.call("PodSandboxStatus", pod_sandbox_id=pod).status.network.ip in lines[3]
    kubelet.call("RemovePodSandbox", pod_sandbox_id=pod)


@pytest.mark.parametrize(
    "space",
    [
        pb.UserNamespace(mode=pb.CONTAINER),
        pb.UserNamespace(mode=pb.POD),
        pb.UserNamespace(
            mode=pb.POD,
            uids=[pb.IDMapping(host_id=1000, container_id=1, length=10)],
            gids=[pb.IDMapping(host_id=1000, container_id=1, length=10)],
        ),
    ],
    ids=["a container's", "without ids", "without root"],
)
def test_a_user_namespace_that_cannot_be_is_refused(
    kubelet: Kubelet, space: pb.UserNamespace
) -> None:
    with refused(grpc.StatusCode.INVALID_ARGUMENT):
        kubelet.run(kubelet.pod_config(linux=_modes(userns_options=space)))


def test_a_host_port_leads_to_the_pod_and_belongs_to_it_alone(kubelet: Kubelet) -> None:
    ports = [pb.PortMapping(container_port=80, host_port=12480)]
    pod = kubelet.run(kubelet.pod_config(port_mappings=ports))
    kubelet.start(pod, "sh", "-c", "echo welcome >/index.html; httpd -f -p 80 -h /")

    def page() -> bytes:
        try:
            with urllib.request.urlopen("http://127.0.0.1:12480/", timeout=60) as answer:
                return bytes(answer.read())
        except OSError:
            return b""

    assert eventually(page) == b"welcome\n"
    with refused(grpc.StatusCode.ALREADY_EXISTS):
        kubelet.run(kubelet.pod_config(port_mappings=ports))
    kubelet.call("RemovePodSandbox", pod_sandbox_id=pod)


def test_a_pod_whose_pause_dies_is_not_ready(kubelet: Kubelet) -> None:
    import json

    pod = kubelet.run()
    info = kubelet.call("PodSandboxStatus", pod_sandbox_id=pod, verbose=True).info["info"]
    os.kill(json.loads(info)["pid"], 9)

    def state() -> bool:
        found = kubelet.call("PodSandboxStatus", pod_sandbox_id=pod).status.state
        return bool(found == pb.SANDBOX_NOTREADY)

    assert eventually(state)
    with refused(grpc.StatusCode.FAILED_PRECONDITION):
        kubelet.create(pod)
    kubelet.call("RemovePodSandbox", pod_sandbox_id=pod)


def test_resources_of_a_pod_are_kept_and_its_checkpoint_is_not_to_be_had(
    kubelet: Kubelet, pod: str
) -> None:
    limits = pb.LinuxContainerResources(memory_limit_in_bytes=64 << 20)
    kubelet.call("UpdatePodSandboxResources", pod_sandbox_id=pod, resources=limits)
    with refused(grpc.StatusCode.NOT_FOUND):
        kubelet.call("UpdatePodSandboxResources", pod_sandbox_id="none", resources=limits)
    with refused(grpc.StatusCode.UNIMPLEMENTED):
        kubelet.call("CheckpointPod", pod_sandbox_id=pod)
    with refused(grpc.StatusCode.UNIMPLEMENTED):
        kubelet.call("RestorePod", checkpoint_path="/nowhere")
