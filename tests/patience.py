"""How long tests wait: until a thing is true, on machines that have much else to do."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

__all__ = ["PATIENCE", "eventually"]

PATIENCE = 60.0
"""Seconds: nobody waits for them but a test that fails."""

_Found = TypeVar("_Found")


def eventually(
    condition: Callable[[], _Found],
    seconds: float = PATIENCE,
    *,
    why: Callable[[], object] = lambda: "did not come true",
) -> _Found:
    """The first true answer of ``condition()``; AssertionError with what ``why()`` says then."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, why()
        time.sleep(0.02)
    return found
