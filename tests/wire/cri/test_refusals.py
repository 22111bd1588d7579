"""Requests that make no sense, to every RPC."""

from __future__ import annotations

import grpc
import pytest

from cored._pb.cri.v1 import api_pb2 as pb
from tests.kubelet import RPCS, Kubelet, refused

pytestmark = pytest.mark.root


@pytest.mark.parametrize("rpc", RPCS)
def test_bytes_that_are_no_message_are_refused(kubelet: Kubelet, rpc: str) -> None:
    with refused(grpc.StatusCode.INTERNAL):
        answer = kubelet.send(rpc, b"\xff\xff\xff")
        if RPCS[rpc].server_streaming:
            list(answer)
    assert kubelet.call("Version").runtime_name == "cored"


def test_what_names_nothing_is_refused(kubelet: Kubelet, pod: str) -> None:
    for method in ("StopPodSandbox", "RemovePodSandbox", "PodSandboxStatus", "StopContainer",
                   "RemoveContainer", "ContainerStatus", "RemoveImage", "ImageStatus"):  # fmt: skip
        with refused(grpc.StatusCode.INVALID_ARGUMENT):
            kubelet.call(method)
    limits = pb.LinuxContainerResources(cpu_shares=2)
    for method, fields in (
        ("StartContainer", {}),
        ("ReopenContainerLog", {}),
        ("UpdateContainerResources", {"linux": limits}),
    ):
        with refused(grpc.StatusCode.NOT_FOUND):
            kubelet.call(method, container_id="none", **fields)


def test_a_stopped_pod_takes_no_more(kubelet: Kubelet, pod: str) -> None:
    one = kubelet.create(pod)
    kubelet.call("StopPodSandbox", pod_sandbox_id=pod)
    with refused(grpc.StatusCode.FAILED_PRECONDITION):
        kubelet.create(pod)
    with refused(grpc.StatusCode.FAILED_PRECONDITION):
        kubelet.call("StartContainer", container_id=one)
    for method, name, id in (("PortForward", "pod_sandbox_id", pod),
                             ("Attach", "container_id", one)):  # fmt: skip
        with refused(grpc.StatusCode.FAILED_PRECONDITION):
            kubelet.call(method, **{name: id, "stdout": True} if id == one else {name: id})
