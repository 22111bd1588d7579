"""Several things at once, and one error when one of them fails."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any

__all__ = ["first", "together"]


async def together(work: Iterable[Coroutine[Any, Any, Any]]) -> None:
    """Run all at the same time; the first error ends the others, and is raised as it is."""
    try:
        async with asyncio.TaskGroup() as group:
            for each in work:
                group.create_task(each)
    except BaseExceptionGroup as errors:
        raise first(errors) from errors


def first(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    """The error that began it: the others were cancelled because of it."""
    for error in errors.exceptions:
        if isinstance(error, BaseExceptionGroup):
            return first(error)
        if not isinstance(error, asyncio.CancelledError):
            return error
    return errors.exceptions[0]
