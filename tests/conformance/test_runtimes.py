"""Every runtime, one contract: our shim with runc, crun and gVisor, and containerd's own shim."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cored_runtime_shim import cored_runtime

from cored._pb.containerd.runc.v1 import oci_pb2
from cored.abc.runtime import Runtime
from cored.abc.values import Typed
from cored.hookspecs import PluginKind
from cored.rpc import ttrpc_server
from cored.testing.runtimes import RuntimeContract
from cored.testing.stage import Opened
from tests import shims

pytestmark = pytest.mark.root


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


_FORWARD = ("containerd.services.events.ttrpc.v1.Events", "Forward")


async def _taken(request: bytes) -> bytes:
    return b""


class Shim(RuntimeContract):
    """With the shim manager, on a state of its own."""

    @pytest.fixture
    def opened(self, short_tmp: Path) -> Opened:
        state = short_tmp / "state"
        state.mkdir()
        context = Context(state, SETTINGS)

        @asynccontextmanager
        async def opened() -> AsyncIterator[Runtime]:
            # containerd's shim does not end before somebody has taken its events
            async with ttrpc_server.serve(Path(f"{context.address}.ttrpc"), {_FORWARD: _taken}):
                async with cored_runtime().open(context) as runtime:  # type: ignore[arg-type]
                    yield runtime

        return opened

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

    @pytest.fixture
    def runtime_options(self, short_tmp: Path) -> Typed:
        """A place of its own for runc's state, which is in /run/containerd otherwise."""
        options = oci_pb2.Options(root=str(short_tmp / "runc"))
        return Typed(options.DESCRIPTOR.full_name, options.SerializeToString())

    @pytest.fixture
    def limits(self) -> dict[str, str]:
        return {
            "close-stdin": "containerd's shim waits for the last writer too",
            "one-stream": "containerd 1.6's shim opens the file ''",
            "mixed-streams": "containerd's shim takes all streams for what stdout is",
            "precondition": "containerd's shim answers UNKNOWN for a wrong state",
        }
