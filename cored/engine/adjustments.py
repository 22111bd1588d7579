"""Changes to containers that exist: their name, their limits, whether they go on."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import fields, replace

from cored.abc.records import Container, ContainerStore
from cored.abc.values import Typed
from cored.engine import devices, names, restarts
from cored.engine.containers import Containers
from cored.engine.tasks import Tasks
from cored.engine.workload import (
    CONFIG,
    NAME,
    ContainerView,
    RestartPolicy,
    decoded,
    with_config,
)
from cored.errors import AlreadyExists, CoredError, FailedPrecondition, InvalidArgument
from cored.moments import moment
from cored.oci.resources import Resources, document, fit

__all__ = ["Adjustments"]

# the kernel has no more than this
_MOST_PIDS = 1 << 22
_RESOURCES = "types.containerd.io/opencontainers/runtime-spec/1/Resources"


class Adjustments:
    """Of the namespace of the current scope; names as :meth:`Containers.find` takes them."""

    def __init__(self, containers: Containers, store: ContainerStore, tasks: Tasks) -> None:
        self._containers = containers
        self._store = store
        self._tasks = tasks

    async def pause(self, name: str) -> None:
        """Freeze it. FailedPrecondition when it does not run."""
        await self._tasks.pause((await self._living(name)).id)

    async def unpause(self, name: str) -> None:
        """Let it go on. FailedPrecondition when it is not paused."""
        record = await self._living(name)
        if (await self._containers.view(record.id)).status != "paused":
            raise FailedPrecondition(f"container {name!r}: is not paused")
        await self._tasks.resume(record.id)

    async def rename(self, name: str, new: str) -> None:
        """Give it another name. AlreadyExists."""
        record = await self._containers.find(name)
        new = names.check(new.removeprefix("/"))
        async with self._containers.naming:
            for other in await self._store.list():
                if other.labels.get(NAME) == new:
                    raise AlreadyExists(f"container name {new!r}: taken by {other.id[:12]}")
            old = record.labels.get(NAME, "")
            labels = {**record.labels, NAME: new}
            await self._store.update(replace(record, labels=labels), (f"labels.{NAME}",))
        await self._containers.networking.rename(record.id, new)
        await self._containers.tell(replace(record, labels=labels), "rename", oldName=f"/{old}")

    async def update(self, name: str, limits: Resources, restart: RestartPolicy | None) -> None:
        """Change limits (0 and '' are no change) and restart policy, at once when it runs."""
        record = await self._containers.find(name)
        config, _ = decoded(record)
        if restart is not None:
            restarts.check(restart, auto_remove=config.auto_remove)
        resources = _merged(config.resources, limits)
        wanted = None
        if resources != config.resources:
            throttled = await asyncio.to_thread(devices.throttled, resources.throttles)
            host = self._containers.host
            wanted = document(resources, throttled, swap=host.swap)
            fit(resources, host.cpus, host.memory_nodes)
            if self._containers.running(record.id):
                # not to be said at all is no limit for a new container, and no change for this
                lifted = {"pids": {"limit": _MOST_PIDS}} if resources.pids_limit < 0 else {}
                value = Typed(_RESOURCES, json.dumps({**wanted, **lifted}).encode())
                await self._tasks.update(record.id, value, {})
        # what it is now: it may have ended meanwhile, or have been put into a network
        record = await self._store.get(record.id)
        config = replace(decoded(record)[0], resources=resources)
        if restart is not None:
            config = replace(config, restart=restart)
        paths = [f"extensions.{CONFIG}"]
        if wanted is not None:
            record, paths = _with_limits(record, wanted), [*paths, "spec"]
        await self._store.update(with_config(record, config), paths)
        await self._containers.tell(record, "update")

    async def prune(self, filters: Sequence[str]) -> tuple[list[str], int]:
        """Remove those that do not run and pass; their ids, and the bytes that they had."""
        passes = _prunable(filters)
        removed, freed = [], 0
        for view in await self._containers.list(all=True):
            if view.status not in ("created", "stopped") or not passes(view):
                continue
            freed += await self._containers.written(view.record)
            try:
                await self._containers.remove(view.record.id)
            except CoredError:
                continue  # it was started or removed just now
            removed.append(view.record.id)
        return removed, freed

    async def _living(self, name: str) -> Container:
        record = await self._containers.find(name)
        if not self._containers.running(record.id):
            raise FailedPrecondition(f"container {name!r}: is not running")
        return record


def _merged(before: Resources, change: Resources) -> Resources:
    """What is said goes over what was; quota and number of CPUs replace each other."""
    said = {
        one.name: value
        for one in fields(Resources)
        if (value := getattr(change, one.name)) not in (0, "", None, False, (), {})
    }
    if "nano_cpus" in said:
        before = replace(before, cpu_quota=0, cpu_period=0)
    elif said.keys() & {"cpu_quota", "cpu_period"}:
        before = replace(before, nano_cpus=0)
    if "memory_limit" in said and "memory_swap" not in said:
        least = said["memory_limit"]
        if 0 < before.memory_swap < least:
            raise InvalidArgument(
                "memory limit: is above the one of memory and swap", hint="raise --memory-swap, too"
            )
    return replace(before, **said)


def _with_limits(record: Container, wanted: dict[str, object]) -> Container:
    if record.spec is None:
        return record
    spec = json.loads(record.spec.value)
    kept = spec["linux"].get("resources", {}).get("devices", [])
    spec["linux"]["resources"] = {"devices": kept, **wanted}
    return replace(record, spec=Typed(record.spec.type_url, json.dumps(spec).encode()))


def _prunable(filters: Sequence[str]) -> Callable[[ContainerView], bool]:
    """docker's ``until=``, ``label=`` and ``label!=``. InvalidArgument."""
    tests: list[Callable[[ContainerView], bool]] = []
    for text in filters:
        key, equals, value = text.partition("=")
        name, _, wanted = value.partition("=")
        if not equals or key not in ("until", "label", "label!"):
            raise InvalidArgument(f"filter {text!r}: unknown", hint="until=, label=, label!=")
        if key == "until":
            limit = moment(value)
            tests.append(lambda view, limit=limit: view.record.created_at < limit)  # type: ignore[misc]
        else:
            there = key == "label"

            def fits(
                view: ContainerView, name: str = name, wanted: str = wanted, there: bool = there
            ) -> bool:
                found = view.record.labels.get(name)
                return (found is not None and (not wanted or found == wanted)) == there

            tests.append(fits)
    return lambda view: all(test(view) for test in tests)
