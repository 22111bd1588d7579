"""How a process ended, written into the bundle before anybody is told."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping

from coreshim.reaper import Ended

__all__ = ["exit_file", "write_exit"]


def exit_file(bundle: str, exec_id: str) -> str:
    """Init's is ``exit.json``, an exec's stays until it is deleted."""
    name = os.path.join("exits", exec_id) if exec_id else "exit.json"
    return os.path.join(bundle, name)


def write_exit(path: str, pid: int, ended: Ended, facts: Mapping[str, int]) -> None:
    """In one step, with ``facts`` of the cause. Not for a power cut: bundles do not outlive their
    boot, and fsync would be what a container's end takes longest for. OSError.
    """
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    with open(f"{path}.new", "w") as file:
        record = {"pid": pid, "status": ended.status, "exited_at": ended.at}
        json.dump({**record, "signalled": int(ended.signalled), **facts}, file)
    os.replace(f"{path}.new", path)
