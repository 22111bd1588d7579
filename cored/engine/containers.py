"""Containers from end to end: record, root filesystem, spec, task, log, and what became of them.

What docker's client calls a container is here a record with a snapshot of its own and, while it
runs, a task. Everything that is known of it is in the record, so that the next daemon knows it.
"""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from cored import log, scope
from cored.abc.records import Container, ContainerStore, Image, NamespaceStore
from cored.abc.runtime import Exit, Status, Stdio
from cored.abc.snapshots import Snapshotter
from cored.abc.values import Labels, Typed
from cored.engine import names
from cored.engine.images import Images
from cored.engine.networking import SHARED, Networking, exposed
from cored.engine.recipe import Borrowed, Recipe
from cored.engine.roots import Roots
from cored.engine.tasks import Tasks
from cored.engine.userns import IdRanges, ids_of, mapped
from cored.engine.workload import (
    NAME,
    ContainerConfig,
    ContainerState,
    ContainerView,
    decoded,
    encoded,
    with_state,
)
from cored.errors import (
    AlreadyExists,
    CoredError,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
)
from cored.oci.manifest import ImageConfig
from cored.oci.security import Host
from cored.oci.users import IdRange
from cored.oci.values import Platform
from cored.scope import Scope

__all__ = ["Containers"]

_SPEC = "types.containerd.io/opencontainers/runtime-spec/1/Spec"
_STOP_TIMEOUT = 10.0
# exit statuses of containers that were removed when they ended, for those who ask a moment later
_REMEMBERED = 1000
# also those that nothing can be said about, because their shim does not answer
_ALIVE = ("running", "paused", "unknown")
# where the image does not matter any more
_NO_IMAGE = ImageConfig(Platform(), ())


@dataclass(slots=True)
class _Life:
    """A container whose task runs, or is about to."""

    watcher: asyncio.Task[Exit]


