"""Containers of busybox over the plain API, for tests of what outlives daemons and shims."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import grpc

from tests.grpc_client import Client, kept

SPEC = "types.containerd.io/opencontainers/runtime-spec/1/Spec"
PROCESS = "types.containerd.io/opencontainers/runtime-spec/1/Process"
UNKNOWN, CREATED, RUNNING, STOPPED, PAUSED = 0, 1, 2, 3, 4
APPLETS = ("sh", "sleep", "cat", "echo", "true", "usleep")


@contextmanager
def rootfs(place: Path, cgroup: str) -> Iterator[dict[str, Any]]:
    """A mount of a root filesystem with busybox; the containers' parent cgroups go at the end."""
    (place / "bin").mkdir(parents=True)
    for name in ("proc", "dev", "sys"):
        (place / name).mkdir()
    shutil.copy("/bin/busybox", place / "bin/busybox")
    for applet in APPLETS:
        (place / "bin" / applet).symlink_to("busybox")
    try:
        yield {"type": "bind", "source": str(place), "options": ["rbind", "ro"]}
    finally:
        for path in Path("/sys/fs/cgroup").glob(f"*/{cgroup}"):
            with suppress(OSError):
                path.rmdir()


def process(*args: str) -> dict[str, Any]:
    return {
        "user": {"uid": 0, "gid": 0},
        "args": list(args),
        "env": ["PATH=/bin"],
        "cwd": "/",
    }


def spec(cgroup: str, id: str, *args: str) -> Any:
    document = {
        "ociVersion": "1.0.2",
        "process": process(*args),
        "root": {"path": "rootfs", "readonly": True},
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs"},
        ],
        "linux": {
            "cgroupsPath": f"/{cgroup}/{id}",
            "namespaces": [{"type": t} for t in ("pid", "ipc", "uts", "mount", "network")],
        },
    }
    return kept(SPEC, json.dumps(document).encode())


class Container:
    """A container's record, and the calls on its task with its id filled in."""

    def __init__(self, api: Client, root: dict[str, Any], cgroup: str, id: str) -> None:
        self.api, self.id, self.cgroup = api, id, cgroup
        self._root = root

    def record(self, *args: str, runtime: str = "io.containerd.runc.v2") -> None:
        """Make the record of a container that runs ``args``."""
        self.api.containers.Create(
            container={
                "id": self.id,
                "runtime": {"name": runtime},
                "spec": spec(self.cgroup, self.id, *args),
            }
        )

    def create(self, **stdio: str) -> int:
        return int(self.call("Create", rootfs=[self._root], **stdio).pid)

    def run(self, *args: str, runtime: str = "io.containerd.runc.v2", **stdio: str) -> int:
        """All of it, started; its pid."""
        self.record(*args, runtime=runtime)
        self.create(**stdio)
        return int(self.call("Start").pid)

    def exec(self, exec_id: str, *args: str, **stdio: str) -> None:
        """One more process, started."""
        self.add(exec_id, *args, **stdio)
        self.call("Start", exec_id=exec_id)

    def add(self, exec_id: str, *args: str, **stdio: str) -> None:
        """One more process, not started."""
        spec = kept(PROCESS, json.dumps(process(*args)).encode())
        self.call("Exec", exec_id=exec_id, spec=spec, **stdio)

    def call(self, method: str, **fields: Any) -> Any:
        return getattr(self.api.tasks, method)(container_id=self.id, **fields)

    def state(self) -> Any:
        return self.call("Get").process

    def pid(self) -> int:
        return int(self.state().pid)

    def remove(self) -> None:
        """Task and record, whatever they are doing."""
        with suppress(grpc.RpcError):
            self.call("Kill", signal=9)
        with suppress(grpc.RpcError):
            self.call("Wait")
        with suppress(grpc.RpcError):
            self.call("Delete")
        with suppress(grpc.RpcError):
            self.api.containers.Delete(id=self.id)


def parent(pid: int) -> int:
    """The parent of a process: a container's shim, for its init."""
    found = re.search(r"PPid:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    assert found
    return int(found[1])


def kill_zygote(daemon: int) -> bool:
    """Kill the zygote of a daemon, by its pid; False when there is none just now."""
    for path in Path(f"/proc/{daemon}/task").glob("*/children"):
        with suppress(OSError):
            for pid in path.read_text().split():
                if b"zygote" in Path(f"/proc/{pid}/cmdline").read_bytes():
                    os.kill(int(pid), signal.SIGKILL)
                    return True
    return False


def alive(pid: int) -> bool:
    """Whether a process is there, and no zombie."""
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
