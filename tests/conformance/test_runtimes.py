"""Every runtime, one contract: our shim with runc, crun and gVisor, and containerd's own shim."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cored_runtime_shim import cored_runtime

from cored.abc.runtime import Runtime
from cored.hookspecs import PluginKind
from cored.testing.runtimes import RuntimeContract
from tests import shims

pytestmark = pytest.mark.root
Opened = Callable[[], AbstractAsyncContextManager[Runtime]]


@dataclass(frozen=True, slots=True)
class Context:
    """What a plugin gets of the daemon, as far as the shim manager looks at it."""

    state: Path
    settings: Mapping[str, Any]
    id: str = "shim"
    kind: PluginKind = PluginKind.RUNTIME

    @property
    def address(self) -> str:
        return str(self.state / "sock")


SETTINGS = {
    "runtimes": {
        "gvisor": {"path": "runsc", "options": ["--platform=ptrace", "--network=none"]},
        "debian": {"shim": "/usr/bin/containerd-shim-runc-v2"},
    }
}


class Shim(RuntimeContract):
    """With the shim manager, on a state of its own."""

    @pytest.fixture
    def opened(self, short_tmp: Path) -> Opened:
        state = short_tmp / "state"
        state.mkdir()
        context = Context(state, SETTINGS)
        return lambda: cored_runtime().open(context)  # type: ignore[arg-type]

    @pytest.fixture
    def place(self, short_tmp: Path) -> Path:
        return short_tmp


@pytest.fixture(scope="module")
def rootfs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shims.busybox_tree(tmp_path_factory.mktemp("rootfs"))


class TestRunc(Shim):
    @pytest.fixture
    def runtime_name(self) -> str:
        return "runc"


class TestCrun(Shim):
    @pytest.fixture
    def runtime_name(self) -> str:
        return "crun"


class TestRunsc(Shim):
    @pytest.fixture
    def runtime_name(self) -> str:
        return "gvisor"


class TestContainerdsShim(Shim):
    @pytest.fixture
    def runtime_name(self) -> str:
        return "debian"
