"""Several things at once, and one error when one of them fails."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any, TypeVar

from cored import log

__all__ = ["first", "together", "whole"]

T = TypeVar("T")


async def whole(work: Coroutine[Any, Any, T]) -> T:
    """Do it to its end, whatever becomes of the caller; an error that nobody hears is logged."""
    task = asyncio.create_task(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        task.add_done_callback(_unheard)
        raise


def _unheard(task: asyncio.Task[Any]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.get("engine").info("failed when nobody waited for it", error=str(error))


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
