"""Nothing of the CRI was left out: what this run's kubelets have called, and how it ended.

It looks back at the tests of ``cri/``; without all of them it is skipped.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kubelet import DRIVEN, RPCS

pytestmark = pytest.mark.root
HERE = Path(__file__).parent
GONE, THERE, STATE, BAD = "NOT_FOUND", "ALREADY_EXISTS", "FAILED_PRECONDITION", "INVALID_ARGUMENT"
NOT_HERE, LATE = "UNIMPLEMENTED", "DEADLINE_EXCEEDED"
# beside OK, and INTERNAL for what is no message; those with nothing in their requests that could
# be wrong (and those that are fine with everything) have no error of their own
CODES: dict[str, set[str]] = {
    "Version": set(), "Status": set(), "RuntimeConfig": set(), "UpdateRuntimeConfig": set(),
    "RunPodSandbox": {GONE, THERE, STATE, BAD}, "StopPodSandbox": {BAD},
    "RemovePodSandbox": {BAD}, "PodSandboxStatus": {GONE, BAD}, "ListPodSandbox": set(),
    "StreamPodSandboxes": set(), "UpdatePodSandboxResources": {GONE},
    "CreateContainer": {GONE, THERE, STATE, BAD}, "StartContainer": {GONE, STATE},
    "StopContainer": {BAD}, "RemoveContainer": {BAD}, "ListContainers": set(),
    "StreamContainers": set(), "ContainerStatus": {GONE, BAD},
    "UpdateContainerResources": {GONE, STATE}, "ReopenContainerLog": {GONE, STATE},
    "ExecSync": {GONE, STATE, BAD, LATE}, "Exec": {GONE, STATE, BAD},
    "Attach": {GONE, STATE, BAD}, "PortForward": {GONE, STATE, BAD},
    "ContainerStats": {GONE}, "ListContainerStats": set(), "StreamContainerStats": set(),
    "PodSandboxStats": {GONE}, "ListPodSandboxStats": set(), "StreamPodSandboxStats": set(),
    "CheckpointContainer": {GONE, STATE, BAD}, "CheckpointPod": {NOT_HERE},
    "RestorePod": {NOT_HERE}, "GetContainerEvents": set(), "ListMetricDescriptors": set(),
    "ListPodSandboxMetrics": set(), "StreamPodSandboxMetrics": set(),
    "ListImages": set(), "StreamImages": set(), "ImageStatus": {BAD}, "PullImage": {GONE, BAD},
    "RemoveImage": {BAD}, "ImageFsInfo": set(),
}  # fmt: skip
# where success is not to be had; a subscription goes on until its client leaves
SUCCESS = {"CheckpointPod": None, "RestorePod": None, "GetContainerEvents": "CANCELLED"}


def test_the_table_has_every_rpc() -> None:
    assert CODES.keys() == RPCS.keys() and len(CODES) == 43


@pytest.fixture(scope="module")
def looking_back(request: pytest.FixtureRequest) -> None:
    run = {item.path for item in request.session.items}
    others = set((HERE / "cri").glob("test_*.py"))
    if others - run or request.config.option.keyword or any("::" in a for a in request.config.args):
        pytest.skip("looks back at tests that were not all chosen")


@pytest.mark.parametrize("rpc", RPCS)
def test_it_was_driven(looking_back: None, rpc: str) -> None:
    success = SUCCESS.get(rpc, "OK")
    wanted = {*([success] if success else []), *CODES[rpc]}
    assert wanted <= {code for method, code in DRIVEN if method == rpc}
