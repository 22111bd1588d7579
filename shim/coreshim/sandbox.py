"""The Sandbox service: a shim that keeps an environment for other containers alive.

There is no process to it but the shim itself: what the containers share (a network namespace,
mounts) was made by whoever asked for the sandbox.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

from coreshim.hibernation import State
from coreshim.loop import Future, Loop
from coreshim.server import EXISTS, NOT_FOUND, PRECONDITION, Failure, Method

__all__ = ["SandboxService"]

_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "i686": "386"}


class SandboxService:
    """Answers for at most one sandbox in the shim ``pid``; ``end`` ends the shim."""

    def __init__(self, loop: Loop, pid: int, end: Callable[[], None]) -> None:
        self._loop = loop
        self._pid = pid
        self._end = end
        self._id = ""
        self._created = 0
        self._started = 0
        self._exited = 0
        self._ended = Future(loop)

    def methods(self) -> dict[tuple[str, str], Method]:
        """The handlers by (service, method)."""
        names: dict[str, Method] = {
            "CreateSandbox": ("CreateSandboxRequest", "Empty", self.create),
            "StartSandbox": ("SandboxRequest", "StartSandboxResponse", self.start),
            "Platform": ("SandboxRequest", "PlatformResponse", self.platform),
            "StopSandbox": ("SandboxRequest", "Empty", self.stop),
            "WaitSandbox": ("SandboxRequest", "WaitResponse", self.wait),
            "SandboxStatus": ("SandboxRequest", "SandboxStatusResponse", self.status),
            "PingSandbox": ("SandboxRequest", "Empty", self.ping),
            "ShutdownSandbox": ("SandboxRequest", "Empty", self.shutdown),
            "SandboxMetrics": ("SandboxRequest", "SandboxMetricsResponse", self.metrics),
        }
        return {
            ("containerd.runtime.sandbox.v1.Sandbox", name): method
            for name, method in names.items()
        }

    @property
    def idle(self) -> bool:
        """Whether no sandbox was ever made here."""
        return not self._id

    def pack(self) -> State:
        """What :meth:`unpack` needs."""
        times = [self._created, self._started, self._exited]
        return {"id": self._id, "times": times}

    def unpack(self, state: State) -> None:
        """Be the sandbox that an earlier worker was."""
        self._id = state["id"]
        self._created, self._started, self._exited = state["times"]
        if self._exited:
            self._ended.set()

    async def create(self, request: dict[str, Any]) -> None:
        if self._id:
            raise Failure(EXISTS, f"sandbox {request['sandbox_id']!r}: already exists")
        self._id = request["sandbox_id"]
        self._created = time.time_ns()

    async def start(self, request: dict[str, Any]) -> dict[str, Any]:
        self._known(request)
        if self._started:
            raise Failure(PRECONDITION, f"sandbox {self._id!r}: was started already")
        self._started = time.time_ns()
        return {"pid": self._pid, "created_at": _timestamp(self._created)}

    async def platform(self, request: dict[str, Any]) -> dict[str, Any]:
        self._known(request)
        machine = os.uname().machine
        architecture = _ARCHITECTURES.get(machine, machine)
        return {"platform": {"os": "linux", "architecture": architecture}}

    async def stop(self, request: dict[str, Any]) -> None:
        self._known(request)
        self._stop()

    async def wait(self, request: dict[str, Any]) -> dict[str, Any]:
        self._known(request)
        await self._ended
        return {"exit_status": 0, "exited_at": _timestamp(self._exited)}

    async def status(self, request: dict[str, Any]) -> dict[str, Any]:
        self._known(request)
        ready = self._started and not self._exited
        answer = {
            "sandbox_id": self._id,
            "pid": self._pid,
            "state": "SANDBOX_READY" if ready else "SANDBOX_NOTREADY",
            "created_at": _timestamp(self._created),
        }
        if self._exited:
            answer["exited_at"] = _timestamp(self._exited)
        return answer

    async def ping(self, request: dict[str, Any]) -> None:
        self._known(request)

    async def shutdown(self, request: dict[str, Any]) -> None:
        self._known(request)
        self._stop()
        self._loop.later(0.01, self._end)

    async def metrics(self, request: dict[str, Any]) -> dict[str, Any]:
        """It uses nothing of its own: what there is to measure is in its containers."""
        self._known(request)
        return {"metrics": {"timestamp": _timestamp(time.time_ns()), "id": self._id}}

    def _stop(self) -> None:
        if not self._exited:
            self._exited = time.time_ns()
            self._ended.set()

    def _known(self, request: dict[str, Any]) -> None:
        if request["sandbox_id"] != self._id:
            raise Failure(NOT_FOUND, f"sandbox {request['sandbox_id']!r}: not found")


def _timestamp(ns: int) -> dict[str, int]:
    return {"seconds": ns // 10**9, "nanos": ns % 10**9}
