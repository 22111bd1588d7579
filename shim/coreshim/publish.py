"""Events for the manager that started this shim: over ttrpc, in order."""

from __future__ import annotations

import os
import socket
import sys
import time
from collections import deque
from typing import Any

from cored.rpc.ttrpc import REQUEST, Decoder, Frame, ProtocolError
from cored.rpc.ttrpc import encode as encode_frame
from coreshim.codec import encode
from coreshim.loop import READ, WRITE, Loop
from coreshim.process import Process

__all__ = ["Publisher", "ttrpc_address"]

_SERVICE = "containerd.services.events.ttrpc.v1.Events"
_KEPT = 4096


class Publisher:
    """Sends events to ``address`` (a socket path; '' for nobody), again after a reconnect.

    ``all``: whether the manager wants to hear of what it asked for itself; cored does not.
    """

    def __init__(self, loop: Loop, namespace: str, address: str, *, all: bool = True) -> None:
        self._loop = loop
        self._all = all
        self._namespace = namespace
        self._address = address
        self._queue: deque[tuple[int, bytes]] = deque()
        self._stream = -1
        self._sent = 0
        self._channel: socket.socket | None = None
        self._decoder = Decoder()
        self._out = bytearray()
        self._retrying = False

    @property
    def quiet(self) -> bool:
        """Whether all is told. The connection is left behind: its next event makes another."""
        return not self._queue

    def close(self) -> None:
        """Let go of the connection; only while :attr:`quiet`."""
        if self._channel is not None:
            self._loop.unwatch(self._channel.fileno())
            self._channel.close()
            self._channel = None

    def task_created(self, id: str, bundle: str, request: dict[str, Any], pid: int) -> None:
        io = {key: request[key] for key in ("stdin", "stdout", "stderr", "terminal")}
        self._event(
            "create",
            "TaskCreate",
            {
                "container_id": id,
                "bundle": bundle,
                "rootfs": request["rootfs"],
                "io": io,
                "checkpoint": request["checkpoint"],
                "pid": pid,
            },
        )

    def task_started(self, id: str, exec_id: str, pid: int) -> None:
        if exec_id:
            values = {"container_id": id, "exec_id": exec_id, "pid": pid}
            self._event("exec-started", "TaskExecStarted", values)
        else:
            self._event("start", "TaskStart", {"container_id": id, "pid": pid})

    def exec_added(self, id: str, exec_id: str) -> None:
        self._event("exec-added", "TaskExecAdded", {"container_id": id, "exec_id": exec_id})

    def task_exited(self, id: str, process: Process) -> None:
        self._event(
            "exit",
            "TaskExit",
            {
                "container_id": id,
                "id": process.exec_id or id,
                "pid": process.pid,
                "exit_status": process.exit_status,
                "exited_at": process.exit_time,
            },
        )

    def task_deleted(self, id: str, exec_id: str, answer: dict[str, Any]) -> None:
        if not exec_id:
            self._event("delete", "TaskDelete", {"container_id": id, **answer})

    def oom(self, id: str) -> None:
        self._event("oom", "TaskOOM", {"container_id": id})

    async def told(self, patience: float) -> None:
        """Return when everything is acknowledged, or after so many seconds."""
        end = time.monotonic() + patience
        while self._queue and time.monotonic() < end:
            await self._loop.sleep(0.01)

    def paused(self, id: str) -> None:
        self._event("paused", "TaskPaused", {"container_id": id})

    def resumed(self, id: str) -> None:
        self._event("resumed", "TaskResumed", {"container_id": id})

    def _event(self, topic: str, name: str, values: dict[str, Any]) -> None:
        if not self._address or not (self._all or topic == "oom"):
            return
        now = time.time_ns()
        envelope = {
            "timestamp": {"seconds": now // 10**9, "nanos": now % 10**9},
            "namespace": self._namespace,
            "topic": f"/tasks/{topic}",
            "event": {"type_url": f"containerd.events.{name}", "value": encode(name, values)},
        }
        payload = encode(
            "Request",
            {
                "service": _SERVICE,
                "method": "Forward",
                "payload": encode("ForwardRequest", {"envelope": envelope}),
                "metadata": [
                    {"key": "containerd-namespace-ttrpc", "value": self._namespace},
                    {"key": "containerd-namespace", "value": self._namespace},
                ],
            },
        )
        if len(self._queue) >= _KEPT:
            del self._queue[1]  # the first is on its way
            print("events: nobody takes them, the oldest is dropped", file=sys.stderr)
        self._stream += 2
        self._queue.append((self._stream, payload))
        self._send()

    def _send(self) -> None:
        """One at a time: the next goes out when the last one is acknowledged."""
        if not self._queue or (self._sent and self._channel is not None):
            return
        if self._channel is None and not self._connect():
            self._retry(1.0)
            return
        assert self._channel is not None
        self._sent, payload = self._queue[0]
        self._out += encode_frame(Frame(self._sent, REQUEST, payload, 1))
        self._flush()

    def _connect(self) -> bool:
        channel = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            channel.connect(self._address.removeprefix("unix://"))
        except OSError:
            channel.close()
            return False
        channel.setblocking(False)
        self._channel, self._decoder, self._sent = channel, Decoder(), 0
        self._out.clear()
        self._loop.watch(channel.fileno(), READ, self._ready)
        return True

    def _ready(self, events: int) -> None:
        assert self._channel is not None
        if events & WRITE:
            self._flush()
            if self._channel is None:
                return
        try:
            data = self._channel.recv(4096)
            frames = self._decoder.feed(data)
        except BlockingIOError:
            return
        except (OSError, ProtocolError):
            data, frames = b"", []
        if not data:
            self._disconnect()
            return
        for frame in frames:
            if frame.stream == self._sent:
                self._queue.popleft()
                self._sent = 0
        self._send()

    def _flush(self) -> None:
        assert self._channel is not None
        try:
            while self._out:
                del self._out[: self._channel.send(self._out)]
        except BlockingIOError:
            self._loop.watch(self._channel.fileno(), READ | WRITE, self._ready)
            return
        except OSError:
            self._disconnect()
            return
        self._loop.watch(self._channel.fileno(), READ, self._ready)

    def _disconnect(self) -> None:
        assert self._channel is not None
        self._loop.unwatch(self._channel.fileno())
        self._channel.close()
        self._channel, self._sent = None, 0
        self._retry(0.2)

    def _retry(self, seconds: float) -> None:
        """Send again later; once, however many events ask for it."""
        if not self._retrying:
            self._retrying = True
            self._loop.later(seconds, self._retried)

    def _retried(self) -> None:
        self._retrying = False
        self._send()


def ttrpc_address() -> str:
    """Where the manager takes events, from the environment."""
    return os.environ.get("TTRPC_ADDRESS", "")
