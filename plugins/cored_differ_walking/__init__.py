"""The differ ``walking``: layers by workers, straight into the directories behind mounts."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from cored.abc.content import ContentStore
from cored.abc.differ import Differ
from cored.hookspecs import PluginContext, Provider, hookimpl

__all__ = ["cored_differ"]


@asynccontextmanager
async def _opened(context: PluginContext) -> AsyncIterator[Differ]:
    from cored.archive.pool import WorkerPool
    from cored_differ_walking.differ import WalkingDiffer

    content = context.require(ContentStore)  # type: ignore[type-abstract]
    yield WalkingDiffer(content, context.require(WorkerPool), context.state)


@hookimpl
def cored_differ() -> Provider[Differ]:
    return Provider("walking", _opened)
