"""What builds leave to be done when their clients have heard all."""

from __future__ import annotations

import asyncio

from cored_service_build.endings import Endings


async def test_who_wants_a_directory_waits_until_it_is_put_back() -> None:
    endings, may, order = Endings(), asyncio.Event(), list[str]()

    async def put_back() -> None:
        await may.wait()
        order.append("put back")

    async def wanted(key: str | None) -> None:
        await endings.wait(key)
        order.append(f"{key}")

    endings.begin({"mine"}, put_back())
    await wanted("another's")
    waiting = [asyncio.create_task(wanted(key)) for key in ("mine", None)]
    await asyncio.sleep(0)
    assert order == ["another's"]
    may.set()
    await asyncio.gather(*waiting)
    assert order == ["another's", "put back", "mine", "None"]


async def test_one_that_fails_keeps_nobody_waiting() -> None:
    endings = Endings()

    async def fail() -> None:
        raise OSError("a disk that is broken")

    endings.begin({"mine"}, fail())
    await endings.wait("mine")
    await endings.wait()
