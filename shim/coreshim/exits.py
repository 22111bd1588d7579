"""How a process ended, written into the bundle before anybody is told."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence

from coreshim.oom import OomWatch
from coreshim.reaper import Ended

__all__ = ["exit_file", "facts_of", "write_exit"]


def exit_file(bundle: str, exec_id: str) -> str:
    """Init's is ``exit.json``, an exec's stays until it is deleted."""
    name = os.path.join("exits", exec_id) if exec_id else "exit.json"
    return os.path.join(bundle, name)


def facts_of(ended: Ended, cgroups: Sequence[str], oom: OomWatch | None) -> dict[str, int]:
    """What the cgroup says of a bad end, while it is there (see :mod:`coreshim.causes`)."""
    kills = 0 if oom is None else oom.seen
    if not ended.status and not kills:
        return {}
    from coreshim import causes  # most ends are good ones

    return causes.facts(cgroups, kills)


def write_exit(path: str, pid: int, ended: Ended, facts: Mapping[str, int]) -> None:
    """In one step, with ``facts`` of the cause. Not for a power cut: bundles do not outlive their
    boot, and fsync would be what a container's end takes longest for. OSError.
    """
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    with open(f"{path}.new", "w") as file:
        record = {"pid": pid, "status": ended.status, "exited_at": ended.at}
        json.dump({**record, "signalled": int(ended.signalled), **facts}, file)
    os.replace(f"{path}.new", path)
