"""One process of a container: init, or an exec."""

from __future__ import annotations

from typing import Any

from coreshim.loop import Future, Loop
from coreshim.stdio import Streams

__all__ = ["CREATED", "PAUSED", "RUNNING", "STOPPED", "Process"]

CREATED, RUNNING, STOPPED, PAUSED = 1, 2, 3, 4


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

    def open_streams(self, loop: Loop, owner: tuple[str, str]) -> Streams:
        """Open what the request named, for a container (id, namespace). Failure if it cannot be."""
        self.streams = Streams(loop, self.stdin, self.stdout, self.stderr, self.terminal, owner)
        return self.streams

    def close_streams(self) -> None:
        """Let go of all streams."""
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
