"""Shims without a daemon, for tests and benchmarks: a zygote, bundles, a small blocking client."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import coreshim
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import Message

import cored
from cored._pb.containerd.task.v2 import shim_pb2 as pb
from cored._pb.containerd.types import mount_pb2
from cored._pb.ttrpc import request_pb2
from cored.rpc.ttrpc import REQUEST, Decoder, Frame, encode
from tests import living

PATHS = [str(Path(str(module.__file__)).parents[1]) for module in (cored, coreshim)]
BOOT = f"import sys; sys.path[:0] = {PATHS!r}; from coreshim.__main__ import main; sys.exit(main())"
CGROUP = f"cored-shim-test-{os.getpid()}"

_Response = TypeVar("_Response", bound=Message)


class Refused(Exception):
    """The shim answered with an error."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code, self.message = code, message


class Client:
    """ttrpc over a unix socket; several calls may be under way."""

    def __init__(self, address: str, service: str = "containerd.task.v2.Task") -> None:
        self._service = service
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(address.removeprefix("unix://"))
        self._decoder = Decoder()
        self._answers: dict[int, bytes] = {}
        self._stream = -1

    def close(self) -> None:
        self._socket.close()

    def begin(self, method: str, request: Message) -> int:
        """Send a request; the number to ask its answer with."""
        self._stream += 2
        asked = request_pb2.Request(
            service=self._service, method=method, payload=request.SerializeToString()
        )
        self._socket.sendall(encode(Frame(self._stream, REQUEST, asked.SerializeToString(), 1)))
        return self._stream

    def finish(self, stream: int, response: _Response, timeout: float = 60.0) -> _Response:
        """Its answer. Refused, TimeoutError, ConnectionError."""
        end = time.monotonic() + timeout
        while stream not in self._answers:
            self._socket.settimeout(max(0.001, end - time.monotonic()))
            data = self._socket.recv(1 << 16)
            if not data:
                raise ConnectionError("the shim has closed the connection")
            for frame in self._decoder.feed(data):
                self._answers[frame.stream] = frame.payload
        answer = request_pb2.Response.FromString(self._answers.pop(stream))
        if answer.status.code:
            raise Refused(answer.status.code, answer.status.message)
        response.ParseFromString(answer.payload)
        return response

    def call(self, method: str, request: Message, response: _Response | None = None) -> Any:
        """One request, one answer."""
        stream = self.begin(method, request)
        return self.finish(stream, Empty() if response is None else response)


@dataclass
class Task:
    """A bundle, the shim beside it, and the calls that tests make."""

    id: str
    bundle: Path
    address: str
    shim_pid: int
    rootfs: Sequence[mount_pb2.Mount]
    client: Client

    def create(self, **fields: Any) -> int:
        fields = {"bundle": str(self.bundle), "rootfs": self.rootfs, **fields}
        request = pb.CreateTaskRequest(id=self.id, **fields)
        return int(self.client.call("Create", request, pb.CreateTaskResponse()).pid)

    def start(self, exec_id: str = "") -> int:
        request = pb.StartRequest(id=self.id, exec_id=exec_id)
        return int(self.client.call("Start", request, pb.StartResponse()).pid)

    def exec(self, exec_id: str, process: dict[str, Any], **fields: Any) -> None:
        request = pb.ExecProcessRequest(id=self.id, exec_id=exec_id, **fields)
        request.spec.value = json.dumps(process).encode()
        self.client.call("Exec", request)

    def wait(self, exec_id: str = "", timeout: float = 60.0) -> Any:
        stream = self.client.begin("Wait", pb.WaitRequest(id=self.id, exec_id=exec_id))
        return self.client.finish(stream, pb.WaitResponse(), timeout)

    def delete(self, exec_id: str = "") -> Any:
        request = pb.DeleteRequest(id=self.id, exec_id=exec_id)
        return self.client.call("Delete", request, pb.DeleteResponse())

    def kill(self, signal: int, exec_id: str = "", *, all: bool = False) -> None:
        request = pb.KillRequest(id=self.id, exec_id=exec_id, signal=signal, all=all)
        self.client.call("Kill", request)

    def state(self, exec_id: str = "") -> Any:
        request = pb.StateRequest(id=self.id, exec_id=exec_id)
        return self.client.call("State", request, pb.StateResponse())

    def fifo(self, name: str) -> str:
        path = self.bundle / name
        os.mkfifo(path)
        return str(path)

    def remove(self) -> None:
        """End all of it, whatever state it is in."""
        with suppress(Refused, OSError):
            self.kill(9)
            self.wait()
        with suppress(Refused, OSError):
            self.delete()
        with suppress(Refused, OSError):
            self.client.call("Shutdown", pb.ShutdownRequest(id=self.id, now=True))
        self.client.close()


