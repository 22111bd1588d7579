"""What waits for the disk, and what a power cut may forget."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cored import scope
from cored.abc.records import Lease, LeaseStore, Resource
from cored.database import Database
from cored.engine.transfers import leased
from cored.metadata.guard import Guard
from cored.metadata.leases import Leases
from cored.metadata.schema import MIGRATIONS
from cored.scope import Scope

_NOTES = ("CREATE TABLE notes (text TEXT);",)
_CHAIN = Resource("sha256:" + "a" * 64, "snapshots/native")


@pytest.fixture(autouse=True)
def somewhere() -> Iterator[None]:
    with scope.entered(Scope("here")):
        yield


class Watched(Database):
    """Tells of each commit whether it waits for the disk."""

    def _open(self) -> None:
        self.waited: list[bool] = []
        super()._open()
        self._writer.set_trace_callback(self._seen)

    def _seen(self, statement: str) -> None:
        if statement.startswith("PRAGMA synchronous"):
            self.waited.append(statement.endswith("FULL"))


async def test_a_write_that_need_not_last_is_seen_and_waits_for_no_disk(tmp_path: Path) -> None:
    async with Watched.opened(tmp_path / "db", _NOTES) as database:
        assert isinstance(database, Watched)
        await database.write(lambda c: c.execute("INSERT INTO notes VALUES ('a')"), durable=False)
        assert database.read.execute("SELECT text FROM notes").fetchall() == [("a",)]
        await database.write(lambda c: c.execute("INSERT INTO notes VALUES ('b')"))
        assert database.waited == [False, True]


async def test_what_a_passing_lease_holds_waits_for_no_disk(tmp_path: Path) -> None:
    async with Watched.opened(tmp_path / "db", MIGRATIONS) as database:
        assert isinstance(database, Watched)
        leases: LeaseStore = Leases(database, Guard())
        async with leased(leases, "test"):
            mine = scope.current().lease
            assert mine is not None
            assert scope.passing()
            await leases.add(mine, _CHAIN)
            assert list(await leases.resources(mine)) == [_CHAIN]
        assert not scope.passing()
        assert await leases.list() == []
        assert set(database.waited) == {False}


async def test_a_lease_of_somebody_s_own_lasts_within_a_passing_one(tmp_path: Path) -> None:
    async with Watched.opened(tmp_path / "db", MIGRATIONS) as database:
        assert isinstance(database, Watched)
        leases: LeaseStore = Leases(database, Guard())
        async with leased(leases, "test"):
            database.waited.clear()
            await leases.create(Lease("kept"))
            await leases.add("kept", _CHAIN)
            assert database.waited == [True, True]
