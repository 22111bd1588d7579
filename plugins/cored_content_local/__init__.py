"""The content store ``local``: blobs and ingests as files below one directory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from cored.abc.content import ContentStore
from cored.hookspecs import PluginContext, Provider, hookimpl
from cored_content_local.store import LocalContentStore

__all__ = ["LocalContentStore", "cored_content_store"]


@asynccontextmanager
async def _opened(context: PluginContext) -> AsyncIterator[ContentStore]:
    yield await asyncio.to_thread(LocalContentStore, context.root)


@hookimpl
def cored_content_store() -> Provider[ContentStore]:
    return Provider("local", _opened)
