"""One process of a container: init, or an exec."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable
from typing import Any

from coreshim.codec import encode
from coreshim.hibernation import Luggage, State, bytes_of, text_of
from coreshim.loop import Future, Loop
from coreshim.stdio import Streams

__all__ = ["CREATED", "PAUSED", "RUNNING", "STOPPED", "Process", "listed", "parent"]

CREATED, RUNNING, STOPPED, PAUSED = 1, 2, 3, 4
# attributes that are plain values
_PLAIN = (
    "exec_id", "stdin", "stdout", "stderr", "terminal", "image", "begun", "pid", "child",
    "status", "exit_status", "exited_at",
)  # fmt: skip


class Process:
    """What is known of it; ``exit`` is settled when it has ended."""

    def __init__(self, loop: Loop, exec_id: str, request: dict[str, Any]) -> None:
        self.exec_id = exec_id
        self.stdin: str = request["stdin"]
        self.stdout: str = request["stdout"]
        self.stderr: str = request["stderr"]
        self.terminal: bool = request["terminal"]
        self.spec: bytes = b""
        self.image = ""  # a checkpoint that it is to be restored from
        self.begun = False
        self.pid = 0
        self.child = 0  # our child whose end is its end: itself, but for standin.py
        self.status = CREATED
        self.exit_status = 0
        self.exited_at = 0
        self.exit = Future(loop)
        # the reaper's word, which comes before ours
        self.reaped: Future | None = None
        # settled while no start is under way: its end is told after its start
        self.started = Future(loop)
        self.started.set()
        self.streams: Streams | None = None
        # a pidfd: another process may have its pid by the time that we hear of its end
        self._handle = -1

    @property
    def quiet(self) -> bool:
        """Whether it is not being started, and no bytes of its streams are here."""
        return self.started.done and (self.streams is None or self.streams.quiet)

    @property
    def runs(self) -> bool:
        """Whether its end is to come."""
        return self.reaped is not None and not self.exit.done

    def pack(self, luggage: Luggage) -> State:
        """What :meth:`unpacked` needs; only while :attr:`quiet`."""
        state: State = {name: getattr(self, name) for name in _PLAIN}
        state["spec"] = text_of(self.spec)
        state["runs"], state["over"] = self.runs, self.exit.done
        state["handle"] = luggage.pack(self._handle)
        if self.streams is not None:
            state["streams"] = self.streams.pack(luggage)
        return state

    @classmethod
    def unpacked(cls, loop: Loop, state: State, luggage: Luggage) -> Process:
        """The process that an earlier worker knew; whoever asks sets :attr:`reaped`."""
        process = cls(loop, state["exec_id"], state)
        for name in _PLAIN:
            setattr(process, name, state[name])
        process.spec = bytes_of(state["spec"])
        process._handle = luggage.unpack(state["handle"])
        if state["over"]:
            process.exit.set()
        if "streams" in state:
            process.streams = Streams.unpacked(loop, state["streams"], luggage)
        return process

    def begins(self, pid: int, child: int = 0) -> None:
        """It has this pid, and is our child (or ``child`` is), unless it has ended already."""
        self.pid, self.child = pid, child or pid
        try:
            handle = os.pidfd_open(self.child)
        except ProcessLookupError:
            return  # it has ended and been reaped
        if parent(self.child) == os.getpid():
            self._handle = handle
        else:
            os.close(handle)  # the same, and another has its pid

    def kill(self, number: int) -> None:
        """Send a signal. ProcessLookupError when it has ended."""
        if self._handle < 0:
            raise ProcessLookupError(f"process {self.pid}: has ended")
        signal.pidfd_send_signal(self._handle, number)

    def open_streams(self, loop: Loop, owner: tuple[str, str]) -> Streams:
        """Open what the request named, for a container (id, namespace). Failure if it cannot be."""
        self.streams = Streams(loop, owner)
        self.streams.open(self.stdin, self.stdout, self.stderr, self.terminal)
        return self.streams

    def close(self) -> None:
        """Let go of all streams, and of the process."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1
        if self.streams is not None:
            self.streams.close()
            self.streams = None

    def ended(self, status: int, at: int) -> None:
        """Take note of the end and tell who waits."""
        self.status, self.exit_status, self.exited_at = STOPPED, status, at
        if self.streams is not None:
            self.streams.ended()
        self.exit.set()

    @property
    def exit_time(self) -> dict[str, int] | None:
        """Its end as a Timestamp."""
        if not self.exited_at:
            return None
        return {"seconds": self.exited_at // 10**9, "nanos": self.exited_at % 10**9}


def listed(pids: Iterable[int], processes: Iterable[Process]) -> list[dict[str, Any]]:
    """Messages of a container's processes; execs say which they are."""
    names = {process.pid: process.exec_id for process in processes if process.exec_id}
    entries: list[dict[str, Any]] = []
    for pid in pids:
        entry: dict[str, Any] = {"pid": pid}
        if pid in names:
            details = encode("ProcessDetails", {"exec_id": names[pid]})
            entry["info"] = {"type_url": "containerd.runc.v1.ProcessDetails", "value": details}
        entries.append(entry)
    return entries


def parent(pid: int) -> int:
    """The pid of a process's parent; 0 when it is gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return int(file.read().rpartition(b")")[2].split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return 0
