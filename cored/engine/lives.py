"""Who waits for containers to end: those that run, those that ended lately, those to come."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Coroutine
from weakref import WeakValueDictionary

from cored.abc.runtime import Exit
from cored.errors import NotFound

__all__ = ["Key", "Lives"]

Key = tuple[str, str]
"""Namespace and id."""

# exit statuses of containers that were removed when they ended, for those who ask a moment later
_REMEMBERED = 1000


class Lives:
    """A *life* is from a start to its end; between two of them a container may await a restart."""

    def __init__(self) -> None:
        self._watchers: dict[Key, asyncio.Task[Exit]] = {}
        self._restarts: dict[Key, asyncio.Task[None]] = {}
        self._begun: set[asyncio.Task[None]] = set()
        self._ended: OrderedDict[Key, Exit] = OrderedDict()
        self._waiting: dict[Key, list[asyncio.Future[Exit]]] = {}
        self._gates: WeakValueDictionary[Key, asyncio.Lock] = WeakValueDictionary()
        self._pens: WeakValueDictionary[Key, asyncio.Lock] = WeakValueDictionary()

    def gate(self, key: Key) -> asyncio.Lock:
        """Held by who starts, stops or removes a container."""
        return _lock(self._gates, key)

    def pen(self, key: Key) -> asyncio.Lock:
        """Held for a moment by who changes the state in a container's record."""
        return _lock(self._pens, key)

    def __contains__(self, key: Key) -> bool:
        return key in self._watchers

    async def begun(self, key: Key) -> bool:
        """Whether it lives, once a start that is under way is over: its output came before that."""
        if key not in self:
            async with self.gate(key):
                pass
        return key in self

    def ids(self) -> set[str]:
        """Of all that live."""
        return {id for _, id in self._watchers}

    def begin(self, key: Key, ending: Coroutine[object, object, Exit]) -> None:
        """A container has started; ``ending`` waits for its end and does what is then to do."""
        self._watchers[key] = asyncio.create_task(ending, name=f"container {key[1]}")

    def over(self, key: Key) -> None:
        """It lives no longer."""
        self._watchers.pop(key, None)

    def watcher(self, key: Key) -> asyncio.Task[Exit] | None:
        """Whose result is the end of this life."""
        return self._watchers.get(key)

    def remember(self, key: Key, exit: Exit) -> None:
        """Keep how it ended for those who come late."""
        self._ended[key] = exit
        while len(self._ended) > _REMEMBERED:
            self._ended.popitem(last=False)

    def remembered(self, namespace: str, id: str) -> Exit | None:
        """How one ended that is gone."""
        return self._ended.get((namespace, id))

    async def next_end(self, key: Key) -> Exit:
        """The end of a life that has not begun."""
        end: asyncio.Future[Exit] = asyncio.get_running_loop().create_future()
        waiting = self._waiting.setdefault(key, [])
        waiting.append(end)
        try:
            return await end
        finally:
            # who went away is not waited for
            if end in waiting:
                waiting.remove(end)
            if not waiting and self._waiting.get(key) is waiting:
                del self._waiting[key]

    def settle(self, key: Key, exit: Exit) -> None:
        """Tell those who waited since before the start."""
        for end in self._waiting.pop(key, ()):
            if not end.done():
                end.set_result(exit)

    def gone(self, key: Key) -> None:
        """It was removed: those who waited for a start get none."""
        if key not in self._ended:
            for end in self._waiting.pop(key, ()):
                if not end.done():
                    end.set_exception(NotFound(f"container {key[1]!r}: was removed"))

    def restart_later(self, key: Key, start: Coroutine[object, object, None]) -> None:
        """``start`` waits, and starts it again."""
        task = asyncio.create_task(start, name=f"restart {key[1]}")
        self._restarts[key] = task
        task.add_done_callback(lambda done: self._restarted(key, done))

    def restart_begins(self, key: Key) -> None:
        """It waits no longer: it cannot be given up any more, only waited for (:meth:`gate`)."""
        task = self._restarts.pop(key, None)
        if task is not None:
            self._begun.add(task)
            task.add_done_callback(self._begun.discard)

    def restarting(self, key: Key) -> bool:
        """Whether it awaits a restart."""
        return key in self._restarts

    def no_restart(self, key: Key) -> bool:
        """Give up a restart that is awaited; whether one was."""
        task = self._restarts.pop(key, None)
        if task is not None and task is not asyncio.current_task():
            task.cancel()
        return task is not None

    def _restarted(self, key: Key, task: asyncio.Task[None]) -> None:
        if self._restarts.get(key) is task:
            del self._restarts[key]

    async def close(self) -> None:
        """Stop waiting; containers live on."""
        tasks = [*self._restarts.values(), *self._begun, *self._watchers.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _lock(locks: WeakValueDictionary[Key, asyncio.Lock], key: Key) -> asyncio.Lock:
    lock = locks.get(key)
    if lock is None:
        lock = locks[key] = asyncio.Lock()
    return lock
