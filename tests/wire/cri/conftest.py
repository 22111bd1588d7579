"""A daemon that a kubelet talks to, one for each module."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import kubelet as kubelets
from tests.kubelet import Kubelet


@pytest.fixture(scope="module")
def kubelet(
    busybox: Path, private_mounts: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Kubelet]:
    with kubelets.daemon(busybox, tmp_path_factory.mktemp("cni")) as (_, running):
        yield running


@pytest.fixture
def pod(kubelet: Kubelet) -> Iterator[str]:
    """A pod with nothing special."""
    id = kubelet.run()
    yield id
    kubelet.call("RemovePodSandbox", pod_sandbox_id=id)
