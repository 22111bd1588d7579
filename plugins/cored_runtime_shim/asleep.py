"""Shims that sleep: what they have left word of, and how their ends are seen without waking them.

A shim of ours leaves the file ``asleep`` in its bundle while it sleeps (``coreshim/rest.py``). A
daemon that starts believes it when that very process lives, and connects only when it must.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

__all__ = ["Note", "Vigil", "read"]

_LARGEST = 1 << 16


class Note(NamedTuple):
    """How the only process of a task is, init; and its shim, with when it began (kernel's ticks).

    ``status`` is the Task service's number, ``exited_at`` ns since the epoch.
    """

    address: str
    shim: int
    since: int
    pid: int
    began: int
    status: Any
    stdin: str
    stdout: str
    stderr: str
    terminal: bool
    exit_status: int
    exited_at: int
    file: tuple[int, int] = (0, 0)
    """Which file this was: inode, and when it was written."""


def read(bundle: Path, before: Note | None = None) -> Note | None:
    """What the shim of a bundle has left word of; None while it is awake.

    ``before`` is what the caller knows already, if it is still so.
    """
    path = f"{bundle}/asleep"
    try:
        found = os.stat(path)  # noqa: PTH116
        file = (found.st_ino, found.st_mtime_ns)
        if before is not None and before.file == file:
            return before
        return Note(**json.loads(_content(path)), file=file)
    except (OSError, ValueError, TypeError):
        return None  # not there, or not yet whole


class Vigil:
    """Sees the end of a shim (``lost`` is called), and that of its init for who wants to know.

    OSError when the shim does not live, whatever its pid is now.
    """

    def __init__(self, note: Note, lost: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._handles: list[int] = []
        self.shim = note.shim
        self._note = note
        self._ended: asyncio.Future[None] | None = None
        self._watch(note.shim, note.since, lost)

    @property
    def ended(self) -> asyncio.Future[None]:
        """Done when init has ended, or this is closed."""
        if self._ended is None:
            self._ended = self._loop.create_future()
            try:
                self._watch(self._note.pid, self._note.began, self._init_ended)
            except OSError:
                self._init_ended()  # or it is about to be known
        return self._ended

    def close(self) -> None:
        """See no more."""
        for handle in self._handles:
            self._loop.remove_reader(handle)
            os.close(handle)
        self._handles.clear()
        self._init_ended()

    def _watch(self, pid: int, began: int, then: Callable[[], None]) -> None:
        handle = os.pidfd_open(pid)
        if _began(pid) != began:
            os.close(handle)
            raise ProcessLookupError(f"process {pid}: is another one by now")
        self._handles.append(handle)
        self._loop.add_reader(handle, then)

    def _init_ended(self) -> None:
        if self._ended is not None and not self._ended.done():
            self._ended.set_result(None)


def _began(pid: int) -> int:
    """OSError."""
    return int(_content(f"/proc/{pid}/stat").rpartition(b")")[2].split(None, 20)[19])


def _content(path: str) -> bytes:
    """Of a small file: there are hundreds, and a daemon that starts waits for them. OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(fd, _LARGEST)
    finally:
        os.close(fd)