@dataclass
class Zygote:
    """A zygote of one's own, as the daemon starts it."""

    place: Path
    runtime: str = "/usr/sbin/runc"
    fast: bool = False
    idle: float = 0.1
    process: subprocess.Popen[bytes] | None = None
    channel: socket.socket | None = None
    tasks: list[Task] = field(default_factory=list)

    def start(self) -> None:
        self.channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", BOOT, "zygote", str(theirs.fileno())],
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        self.channel.settimeout(60)

    def close(self) -> None:
        for task in self.tasks:
            task.remove()
        if self.channel is not None:
            self.channel.close()
        if self.process is not None:
            self.process.wait(60)

    def ask(self, **request: Any) -> dict[str, Any]:
        """One request to the zygote, and its answer."""
        assert self.channel is not None
        self.channel.send(json.dumps(request).encode())
        return dict(json.loads(self.channel.recv(1 << 16)))

    def task(self, *arguments: str, **changes: Any) -> Task:
        """A shim beside a new bundle whose container would run ``arguments``."""
        id = f"t{os.getpid()}-{len(self.tasks)}"
        bundle = self.place / "bundles" / id
        mounts = make_bundle(bundle, self.place, id, arguments, **changes)
        chosen = {"binary": self.runtime, "root": str(self.place / "runtime"), "fast": self.fast}
        (bundle / "runtime").write_text(json.dumps(chosen))
        answer = self.ask(
            n=len(self.tasks), namespace="tests", id=id, bundle=str(bundle),
            address=str(self.place), idle=self.idle,
        )  # fmt: skip
        if "error" in answer:
            raise RuntimeError(answer["error"])
        client = Client(answer["address"])
        task = Task(id, bundle, answer["address"], answer["pid"], mounts, client)
        self.tasks.append(task)
        return task


def process(*arguments: str, terminal: bool = False, **changes: Any) -> dict[str, Any]:
    """An OCI process."""
    return {
        "terminal": terminal,
        "user": {"uid": 0, "gid": 0},
        "args": list(arguments),
        "env": ["PATH=/bin", "TERM=xterm"],
        "cwd": "/",
        **changes,
    }


def make_bundle(
    bundle: Path,
    place: Path,
    id: str,
    arguments: Sequence[str],
    *,
    terminal: bool = False,
    namespaces: Sequence[str] = ("pid", "ipc", "uts", "mount", "network"),
    **changes: Any,
) -> list[mount_pb2.Mount]:
    """Write ``config.json``; the mounts of a busybox root filesystem of its own."""
    (bundle / "rootfs").mkdir(parents=True)
    layers = [bundle / "upper", bundle / "work"]
    for layer in layers:
        layer.mkdir()
    spec = {
        "ociVersion": "1.0.2",
        "process": process(*arguments, terminal=terminal),
        "root": {"path": "rootfs"},
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["mode=755"]},
            {
                "destination": "/dev/pts",
                "type": "devpts",
                "source": "devpts",
                "options": ["newinstance", "ptmxmode=0666", "mode=0620"],
            },
        ],
        "linux": {
            "cgroupsPath": f"/{CGROUP}/{id}",
            "namespaces": [{"type": kind} for kind in namespaces],
        },
        **changes,
    }
    (bundle / "config.json").write_text(json.dumps(spec))
    upper, work = layers
    options = [f"lowerdir={busybox_tree(place)}", f"upperdir={upper}", f"workdir={work}"]
    return [mount_pb2.Mount(type="overlay", source="overlay", options=options)]


def busybox_tree(place: Path) -> Path:
    """A root filesystem with Debian's static busybox, made once in ``place``."""
    tree = place / "busybox"
    if not tree.exists():
        (tree / "bin").mkdir(parents=True)
        for name in ("dev", "proc", "sys", "tmp"):
            (tree / name).mkdir()
        shutil.copy("/bin/busybox", tree / "bin/busybox")
        for applet in subprocess.check_output(["/bin/busybox", "--list"], text=True).split():
            if applet != "busybox":
                os.symlink("busybox", tree / "bin" / applet)
    return tree


@contextmanager
def zygote(place: Path, runtime: str = "/usr/sbin/runc", *, fast: bool = False) -> Iterator[Zygote]:
    """A running zygote; at the end it, its shims and their containers are gone."""
    running = Zygote(place, runtime, fast)
    running.start()
    try:
        yield running
    finally:
        running.close()
        remove_cgroups()


def remove_cgroups() -> None:
    """Remove the cgroup that the containers' own ones were made in."""
    living.remove_cgroups(f"*/{CGROUP}")


def read_all(path: str, into: list[bytes]) -> None:
    """Read a FIFO or file to its end; for a thread."""
    with open(path, "rb") as reader:
        into.append(reader.read())
