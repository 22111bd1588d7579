"""What all awaited classes stand on: the synchronous ones, in threads."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from types import TracebackType
from typing import Any, Self, TypeVar

from cored.client import threads

__all__ = ["Verbs", "iteration"]

_Answer = TypeVar("_Answer")
_Item = TypeVar("_Item")


class Verbs:
    """``inner`` does the work. Those that can be entered are closed at the end."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    async def _call(self, function: Callable[..., _Answer], *args: Any, **kwargs: Any) -> _Answer:
        return await threads.call(function, *args, **kwargs)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        close = getattr(self._inner, "close", None)
        if close is not None:
            await threads.call(close)


def iteration(make: Callable[[], Iterator[_Item]]) -> AsyncIterator[_Item]:
    """A blocking generator's items."""
    return threads.Iteration(make)
