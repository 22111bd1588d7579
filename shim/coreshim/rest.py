"""What a sleeping shim's bundle says of its task, so that nobody has to wake the shim to know.

The file ``asleep`` is there only while the shim sleeps: written right before, removed by the next
worker before it does anything. Whoever reads it must know that the shim lives (its pid, and when
that process began), and believes it as long as the file is there.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from contextlib import suppress

from coreshim.hibernation import State
from coreshim.process import STOPPED

__all__ = ["note", "withdraw"]

_FILE = "asleep"
_TOLD = (
    "pid", "status", "stdin", "stdout", "stderr", "terminal", "exit_status", "exited_at"
)  # fmt: skip


def note(bundle: str, address: str, shim: int, processes: Sequence[State]) -> None:
    """Say that ``shim``, of ``address``, sleeps, and how its only process (packed) is.

    Nothing when it has others.
    """
    if len(processes) != 1 or processes[0]["exec_id"]:
        return
    init = processes[0]
    said = {name: init[name] for name in _TOLD}
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
    try:
        began = 0 if init["status"] == STOPPED else _began(init["pid"])
        said.update(address=address, shim=shim, since=_began(shim), began=began)
        with open(os.open(os.path.join(bundle, _FILE), flags, 0o600), "w") as file:
            json.dump(said, file)
    except OSError:
        withdraw(bundle)  # it can be asked


def withdraw(bundle: str) -> None:
    """It is awake, and to be asked."""
    with suppress(FileNotFoundError):
        os.unlink(os.path.join(bundle, _FILE))


def _began(pid: int) -> int:
    """When a process was started, in the kernel's ticks since the boot. OSError."""
    with open(f"/proc/{pid}/stat", "rb") as file:
        return int(file.read().rpartition(b")")[2].split()[19])
