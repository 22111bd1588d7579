"""What the stores of records remember of what they read is never older than the database."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from cored_content_local import LocalContentStore

from cored import scope
from cored.abc.records import Container
from cored.abc.values import Typed
from cored.config import GcConfig
from cored.engine.events import Exchange
from cored.errors import NotFound
from cored.metadata.store import Metadata
from cored.scope import Scope

RECORD = Container("c", {"a": "1"}, runtime="r", spec=Typed("t", b"{}"))
QUIET = GcConfig(startup_delay=3600, deletion_threshold=0, mutation_threshold=0)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Metadata]:
    async with Metadata.opened(
        tmp_path, Exchange(), LocalContentStore(tmp_path / "content"), {}, QUIET
    ) as opened:
        yield opened


async def test_a_change_is_seen_by_the_next_read(store: Metadata) -> None:
    scope.enter(Scope("one"))
    made = await store.containers.create(RECORD)
    assert await store.containers.list() == [made]
    assert await store.containers.get("c") is await store.containers.get("c")
    changed = await store.containers.update(replace(RECORD, labels={"a": "2"}), ["labels"])
    assert await store.containers.get("c") == changed
    assert await store.containers.list() == [changed]
    assert await store.containers.list(["labels.a==1"]) == []
    await store.containers.delete("c")
    assert await store.containers.list() == []
    with pytest.raises(NotFound):
        await store.containers.get("c")


async def test_a_list_belongs_to_its_caller_and_its_namespace(store: Metadata) -> None:
    scope.enter(Scope("one"))
    made = await store.containers.create(RECORD)
    (await store.containers.list()).clear()
    assert await store.containers.list() == [made]
    scope.enter(Scope("two"))
    assert await store.containers.list() == []
    other = await store.containers.create(replace(RECORD, labels={}))
    assert await store.containers.list() == [other]


async def test_what_another_process_writes_is_seen(store: Metadata, tmp_path: Path) -> None:
    scope.enter(Scope("one"))
    await store.containers.create(RECORD)
    assert (await store.containers.list())[0].labels == {"a": "1"}
    connection = sqlite3.connect(tmp_path / "metadata.db")
    with connection:
        connection.execute("UPDATE containers SET record = replace(record, '\"1\"', '\"3\"')")
    connection.close()
    assert (await store.containers.list())[0].labels == {"a": "3"}
    assert (await store.containers.get("c")).labels == {"a": "3"}


async def test_more_records_than_are_remembered_are_all_listed(store: Metadata) -> None:
    scope.enter(Scope("one"))
    names = [f"i{number}" for number in range(40)]
    for name in names:
        await store.containers.create(replace(RECORD, id=name))
    for namespace in [f"n{number}" for number in range(40)]:
        scope.enter(Scope(namespace))
        assert await store.containers.list() == []
    scope.enter(Scope("one"))
    assert sorted(found.id for found in await store.containers.list()) == sorted(names)
