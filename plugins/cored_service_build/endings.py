"""What is left to do of builds whose clients have heard all: directories to put back or remove."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Coroutine
from typing import Any

from cored import log

__all__ = ["Endings"]


class Endings:
    """Runs it; who wants one of those directories waits for that."""

    def __init__(self) -> None:
        self._running: dict[asyncio.Task[None], frozenset[str]] = {}

    def begin(self, keys: Collection[str], work: Coroutine[Any, Any, None]) -> None:
        """Do ``work``, which has the directories with these keys."""
        task = asyncio.create_task(work, name="end of a build")
        self._running[task] = frozenset(keys)
        task.add_done_callback(self._ended)

    async def wait(self, key: str | None = None) -> None:
        """Until nobody has the directory; None: until nothing is left to do."""
        tasks = [t for t, keys in self._running.items() if key is None or key in keys]
        if tasks:
            await asyncio.wait(tasks)

    def _ended(self, task: asyncio.Task[None]) -> None:
        del self._running[task]
        if not task.cancelled() and (error := task.exception()) is not None:
            log.get("build").error("files of a build that is over stay", error=str(error))