class Containers:
    """Use as ``async with Containers.opened(...)``; closing leaves every container running."""

    def __init__(
        self,
        store: ContainerStore,
        namespaces: NamespaceStore,
        tasks: Tasks,
        images: Images,
        snapshotters: Mapping[str, Snapshotter],
        roots: Roots,
        networking: Networking,
        root: Path,
        host: Host,
    ) -> None:
        self._store = store
        self._namespaces = namespaces
        self._tasks = tasks
        self._images = images
        self._snapshotters = snapshotters
        self._root = root
        self._roots = roots
        self._host = host
        self.networking = networking
        self._ids = IdRanges(store, namespaces)
        self._lives: dict[tuple[str, str], _Life] = {}
        self._ended: OrderedDict[tuple[str, str], Exit] = OrderedDict()
        self._waiting: dict[tuple[str, str], list[asyncio.Future[Exit]]] = {}
        self._naming = asyncio.Lock()

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Containers]:
        """Look after the containers of earlier daemons, then after new ones."""
        for namespace in await self._namespaces.list():
            with scope.entered(Scope(namespace.name)):
                records = await self._store.list()
                await asyncio.gather(*(self._adopt(r) for r in records if NAME in r.labels))
        await self.networking.recover({id for _, id in self._lives})
        try:
            yield self
        finally:
            watchers = [life.watcher for life in self._lives.values()]
            for watcher in watchers:
                watcher.cancel()
            await asyncio.gather(*watchers, return_exceptions=True)

    async def create(self, config: ContainerConfig, fifos: Stdio) -> ContainerView:
        """Make a container and its task, not started; nothing stays of one that fails."""
        image = await self._images.resolve(config.image)
        unpacked = await self._images.unpacked(image, config.platform)
        chosen = await self._roots.ready(unpacked, config.snapshotter)
        async with self._ids.reserved(config.namespaces.user) as ids:
            self.networking.check(config)
            config = await self.networking.named(config)
            config = exposed(config, unpacked.config.exposed_ports)
            recipe = self._recipe(names.new_id(), config, unpacked.config, ids)
            recipe = replace(recipe, borrowed=await self._borrowed(config))
            await asyncio.to_thread(recipe.check)
            return await self._create(recipe, image, unpacked.chain_id, chosen, fifos)

    async def _create(
        self, recipe: Recipe, image: Image, chain_id: str, snapshotter: str, fifos: Stdio
    ) -> ContainerView:
        id, config = recipe.id, recipe.config
        record = Container(
            id=id,
            labels=dict(config.labels),
            image=image.name,
            runtime=config.runtime or "io.containerd.runc.v2",
            spec=Typed(_SPEC, b"{}"),
            snapshotter=snapshotter,
            snapshot_key=id,
            extensions=encoded(config, ContainerState()),
        )
        record = await self._named(record, config.name)
        try:
            await self._make(record, recipe, chain_id, fifos)
        except BaseException:
            await asyncio.shield(self._discard(record))
            raise
        return replace(await self.view(id), warnings=recipe.warnings)

    async def start(self, name: str, fifos: Stdio | None = None) -> int:
        """Start it and answer its pid; one that has ended gets a new task."""
        record = await self.find(name)
        key = (scope.namespace(), record.id)
        if key in self._lives:
            raise FailedPrecondition(f"container {name!r}: is running already")
        if fifos is not None:
            # a task that was created, not started, has the streams of then
            await self._end_task(record.id)
        if key not in self._tasks.known():
            config, _ = decoded(record)
            mounts = await self._snapshotters[record.snapshotter].mounts(record.id)
            mounts = mapped(mounts, ids_of(record))
            recipe = self._recipe(record.id, config, _NO_IMAGE)
            stdio = recipe.stdio(fifos or Stdio())
            await self._tasks.create(record.id, rootfs=mounts, stdio=stdio)
        try:
            await self._join(record)
            pid = await self._tasks.start(record.id)
        except CoredError as error:
            await self._failed(record, error)
            raise
        record = await self._put(record, ContainerState(started_at=time.time_ns()))
        self._watch(record)
        return pid

    async def wait(self, name: str) -> Exit:
        """How it ended, once it has (and has been removed, if it was to be)."""
        namespace = scope.namespace()
        try:
            record = await self.find(name)
        except NotFound:
            for (where, id), exit in reversed(self._ended.items()):
                if where == namespace and id == name:
                    return exit
            raise
        life = self._lives.get((namespace, record.id))
        if life is not None:
            return await asyncio.shield(life.watcher)
        _, state = decoded(record)
        if state.exited_at:
            return Exit(0, state.exit_status, state.exited_at)
        # created, not started: somebody may be about to
        end: asyncio.Future[Exit] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault((namespace, record.id), []).append(end)
        return await end

    async def kill(self, name: str, number: int, *, all: bool = False) -> None:
        """Send a signal. FailedPrecondition when it does not run."""
        record = await self.find(name)
        if (scope.namespace(), record.id) not in self._lives:
            raise FailedPrecondition(f"container {name!r}: is not running")
        await self._tasks.kill(record.id, number, all=all)

    async def stop(self, name: str, timeout: float = _STOP_TIMEOUT) -> None:
        """Its stop signal, then SIGKILL after so many seconds; fine when it does not run."""
        record = await self.find(name)
        life = self._lives.get((scope.namespace(), record.id))
        if life is None:
            return
        config, _ = decoded(record)
        wanted = config.stop_signal
        if not wanted:
            image = await self._images.unpacked(await self._images.resolve(record.image))
            wanted = image.config.stop_signal
        for number, patience in ((_signal(wanted), timeout), (signal.SIGKILL, 30.0)):
            with suppress(NotFound):  # it has just ended by itself
                await self._tasks.kill(record.id, number)
            done, _ = await asyncio.wait([life.watcher], timeout=patience)
            if done:
                return
        raise FailedPrecondition(f"container {name!r}: does not end, even by SIGKILL")

    async def remove(self, name: str, *, force: bool = False) -> None:
        """Remove it with all that belongs to it. FailedPrecondition while it runs."""
        record = await self.find(name)
        life = self._lives.get((scope.namespace(), record.id))
        if life is not None:
            if not force:
                raise FailedPrecondition(
                    f"container {name!r}: is running", hint="stop it first, or use --force"
                )
            with suppress(NotFound):
                await self._tasks.kill(record.id, signal.SIGKILL)
            await asyncio.wait([life.watcher])
        if await self._there(record.id):
            await self._discard(record)

    async def resize(self, name: str, width: int, height: int) -> None:
        """Set the size of its terminal."""
        record = await self.find(name)
        await self._tasks.resize(record.id, width, height)

    async def find(self, name: str) -> Container:
        """The record by name, id, or a unique beginning of the id. NotFound."""
        if not name:
            raise InvalidArgument("container: no name given")
        records = await self._store.list()
        for record in records:
            if name in (record.id, record.labels.get(NAME)):
                return record
        found = [record for record in records if record.id.startswith(name)]
        if len(found) > 1:
            raise InvalidArgument(f"container {name!r}: ambiguous, {len(found)} ids begin with it")
        if not found:
            raise NotFound(f"container {name!r}: not found", hint="see: corectl ps -a")
        return found[0]

    async def list(self, *, all: bool = False) -> list[ContainerView]:
        """Those that run, or all, the newest first."""
        records = await self._store.list()
        views = [await self._view(record) for record in records]
        views.sort(key=lambda view: view.record.created_at, reverse=True)
        return [view for view in views if all or view.status in _ALIVE]

    async def view(self, name: str) -> ContainerView:
        """One container."""
        return await self._view(await self.find(name))

    def log_path(self, record: Container) -> Path | None:
        """Where a container's output is kept, None for nowhere."""
        if decoded(record)[0].logging.driver == "none":
            return None
        return self._place(record.id) / "log.json"

    def running(self, id: str) -> bool:
        """Whether it runs (for logs that are followed)."""
        return (scope.namespace(), id) in self._lives

    async def _make(self, record: Container, recipe: Recipe, chain_id: str, fifos: Stdio) -> None:
        snapshotter = self._snapshotters[record.snapshotter]
        mounts, _ = await asyncio.gather(
            snapshotter.prepare(record.id, chain_id), asyncio.to_thread(recipe.prepare)
        )
        document = await asyncio.to_thread(lambda: recipe.spec(recipe.user(mounts)))
        spec = Typed(_SPEC, json.dumps(document).encode())
        await self._store.update(replace(record, spec=spec), ("spec",))
        try:
            rootfs = mapped(mounts, recipe.ids)
            await self._tasks.create(record.id, rootfs=rootfs, stdio=recipe.stdio(fifos))
        except CoredError as error:
            command = recipe.command[0]
            if command in error.message:
                raise
            # crun does not say which file it could not run
            raise type(error)(error.message, hint=f"the command is {command!r}") from error

    async def _join(self, record: Container) -> None:
        """Put a created container into its networks. CoredError, as they have it."""
        config, _ = decoded(record)
        task = self._tasks.known()[scope.namespace(), record.id]
        recipe = self._recipe(record.id, config, _NO_IMAGE)
        await self.networking.join(
            record.id, task.pid, record.labels[NAME], recipe.hostname, config, recipe.place
        )

    async def _borrowed(self, config: ContainerConfig) -> Borrowed | None:
        """What it has of the container whose network it shares. FailedPrecondition."""
        if not config.network.startswith(SHARED):
            return None
        other = await self.find(config.network.removeprefix(SHARED))
        theirs, _ = decoded(other)
        if theirs.network.startswith(SHARED):
            return await self._borrowed(theirs)
        task = self._tasks.known().get((scope.namespace(), other.id))
        if (scope.namespace(), other.id) not in self._lives or task is None:
            raise FailedPrecondition(
                f"network {config.network!r}: that container is not running",
                hint=f"start it: corectl start {other.labels.get(NAME, other.id)}",
            )
        recipe = self._recipe(other.id, theirs, _NO_IMAGE)
        place = self.networking.connections.place(other.id)
        netns = place if place.exists() else Path(f"/proc/{task.pid}/ns/net")
        return Borrowed(str(netns), recipe.place, recipe.hostname)

    async def _named(self, record: Container, name: str) -> Container:
        """Make the record under a name that nobody has. AlreadyExists."""
        async with self._naming:
            taken = {r.labels[NAME]: r.id for r in await self._store.list() if NAME in r.labels}
            if name and names.check(name) in taken:
                raise AlreadyExists(
                    f"container name {name!r}: taken by {taken[name][:12]}",
                    hint=f"remove that one with: corectl rm {name}",
                )
            while not name or name in taken:
                name = names.made_up()
            labels: Labels = {**record.labels, NAME: name}
            return await self._store.create(replace(record, labels=labels))

    def _watch(self, record: Container) -> None:
        key = (scope.namespace(), record.id)
        watcher = asyncio.create_task(self._ending(key, record), name=f"container {record.id}")
        self._lives[key] = _Life(watcher)

    async def _ending(self, key: tuple[str, str], record: Container) -> Exit:
        """Wait for the end; keep how it was, free the task, and remove it if it was to be."""
        scope.enter(Scope(key[0]))
        config, state = decoded(record)
        try:
            exit = await self._tasks.wait(record.id)
            self._ended[key] = exit
            while len(self._ended) > _REMEMBERED:
                self._ended.popitem(last=False)
            with suppress(NotFound):  # a containerd client has deleted the task itself
                await self._tasks.delete(record.id)
            await self.networking.leave(record.id)
            if config.auto_remove:
                await self._discard(record)
            else:
                ended = replace(state, exited_at=exit.exited_at, exit_status=exit.status)
                with suppress(NotFound):  # or the whole container
                    # its networks may have been changed meanwhile
                    await self._put(await self._store.get(record.id), ended)
        except CoredError as error:
            log.get("containers").error("after the end", id=record.id, error=str(error))
            raise
        finally:
            self._lives.pop(key, None)
        self._settle(key, exit)
        return exit

    def _settle(self, key: tuple[str, str], exit: Exit) -> None:
        """Tell those who waited since before the start."""
        for end in self._waiting.pop(key, ()):
            if not end.done():
                end.set_result(exit)

    async def _failed(self, record: Container, error: CoredError) -> None:
        """It could not be started: keep why, as the record says it, and free the task."""
        with suppress(CoredError):
            await self._tasks.kill(record.id, signal.SIGKILL)
        with suppress(CoredError):
            await self._tasks.delete(record.id)
        await self.networking.leave(record.id)
        config, _ = decoded(record)
        failed = ContainerState(exited_at=time.time_ns(), exit_status=128, error=error.message)
        if config.auto_remove:
            await self._discard(record)
        else:
            await self._put(record, failed)
        key = (scope.namespace(), record.id)
        self._settle(key, Exit(0, failed.exit_status, failed.exited_at))

    async def _adopt(self, record: Container) -> None:
        """A container of an earlier daemon."""
        config, state = decoded(record)
        known = (scope.namespace(), record.id) in self._tasks.known()
        if known and (await self._tasks.state(record.id)).status is not Status.CREATED:
            self._watch(record)
        elif state.started_at and not state.exited_at:
            gone = replace(
                state, exited_at=time.time_ns(), exit_status=137, error="ended with the machine"
            )
            await self._put(record, gone)
            if config.auto_remove:
                await self._discard(record)
        elif config.auto_remove and not state.started_at:
            await self._discard(record)

    async def _discard(self, record: Container) -> None:
        """Remove all that belongs to a container, as far as it is there."""
        key = (scope.namespace(), record.id)
        await self._end_task(record.id)
        await self.networking.leave(record.id)
        with suppress(NotFound):
            await self._snapshotters[record.snapshotter].remove(record.snapshot_key)
        with suppress(NotFound):
            await self._store.delete(record.id)
        recipe = self._recipe(record.id, decoded(record)[0], _NO_IMAGE)
        await asyncio.to_thread(recipe.discard)
        if key not in self._ended:
            for end in self._waiting.pop(key, ()):
                if not end.done():
                    end.set_exception(NotFound(f"container {record.id!r}: was removed"))

    async def _end_task(self, id: str) -> None:
        """Kill and delete its task, if it has one."""
        if (scope.namespace(), id) in self._tasks.known():
            with suppress(NotFound):
                await self._tasks.kill(id, signal.SIGKILL)
            with suppress(NotFound):
                await self._tasks.wait(id)
                await self._tasks.delete(id)

    async def _there(self, id: str) -> bool:
        try:
            await self._store.get(id)
        except NotFound:
            return False
        return True

    async def _put(self, record: Container, state: ContainerState) -> Container:
        return await self._store.update(with_state(record, state), ("extensions",))

    async def _view(self, record: Container) -> ContainerView:
        config, state = decoded(record)
        status, pid = "stopped" if state.exited_at else "created", 0
        if (scope.namespace(), record.id) in self._tasks.known():
            with suppress(NotFound):
                found = await self._tasks.state(record.id)
                status, pid = str(found.status), found.pid
        command: tuple[str, ...] = ()
        if record.spec is not None:
            command = tuple(json.loads(record.spec.value).get("process", {}).get("args", ()))
        joined = tuple(self.networking.of(record.id))
        return ContainerView(record, config, state, command, status, pid, connections=joined)

    def _recipe(
        self, id: str, config: ContainerConfig, image: ImageConfig, ids: IdRange | None = None
    ) -> Recipe:
        return Recipe(id, config, image, self._place(id), self._host, ids)

    def _place(self, id: str) -> Path:
        return self._root / scope.namespace() / id


def _signal(text: str) -> int:
    """SIGTERM, TERM or 15; '' is SIGTERM."""
    if not text:
        return signal.SIGTERM
    if text.isdecimal():
        return int(text)
    name = text.upper() if text.upper().startswith("SIG") else f"SIG{text.upper()}"
    try:
        return signal.Signals[name]
    except KeyError as error:
        raise InvalidArgument(f"signal {text!r}: unknown") from error
