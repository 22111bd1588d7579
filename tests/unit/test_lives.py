"""Lives of containers, between the daemon's own knowledge of their starts and ends."""

from __future__ import annotations

import asyncio

from cored.abc.runtime import Exit
from cored.engine.lives import Lives

KEY = ("default", "c")


async def test_a_start_that_is_under_way_is_waited_for() -> None:
    lives, end = Lives(), asyncio.Event()

    async def ending() -> Exit:
        await end.wait()
        return Exit(0, 0, 0)

    async with lives.gate(KEY):
        asked = asyncio.create_task(lives.begun(KEY))
        await asyncio.sleep(0)
        assert not asked.done()
        lives.begin(KEY, ending())
    assert await asked
    end.set()
    await lives.close()


async def test_what_nobody_starts_does_not_live() -> None:
    assert not await Lives().begun(KEY)
