"""A worker: takes a caller's place in a fork of the keeper, and is the command."""

from __future__ import annotations

import ctypes
import fcntl
import gc
import os
import signal
import socket
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn

__all__ = ["TOLD", "Taken", "taken", "work"]

_REQUEST = 256 * 1024
_FILES = 253
# where the caller's files wait until the keeper's are closed; callers have lower numbers
_ASIDE = 700
_FAILED = 125
_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None)
TOLD = 60_000


@dataclass(frozen=True, slots=True)
class Taken:
    """What a caller has and its worker gets. ``numbers`` are those of ``files`` without the first,
    which is the working directory."""

    numbers: Sequence[int]
    arguments: Sequence[bytes]
    environment: Sequence[bytes]
    files: Sequence[int]

    def close(self) -> None:
        """Close the files."""
        for file in self.files:
            os.close(file)


def taken(talk: socket.socket) -> Taken:
    """Receive a request (see caller.py). OSError, also for one that is no such."""
    data, files, flags, _ = socket.recv_fds(talk, _REQUEST, _FILES)
    try:
        if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
            raise ValueError("cut off")
        numbers, count, *words = data.split(b"\0")
        wanted = [int(number) for number in numbers.split()]
        if len(wanted) + 1 != len(files) or max(wanted) >= _ASIDE:
            raise ValueError("another number of files")
        return Taken(wanted, words[: int(count)], words[int(count) :], files)
    except ValueError as error:
        for file in files:
            os.close(file)
        raise OSError(f"not a request: {error}") from error


def work(one: Taken, telling: int) -> NoReturn:
    """In the child of the fork: be the command; its modules' names go to ``telling``."""
    try:
        os.setpgid(0, 0)
        # without the keeper nobody would hear of it, nor stop it
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        known = set(sys.modules)
        kept = _take_place(one, telling)
        from corectl.__main__ import run

        def learnt() -> None:
            names = "\n".join(name for name in sys.modules if name not in known)
            os.write(kept, names.encode()[:TOLD])

        run(learnt)
    except BaseException:
        traceback.print_exc()
        raise
    finally:
        # whatever happens: what is below on the stack is the keeper's
        os._exit(_FAILED)


def _take_place(one: Taken, telling: int) -> int:
    """The caller's files under their numbers, its directory, environment, arguments."""
    for ending in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(ending, signal.SIG_DFL)
    here, *files = (fcntl.fcntl(file, fcntl.F_DUPFD_CLOEXEC, _ASIDE) for file in one.files)
    kept = fcntl.fcntl(telling, fcntl.F_DUPFD_CLOEXEC, _ASIDE)
    os.closerange(0, _ASIDE)
    for file, number in zip(files, one.numbers, strict=True):
        os.dup2(file, number)
        os.close(file)
    os.fchdir(here)
    os.close(here)
    os.environ.clear()
    for variable in one.environment:
        key, _, value = variable.partition(b"=")
        os.environb[key] = value
    time.tzset()
    sys.argv[:] = ["corectl", *map(os.fsdecode, one.arguments)]
    _open_streams()
    gc.enable()
    return kept


def _open_streams() -> None:
    """As the interpreter opens them when it starts (the locale is the same)."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        before = getattr(sys, name)
        stream = open(  # noqa: SIM115 - they are the process's, to its end
            number,
            "w" if number else "r",
            buffering=1 if number == 2 or os.isatty(number) else -1,
            encoding=before.encoding,
            errors=before.errors,
            closefd=False,
        )
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)
