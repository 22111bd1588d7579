"""Containers from end to end: record, root filesystem, spec, task, log, and what became of them.

What docker's client calls a container is here a record with a snapshot of its own and, while it
runs, a task. Everything that is known of it is in the record, so that the next daemon knows it.
"""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, replace
from pathlib import Path

from cored import scope
from cored.abc.events import Action, EventBus
from cored.abc.records import Container, ContainerStore, Image, NamespaceStore
from cored.abc.runtime import Exit, Status, Stdio
from cored.abc.snapshots import Snapshotter
from cored.abc.values import Labels, Mount, Typed
from cored.engine import health, links, names, restarts
from cored.engine.execs import Execs
from cored.engine.gather import whole
from cored.engine.health import HealthChecks
from cored.engine.images import Images, Unpacked
from cored.engine.lives import Key, Lives
from cored.engine.logdrivers import LogDrivers
from cored.engine.networking import Networking, exposed
from cored.engine.recipe import Recipe, joinable
from cored.engine.roots import Roots
from cored.engine.sharing import Sharing
from cored.engine.storage import Storage
from cored.engine.supervision import SPEC, Supervision
from cored.engine.tasks import Tasks
from cored.engine.userns import IdRanges, mapped
from cored.engine.views import ALIVE, Views
from cored.engine.volumes import Catalog
from cored.engine.why import Diagnosis
from cored.engine.workload import (
    NAME,
    ContainerConfig,
    ContainerState,
    ContainerView,
    HealthCheck,
    decoded,
    encoded,
)
from cored.errors import AlreadyExists, CoredError, FailedPrecondition, NotFound
from cored.oci import platforms
from cored.oci.manifest import ImageConfig
from cored.oci.security import Host
from cored.oci.signals import number as signal_number
from cored.oci.users import IdRange
from cored.oci.values import Platform
from cored.scope import Scope

__all__ = ["Containers"]

