"""Pods whose containers share a kernel of their own: gVisor's, by the RuntimeClass of its name."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from cored._pb.cri.v1 import api_pb2 as pb
from tests import kubelet as kubelets
from tests.kubelet import Kubelet

pytestmark = pytest.mark.root
# where its network stack cannot be (gvisor issue 10704) pods have none
CONFIG = """
[plugins.runtime.shim]
idle = 0.2
[plugins.runtime.shim.runtimes.gvisor]
path = "runsc"
options = ["--platform=ptrace", "--network=none"]
"""


@pytest.fixture(scope="module")
def kubelet(
    busybox: Path, private_mounts: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Kubelet]:
    with kubelets.daemon(busybox, tmp_path_factory.mktemp("cni"), extra=CONFIG) as (_, running):
        yield running


# of its own, as a kubelet asks for
SECURITY = pb.LinuxContainerSecurityContext(namespace_options=pb.NamespaceOption(pid=pb.CONTAINER))


def test_containers_of_a_pod_are_in_one_sandbox(kubelet: Kubelet) -> None:
    assert "gvisor" in {one.name for one in kubelet.call("Status").runtime_handlers}
    pod = kubelet.run(handler="gvisor")
    assert kubelet.call("PodSandboxStatus", pod_sandbox_id=pod).status.runtime_handler == "gvisor"
    first = kubelet.start(pod, "sh", "-c", "echo from first; sleep 1000")
    assert b"gVisor" in kubelet.exec(first, "dmesg").stdout
    second = kubelet.start(pod, "sh", "-c", "echo from second; exit 7", security=SECURITY)
    status = kubelet.ended(second)
    assert (status.exit_code, status.reason) == (7, "Error")
    assert "from second" in kubelet.log(second)
    assert kubelet.exec(first, "sh", "-c", "exit 3").exit_code == 3
    # the end of one is not that of the others
    kubelet.call("RemoveContainer", container_id=second)
    third = kubelet.start(pod, "sleep", "1000", security=SECURITY)
    never = kubelet.create(pod, security=SECURITY)
    kubelet.call("StopContainer", container_id=first, timeout=0)
    assert kubelet.status(first).exit_code == 137
    assert kubelet.status(third).state == pb.CONTAINER_RUNNING, str(kubelet.status(third))
    assert "from first" in kubelet.log(first)
    assert kubelet.call("ContainerStats", container_id=third).stats.memory.usage_bytes.value
    kubelet.call("RemoveContainer", container_id=never)
    kubelet.call("StopPodSandbox", pod_sandbox_id=pod)
    kubelet.call("RemovePodSandbox", pod_sandbox_id=pod)


def test_a_command_that_is_not_there_is_a_start_error_too(kubelet: Kubelet) -> None:
    pod = kubelet.run(handler="gvisor")
    one = kubelet.create(pod, "/no/such/command")
    with pytest.raises(grpc.RpcError):
        kubelet.call("StartContainer", container_id=one)
    assert kubelet.status(one).state == pb.CONTAINER_EXITED
    kubelet.call("RemovePodSandbox", pod_sandbox_id=pod)
