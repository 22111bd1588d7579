"""Restart policies: whether a container that ended is started again, and when."""

from __future__ import annotations

from cored.abc.runtime import Exit
from cored.engine.lives import Key
from cored.engine.workload import ContainerState, RestartPolicy
from cored.errors import InvalidArgument

__all__ = ["Backoff", "check", "wanted"]

NAMES = ("", "no", "on-failure", "always", "unless-stopped")
# docker's, in seconds
_FIRST, _LONGEST, _GOOD = 0.1, 60.0, 10.0


def check(policy: RestartPolicy, *, auto_remove: bool) -> None:
    """InvalidArgument."""
    if policy.name not in NAMES:
        raise InvalidArgument(
            f"restart policy {policy.name!r}: unknown", hint=", ".join(filter(None, NAMES))
        )
    if policy.maximum and policy.name != "on-failure":
        raise InvalidArgument(f"restart policy {policy.name!r}: takes no number of attempts")
    if auto_remove and policy.name not in ("", "no"):
        raise InvalidArgument(
            "restart policy: a container that removes itself cannot be started again",
            hint="leave --rm or --restart away",
        )


def wanted(policy: RestartPolicy, state: ContainerState, *, boot: bool = False) -> bool:
    """Whether it is to be started again after it ended as ``state`` says.

    ``boot``: the daemon has just started. ``always`` then means those stopped by hand, too.
    """
    match policy.name:
        case "always":
            return boot or not state.stopped
        case "unless-stopped":
            return not state.stopped
        case "on-failure":
            left = not policy.maximum or state.restarts < policy.maximum
            return left and state.exit_status != 0 and not state.stopped
        case _:
            return False


class Backoff:
    """How long to wait before each restart: twice as long each time, until one runs for a while."""

    def __init__(self) -> None:
        self._delays: dict[Key, float] = {}

    def next(self, key: Key, started_at: int, exit: Exit) -> float:
        """Seconds until the next start of a container that ran from ``started_at`` to ``exit``."""
        ran = (exit.exited_at - started_at) / 10**9 if started_at else 0.0
        before = 0.0 if ran >= _GOOD else self._delays.get(key, 0.0)
        delay = min(before * 2, _LONGEST) if before else _FIRST
        self._delays[key] = delay
        return delay

    def forget(self, key: Key) -> None:
        """Begin anew: somebody has started it, or it is gone."""
        self._delays.pop(key, None)
