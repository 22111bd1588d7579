"""Comparisons of two daemons: the same measure on both, by turns, and what comes out as a row."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass

from tests.daemons import Daemon

__all__ = ["Row", "interleaved"]


@dataclass(frozen=True)
class Row:
    """One comparison: medians, the ratio of medians, and what is aimed at, if anything."""

    what: str
    unit: str
    ours: float
    peer: float
    target: float | None
    spread: tuple[float, float]

    def __str__(self) -> str:
        ratio = self.ours / self.peer
        aim = ""
        if self.target is not None:
            verdict = "reached" if ratio <= self.target else "MISSED"
            aim = f"  target {self.target:.2f}  {verdict}"
        low, high = self.spread
        return (
            f"{self.what:34} {self.ours:9.2f} {self.peer:11.2f} {self.unit:4} "
            f"{ratio:7.2f}  (rounds {low:.2f}-{high:.2f}){aim}"
        )


def interleaved(
    what: str,
    unit: str,
    target: float | None,
    rounds: int,
    measure: Callable[[Daemon, int], float],
    ours: Daemon,
    peer: Daemon,
) -> Row:
    """One warm-up, then rounds in which each daemon is first every other time."""
    figures: dict[int, list[float]] = {id(ours): [], id(peer): []}
    for number in range(rounds + 1):
        order = (ours, peer) if number % 2 else (peer, ours)
        for daemon in order:
            figure = measure(daemon, number)
            if number:
                figures[id(daemon)].append(figure)
    mine, theirs = figures[id(ours)], figures[id(peer)]
    ratios = [a / b for a, b in zip(mine, theirs, strict=True)]
    middle = statistics.median
    return Row(what, unit, middle(mine), middle(theirs), target, (min(ratios), max(ratios)))
