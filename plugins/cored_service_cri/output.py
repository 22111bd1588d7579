"""Containers' streams: the log that kubelet reads, and FIFOs for whoever attaches."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Collection
from pathlib import Path
from urllib.parse import quote

from cored.abc.runtime import Stdio
from cored.errors import FailedPrecondition, from_os_error
from cored_service_cri.values import Container

__all__ = ["Output"]


class Output:
    """A directory with FIFOs below ``state`` for each container that has been started.

    The shim writes the log itself and copies to a FIFO while somebody reads it.
    """

    def __init__(self, state: Path) -> None:
        self._state = state
        self._held: dict[str, int] = {}

    async def recover(self, containers: Collection[str]) -> None:
        """Remove what belongs to containers that are gone."""
        if self._state.is_dir():
            for place in self._state.iterdir():
                if place.name not in containers:
                    self.discard(place.name)

    def path(self, id: str, stream: str) -> Path:
        """The FIFO of stdin, stdout or stderr."""
        return self._state / id / stream

    async def open(self, one: Container) -> Stdio:
        """Make what a task is to be connected to. FailedPrecondition."""
        return await asyncio.to_thread(self._open, one)

    def _open(self, one: Container) -> Stdio:
        tty, stdin = one.config.tty, one.config.stdin
        names = ["stdout"] + ([] if tty else ["stderr"]) + (["stdin"] if stdin else [])
        self.discard(one.id)
        try:
            (self._state / one.id).mkdir(mode=0o700, parents=True)
            for name in names:
                os.mkfifo(self.path(one.id, name), 0o600)
            if one.log_path:
                Path(one.log_path).parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            if stdin and not (one.config.stdin_once or tty):
                # a client that leaves does not end it; the writing end waits for the next one
                self._held[one.id] = os.open(
                    self.path(one.id, "stdin"), os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC
                )
        except OSError as error:
            raise from_os_error(f"streams of container {one.id!r}", error) from error
        return Stdio(
            str(self.path(one.id, "stdin")) if stdin else "",
            self._uri(one, "stdout"),
            "" if tty else self._uri(one, "stderr"),
            tty,
        )

    def reopen(self, one: Container) -> None:
        """See that the log is there again after kubelet has put it away.

        The shim looks with each line whether the file is still the one that it has open.
        """
        if not one.log_path:
            raise FailedPrecondition(f"container {one.id!r}: has no log")
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
            os.close(os.open(one.log_path, flags, 0o640))
        except OSError as error:
            raise from_os_error(f"log {one.log_path!r}", error) from error

    def close(self, id: str) -> None:
        """It has ended: nobody writes to it any more."""
        fd = self._held.pop(id, -1)
        if fd >= 0:
            os.close(fd)

    def discard(self, id: str) -> None:
        """Remove the FIFOs; fine when they are gone."""
        self.close(id)
        shutil.rmtree(self._state / id, ignore_errors=not (self._state / id).exists())

    def _uri(self, one: Container, stream: str) -> str:
        copy = f"copy={quote(str(self.path(one.id, stream)), safe='')}"
        if not one.log_path:
            return f"none://?{copy}"
        return f"cri://{quote(one.log_path)}?{copy}"
