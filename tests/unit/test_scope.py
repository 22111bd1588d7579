"""The scope of a request."""

from __future__ import annotations

import asyncio

import pytest

from cored import scope
from cored.errors import FailedPrecondition
from cored.scope import Scope


def test_without_a_scope_a_namespace_is_required() -> None:
    with pytest.raises(FailedPrecondition, match="namespace is required"):
        scope.namespace()


def test_scope_ends_with_its_block() -> None:
    with scope.entered(Scope("one", "lease")):
        assert scope.current() == Scope("one", "lease")
        with scope.entered(Scope("two")):
            assert scope.namespace() == "two"
        assert scope.namespace() == "one"
    with pytest.raises(FailedPrecondition):
        scope.current()


async def test_tasks_started_inside_keep_the_scope() -> None:
    async def ask() -> str:
        await asyncio.sleep(0)
        return scope.namespace()

    with scope.entered(Scope("mine")):
        task = asyncio.create_task(ask())
    assert await task == "mine"
