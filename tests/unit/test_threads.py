"""Threads whose callers go away."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from cored.threads import entered, finished


async def test_who_is_cancelled_goes_when_the_thread_has_ended() -> None:
    begun, go_on = threading.Event(), threading.Event()
    done: list[str] = []

    def work() -> None:
        begun.set()
        go_on.wait(60)
        done.append("work")

    async def caller() -> None:
        try:
            await finished(work)
        finally:
            done.append("undone")

    task = asyncio.create_task(caller())
    await asyncio.to_thread(begun.wait, 60)
    for _ in range(3):  # also more than once
        task.cancel()
        await asyncio.sleep(0)
    assert done == []
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert done == ["work", "undone"]


@pytest.mark.parametrize("cancelled", [True, False])
async def test_what_was_entered_is_left(cancelled: bool) -> None:
    begun, go_on = threading.Event(), threading.Event()
    done: list[str] = []

    @contextmanager
    def manager() -> Iterator[str]:
        begun.set()
        go_on.wait(60)
        done.append("enter")
        yield "value"
        done.append("exit")

    async def caller() -> None:
        async with entered(manager()) as value:
            done.append(value)

    task = asyncio.create_task(caller())
    await asyncio.to_thread(begun.wait, 60)
    if cancelled:
        task.cancel()
        await asyncio.sleep(0)
    go_on.set()
    await asyncio.wait([task])
    assert done == (["enter", "exit"] if cancelled else ["enter", "value", "exit"])


async def test_what_failed_to_be_entered_is_not_left() -> None:
    @contextmanager
    def manager() -> Iterator[None]:
        raise OSError("no")
        yield

    with pytest.raises(OSError, match="no"):
        async with entered(manager()):
            pass
