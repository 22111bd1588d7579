"""What is said of a container that failed."""

from __future__ import annotations

from dataclasses import dataclass

from cored.engine.workload import Life

__all__ = ["Cause", "Report"]


@dataclass(frozen=True, slots=True)
class Cause:
    """``kind`` is a word for programs: exit, signal, oom, pids, seccomp, start, executable, port,
    mount, image, denied, health, asked, restarts; ``hint`` what can be done about it, or ''.

    ``telling``: it says more than the container itself, and docker, would have said.
    """

    kind: str
    text: str
    hint: str = ""
    telling: bool = False


@dataclass(frozen=True, slots=True)
class Report:
    """Everything that is known; the most important cause first, ``lines`` the last of its log."""

    id: str
    name: str
    image: str
    status: str
    exit_status: int = 0
    started_at: int = 0
    exited_at: int = 0
    causes: tuple[Cause, ...] = ()
    lines: tuple[str, ...] = ()
    lives: tuple[Life, ...] = ()
