"""What happened is known after restarts and crashes, in order and once, within bounds."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from cored import scope
from cored.abc.events import Action
from cored.abc.records import Container
from cored.engine.chronicle import Chronicle, Happening
from cored.engine.events import Exchange
from cored.engine.journal import Journal
from cored.errors import NotFound, ResourceExhausted
from cored.scope import Scope


class Nobody:
    """A store without containers."""

    async def get(self, id: str) -> Container:
        raise NotFound(f"container {id!r}: not found")


async def told(journal: Journal, count: int, since: int = 1) -> list[str]:
    found = []
    async for one in journal.read({}, since):
        found.append(one.id)
        if len(found) == count:
            break
    return found


async def test_events_of_earlier_daemons_come_before_those_of_now(tmp_path: Path) -> None:
    scope.enter(Scope("one"))
    for life in range(3):
        bus = Exchange()
        journal = Journal(bus.subscribe(), Nobody(), Chronicle(tmp_path / "e/journal"))  # type: ignore[arg-type]
        async with journal.opened():
            for number in range(50):
                await bus.publish(Action("volume", "create", f"{life}-{number}", {}))
            expected = [f"{one}-{number}" for one in range(life + 1) for number in range(50)]
            assert await told(journal, len(expected)) == expected


async def test_a_reader_misses_nothing_that_comes_while_it_reads(tmp_path: Path) -> None:
    scope.enter(Scope("one"))
    bus = Exchange()
    journal = Journal(bus.subscribe(), Nobody(), Chronicle(tmp_path / "e/journal", 2000))  # type: ignore[arg-type]
    async with journal.opened():
        for number in range(10):
            await bus.publish(Action("volume", "create", str(number), {}))
        reading = asyncio.create_task(told(journal, 30))
        for number in range(10, 30):
            await bus.publish(Action("volume", "create", str(number), {}))
            await asyncio.sleep(0)
        found = await asyncio.wait_for(reading, 60)
    # what the small file has lost is lost at the beginning
    assert found == [str(number) for number in range(30)][-len(found) :]
    assert len(found) == 30


async def test_who_does_not_read_is_cut_off_and_keeps_nothing_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cored.engine.journal._BACKLOG", 5)
    scope.enter(Scope("one"))
    bus = Exchange()
    journal = Journal(bus.subscribe(), Nobody(), Chronicle(tmp_path / "e/journal"))  # type: ignore[arg-type]
    async with journal.opened():
        await bus.publish(Action("volume", "create", "first", {}))
        reading = journal.read({}, 1)
        assert (await anext(reading)).id == "first"
        for number in range(9):
            await bus.publish(Action("volume", "create", str(number), {}))
        async with asyncio.timeout(60):
            while journal._listeners:
                await asyncio.sleep(0)
        assert [(await anext(reading)).id for _ in range(5)] == list("01234")
        with pytest.raises(ResourceExhausted):
            await anext(reading)


async def test_an_event_that_cannot_be_told_is_not_the_last(tmp_path: Path) -> None:
    class Broken:
        async def get(self, id: str) -> Container:
            raise OSError("input/output error")

    scope.enter(Scope("one"))
    bus = Exchange()
    journal = Journal(bus.subscribe(), Broken(), Chronicle(tmp_path / "e/journal"))  # type: ignore[arg-type]
    async with journal.opened():
        await bus.publish(Action("container", "create", "c", {}))
        await bus.publish(Action("volume", "create", "v", {}))
        assert await asyncio.wait_for(told(journal, 1), 60) == ["v"]


def test_two_files_are_kept_and_a_torn_line_is_not(tmp_path: Path) -> None:
    path = tmp_path / "e/journal"
    chronicle = Chronicle(path, 1000)
    for number in range(100):
        chronicle.append([Happening(number, "n", "volume", "create", str(number))])
    chronicle.close()
    assert sorted(p.name for p in path.parent.iterdir()) == ["journal", "journal.1"]
    assert sum(p.stat().st_size for p in path.parent.iterdir()) <= 2000
    with path.open("a") as file:
        file.write('{"time": 5, "na')
    again = Chronicle(path, 1000)
    again.append([Happening(100, "n", "volume", "create", "100", {"driver": "local"})])
    reading = again.reading()
    found = list(reading.happenings(98))
    reading.close()
    again.close()
    assert [one.id for one in found] == ["98", "99", "100"]
    assert found[-1].attributes == {"driver": "local"}