_STOP_TIMEOUT = 10.0
# where the image does not matter any more
_NO_IMAGE = ImageConfig(Platform(), ())


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
        volumes: Catalog,
        bus: EventBus,
        root: Path,
        host: Host,
        logs: LogDrivers,
    ) -> None:
        self._store = store
        self._namespaces = namespaces
        self._tasks = tasks
        self._images = images
        self._snapshotters = snapshotters
        self._root = root
        self._roots = roots
        self.host = host
        self._bus = bus
        self.networking = networking
        self.logs = logs
        self._ids = IdRanges(store, namespaces)
        self._lives = Lives()
        self.naming = asyncio.Lock()
        self.execs = Execs(tasks, host)
        self.health = HealthChecks(self.execs, bus)
        self.storage = Storage(volumes, store, self.running)
        self.views = Views(
            store, tasks, networking, self._lives, self.execs, self.health, self.storage
        )
        self.diagnosis = Diagnosis(self.views, images, networking, logs, self._place, self.rootfs)
        self._supervision = Supervision(
            store, tasks, snapshotters, networking, self.storage, self.health, self._lives, bus,
            lambda id, config: self._recipe(id, config, _NO_IMAGE), self._discard, logs,
            self.diagnosis,
        )  # fmt: skip
        self._sharing = Sharing(
            self.find,
            self._supervision.pid,
            networking.connections.place,
            self._place,
            lambda id, config: self._recipe(id, config, _NO_IMAGE).hostname,
        )
        self._supervision.share(self._sharing)

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Containers]:
        """Look after the containers of earlier daemons, then after new ones."""
        await asyncio.to_thread(self.storage.volumes.sweep)
        noticing = asyncio.create_task(
            self._supervision.notice_oom(), name="containers out of memory"
        )
        for namespace in await self._namespaces.list():
            with scope.entered(Scope(namespace.name)):
                records = await self._store.list()
                await asyncio.gather(
                    *(self._supervision.adopt(r) for r in records if NAME in r.labels)
                )
        await self.networking.recover(self._lives.ids())
        self._supervision.restart_due()
        try:
            yield self
        finally:
            noticing.cancel()
            await self.health.close()
            await self._supervision.settled()
            await self._lives.close()
            await self.execs.close()
            await asyncio.gather(noticing, return_exceptions=True)

    async def create(self, config: ContainerConfig, fifos: Stdio) -> ContainerView:
        """Make a container and its task, not started; nothing stays of one that fails."""
        image = await self._images.resolve(config.image)
        unpacked = await self._images.unpacked(image, config.platform)
        _of_platform(config, unpacked.config)
        chosen = await self._roots.ready(unpacked, config.snapshotter)
        async with self._ids.reserved(config.namespaces.user) as ids:
            config = replace(config, logging=self.logs.settled(config.logging))
            self.networking.check(config)
            await links.check(config, self.find)
            config = await self.networking.named(config)
            config = _completed(exposed(config, unpacked.config.exposed_ports), unpacked.config)
            recipe = self._recipe(names.new_id(), config, unpacked.config, ids)
            recipe = replace(recipe, borrowed=await self._sharing.borrowed(config))
            await asyncio.to_thread(recipe.check)
            volumes = unpacked.config.volumes
            recipe = replace(recipe, config=await self.storage.settled(config, volumes, self.find))
            try:
                return await self._create(recipe, image, unpacked, chosen, fifos)
            except BaseException:
                await asyncio.shield(self.storage.release(recipe.config, recipe.id))
                raise

    async def _create(
        self, recipe: Recipe, image: Image, unpacked: Unpacked, snapshotter: str, fifos: Stdio
    ) -> ContainerView:
        id, config = recipe.id, recipe.config
        record = Container(
            id=id,
            labels=dict(config.labels),
            image=image.name,
            runtime=config.runtime or "io.containerd.runc.v2",
            spec=Typed(SPEC, b"{}"),
            snapshotter=snapshotter,
            snapshot_key=id,
            extensions=encoded(config, ContainerState(), unpacked.config_digest),
        )
        try:
            record = await self._named(record, config.name)
        except asyncio.CancelledError:
            await asyncio.shield(self._discard(record))
            raise
        try:
            await self._make(record, recipe, unpacked.chain_id, fifos)
        except BaseException as error:
            if isinstance(error, CoredError):
                await self.diagnosis.remember_failure(await self._store.get(id), error)
            await asyncio.shield(self._discard(record))
            raise
        return replace(await self.view(id), warnings=recipe.warnings)

    async def start(self, name: str, fifos: Stdio | None = None) -> int:
        """Start it and answer its pid; one that has ended gets a new task."""
        record = await self.find(name)
        # whole or not at all: who asked may be cut off, and nobody would mind what runs
        return await whole(self._start(record, name, fifos))

    async def _start(self, record: Container, name: str, fifos: Stdio | None) -> int:
        key = (scope.namespace(), record.id)
        self._lives.no_restart(key)
        async with self._lives.gate(key):
            if key in self._lives:
                raise FailedPrecondition(f"container {name!r}: is running already")
            self._supervision.forget(key)
            return await self._supervision.start(await self._store.get(record.id), fifos)

    async def restart(self, name: str, timeout: float | None = None, signal: str = "") -> None:
        """Stop it, if it runs, and start it."""
        record = await self.find(name)
        await self.stop(name, timeout, signal)
        await self.start(record.id)
        await self.tell(record, "restart")

    async def wait(self, name: str) -> Exit:
        """How it ended, once it has (and has been removed, if it was to be)."""
        namespace = scope.namespace()
        try:
            record = await self.find(name)
        except NotFound:
            exit = self._lives.remembered(namespace, name)
            if exit is not None:
                return exit
            raise
        key = (namespace, record.id)
        watcher = self._lives.watcher(key)
        if watcher is not None:
            return await asyncio.shield(watcher)
        _, state = decoded(record)
        if state.exited_at and not self._lives.restarting(key):
            return Exit(0, state.exit_status, state.exited_at)
        # created, not started: somebody may be about to
        return await self._lives.next_end(key)

    async def kill(self, name: str, number: int, *, all: bool = False) -> None:
        """Send a signal. FailedPrecondition when it does not run."""
        record = await self.find(name)
        if not await self._lives.begun((scope.namespace(), record.id)):
            raise FailedPrecondition(f"container {name!r}: is not running")
        config, _ = decoded(record)
        if number in (signal.SIGKILL, signal_number(config.stop_signal)):
            await self._supervision.stopped_by_hand(record)
        self._supervision.asked(record.id, f"was sent {_signal_name(number)} by somebody")
        await self._tasks.kill(record.id, number, all=all)
        await self.tell(record, "kill", signal=str(number))

    async def stop(self, name: str, timeout: float | None = None, wanted: str = "") -> None:
        """Its stop signal, then SIGKILL after so many seconds; fine when it does not run."""
        record = await self.find(name)
        key = (scope.namespace(), record.id)
        config, _ = decoded(record)
        number = signal_number(wanted or config.stop_signal)
        if timeout is None:
            timeout = _STOP_TIMEOUT if config.stop_timeout is None else config.stop_timeout
        waited = self._lives.no_restart(key)
        async with self._lives.gate(key):
            await self._supervision.stopped_by_hand(record)
            watcher = self._lives.watcher(key)
        if watcher is None:
            if waited:
                await self._supervision.put_off(record.id)
            return
        await self._thaw(record.id)
        asked = f"was stopped by somebody with {_signal_name(number)}"
        self._supervision.asked(record.id, asked, timeout + 10)
        for signal_sent, patience in ((number, timeout), (signal.SIGKILL, 30.0)):
            if signal_sent == signal.SIGKILL != number:
                more = f", and {timeout:g} s later with SIGKILL, for it had not ended"
                self._supervision.asked(record.id, asked + more, 60)
            with suppress(NotFound):  # it has just ended by itself
                await self._tasks.kill(record.id, signal_sent)
            done, _ = await asyncio.wait([watcher], timeout=patience)
            if done:
                if self._lives.no_restart(key):  # it had ended by itself, and was to come again
                    await self._supervision.put_off(record.id)
                await self.tell(record, "stop")
                return
        raise FailedPrecondition(f"container {name!r}: does not end, even by SIGKILL")

    async def remove(self, name: str, *, force: bool = False, volumes: bool = False) -> None:
        """Remove it with all that belongs to it. FailedPrecondition while it runs.

        ``volumes``: its anonymous ones, too.
        """
        record = await self.find(name)
        key = (scope.namespace(), record.id)
        if not force:
            self._check_idle(key, name)
        # whole or not at all: who asked may be cut off between one thing of it and the next
        await whole(self._remove(record, name, force, volumes))

    def _check_idle(self, key: Key, name: str) -> None:
        if key in self._lives or self._lives.restarting(key):
            raise FailedPrecondition(
                f"container {name!r}: is running", hint="stop it first, or use --force"
            )

    async def _remove(self, record: Container, name: str, force: bool, volumes: bool) -> None:
        key = (scope.namespace(), record.id)
        if force:
            self._lives.no_restart(key)
        async with self._lives.gate(key):
            if not force:
                self._check_idle(key, name)  # somebody may have started it meanwhile
            watcher = self._lives.watcher(key)
            if watcher is not None:
                await self._supervision.stopped_by_hand(record)
                await self._thaw(record.id)
                with suppress(NotFound):
                    await self._tasks.kill(record.id, signal.SIGKILL)
                await asyncio.wait([watcher])
            if await self._there(record.id):
                await self._discard(record, volumes=volumes)

    async def resize(self, name: str, width: int, height: int) -> None:
        """Set the size of its terminal."""
        record = await self.find(name)
        await self._tasks.resize(record.id, width, height)

    async def find(self, name: str) -> Container:
        """The record by name, id, or a unique beginning of the id. NotFound."""
        return await self.views.find(name)

    async def list(self, *, all: bool = False) -> list[ContainerView]:
        """Those that run, or all, the newest first."""
        return [view for view in await self.views.all() if all or view.status in ALIVE]

    async def view(self, name: str) -> ContainerView:
        """One container."""
        return await self.views.view(await self.find(name))

    def log_path(self, record: Container) -> Path | None:
        """Where a container's output is kept, None for nowhere."""
        return self.logs.file(record, self._place(record.id))

    def running(self, id: str) -> bool:
        """Whether it runs (for logs that are followed)."""
        return (scope.namespace(), id) in self._lives

    def place(self, id: str) -> Path:
        """Its directory among ours."""
        return self._place(id)

    async def written(self, record: Container) -> int:
        """Bytes that it has written, as far as its snapshotter knows."""
        with suppress(NotFound):
            return (await self._snapshotters[record.snapshotter].usage(record.snapshot_key)).size
        return 0

    async def image_size(self, record: Container) -> int:
        """Bytes of the layers below it."""
        total = 0
        with suppress(NotFound):
            snapshotter = self._snapshotters[record.snapshotter]
            key = (await snapshotter.stat(record.snapshot_key)).parent
            while key:
                total += (await snapshotter.usage(key)).size
                key = (await snapshotter.stat(key)).parent
        return total

    async def rootfs(self, record: Container) -> Sequence[Mount]:
        """What its root filesystem is mounted from."""
        return await self._snapshotters[record.snapshotter].mounts(record.snapshot_key)

    async def attachable(self, name: str) -> tuple[Container, Stdio]:
        """The FIFOs that its streams can be joined with. FailedPrecondition."""
        record = await self.find(name)
        if not self.running(record.id):
            raise FailedPrecondition(f"container {name!r}: is not running")
        state = await self._tasks.state(record.id)
        if state.status is Status.PAUSED:
            raise FailedPrecondition(f"container {name!r}: is paused", hint="unpause it first")
        return record, joinable(state.stdio)

    async def join(self, name: str, stdout: str, stderr: str) -> None:
        """Copy what it writes from now on to FIFOs that somebody reads. FailedPrecondition."""
        record, _ = await self.attachable(name)
        await self._tasks.join(record.id, stdout, stderr)
        await self.tell(record, "attach")

    async def tell(self, record: Container, action: str, **more: str) -> None:
        """Publish what containerd has no event for."""
        attributes = {"image": record.image, "name": record.labels.get(NAME, ""), **more}
        await self._bus.publish(Action("container", action, record.id, attributes))

    async def _make(self, record: Container, recipe: Recipe, chain_id: str, fifos: Stdio) -> None:
        snapshotter = self._snapshotters[record.snapshotter]
        mounts, _ = await asyncio.gather(
            snapshotter.prepare(record.id, chain_id), asyncio.to_thread(recipe.prepare)
        )
        binds = await self.storage.binds(recipe.config, recipe.place)
        await self.storage.fill(recipe.config, mounts, recipe.place)
        recipe = replace(recipe, binds=tuple(binds))
        document = await asyncio.to_thread(lambda: recipe.spec(recipe.user(mounts)))
        spec = Typed(SPEC, json.dumps(document).encode())
        record = await self._store.update(replace(record, spec=spec), ("spec",))
        fifos = fifos if fifos.stdin or fifos.stdout or fifos.stderr else recipe.fifos
        stdio = self.logs.stdio(record, recipe.place, fifos)
        try:
            rootfs = mapped(mounts, recipe.ids)
            async with self.storage.parts(recipe.config, recipe.place):
                await self._tasks.create(record.id, rootfs=rootfs, stdio=stdio)
        except CoredError as error:
            command = recipe.command[0]
            explained = await self.diagnosis.explained(record, error)
            ours = not explained.message.startswith("OCI runtime")
            if not ours and explained.hint is None and command not in explained.message:
                # crun does not say which file it could not run
                hint = f"the command is {command!r}"
                explained = type(error)(error.message, hint=hint)
            raise explained from error

    async def _named(self, record: Container, name: str) -> Container:
        """Make the record under a name that nobody has. AlreadyExists."""
        async with self.naming:
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

    async def _discard(self, record: Container, *, volumes: bool = False) -> None:
        """Remove all that belongs to a container, as far as it is there."""
        key = (scope.namespace(), record.id)
        config, _ = decoded(record)
        self._lives.no_restart(key)
        self._supervision.forget(key)
        await self._supervision.end_task(record.id)
        await self.networking.leave(record.id)
        with suppress(NotFound):
            await self._snapshotters[record.snapshotter].remove(record.snapshot_key)
        await asyncio.to_thread(self._recipe(record.id, config, _NO_IMAGE).discard)
        if volumes:
            await self.storage.release(config, record.id)
        self.health.forget(record.id)
        # last: while it is there, somebody can try again
        with suppress(NotFound):
            await self._store.delete(record.id)
        self._lives.gone(key)

    async def _there(self, id: str) -> bool:
        try:
            await self._store.get(id)
        except NotFound:
            return False
        return True

    async def _thaw(self, id: str) -> None:
        """What is frozen takes no signal."""
        with suppress(NotFound, FailedPrecondition):  # it has just ended, or gone on
            if (await self._tasks.state(id)).status is Status.PAUSED:
                await self._tasks.resume(id)

    def _recipe(
        self, id: str, config: ContainerConfig, image: ImageConfig, ids: IdRange | None = None
    ) -> Recipe:
        return Recipe(id, config, image, self._place(id), self.host, ids)

    def _place(self, id: str) -> Path:
        return self._root / scope.namespace() / id


def _of_platform(config: ContainerConfig, image: ImageConfig) -> None:
    """NotFound where an image of one platform alone is not the one that was asked for."""
    if not config.platform or not image.platform.architecture:
        return
    wanted = platforms.parse(config.platform)
    if platforms.rank(wanted, image.platform) is None:
        raise NotFound(
            f"image {config.image!r}: is for {platforms.format(image.platform)}, "
            f"not for {platforms.format(wanted)}"
        )


def _completed(config: ContainerConfig, image: ImageConfig) -> ContainerConfig:
    """With what the image says of its end, its health and its ports. InvalidArgument."""
    restarts.check(config.restart, auto_remove=config.auto_remove)
    health.check(config.health)
    signal_number(config.stop_signal)
    theirs = HealthCheck(**asdict(image.health)) if image.health else None
    return replace(
        config,
        stop_signal=config.stop_signal or image.stop_signal,
        exposed=tuple(dict.fromkeys((*config.exposed, *image.exposed_ports))),
        health=health.merged(config.health, theirs),
    )


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
