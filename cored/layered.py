"""A full snapshotter from a driver that only knows directories.

:class:`LayeredSnapshotter` keeps the tree of keys in ``<root>/snapshots.db`` and one directory
``<root>/snapshots/<id>`` for each snapshot. A row is written when its directory is ready, and goes
before its directory does: so a directory without a row is garbage, whatever happened, and is
removed when the snapshotter opens and at every :meth:`~LayeredSnapshotter.cleanup`.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import field, replace
from pathlib import Path
from typing import Any, TypeVar

from cored import log, scope
from cored.abc.snapshots import Kind, Snapshot, Snapshotter, Usage
from cored.abc.values import NO_LABELS, Labels, Mount
from cored.database import Database
from cored.dataclass import dataclass
from cored.errors import FailedPrecondition, Unimplemented, from_os_error
from cored.filters import parse
from cored.keytree import SCHEMA, KeyTree, Node
from cored.trees import disk_usage, remove_tree

__all__ = ["Layer", "LayerDriver", "LayeredSnapshotter", "disk_usage"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Layer:
    """A snapshot as a driver sees it; ``parents`` are directories, the nearest first."""

    directory: Path
    kind: Kind
    parents: tuple[Path, ...] = ()
    labels: Labels = field(default_factory=dict)


class LayerDriver(ABC):
    """What is special about a kind of snapshot.

    Threads call ``prepare``, ``commit``, ``usage`` and ``remove``, so these may block; an OSError
    out of them becomes the fitting cored error with the snapshot's name.
    """

    rebase: bool = False
    """Whether a layer that was made without a parent may get one at its commit."""

    @abstractmethod
    def prepare(self, layer: Layer) -> None:
        """Fill ``layer.directory``, which is there and empty. On an error all of it is removed."""

    @abstractmethod
    def mounts(self, layer: Layer) -> list[Mount]:
        """The mounts that show a view or an active layer. Called on the event loop."""

    def commit(self, layer: Layer) -> None:
        """The layer is about to become committed. On an error it stays active."""
        return

    def usage(self, layer: Layer) -> Usage:
        """What the layer itself takes on the disk."""
        return disk_usage(layer.directory)

    def check(self, layer: Layer) -> Sequence[str]:
        """What is wrong with what is in ``layer.directory``, which is there."""
        return ()

    def remove(self, directory: Path) -> None:
        """Delete a layer's directory, also one that was never finished."""
        remove_tree(directory)

    def labels(self, directory: Path) -> Labels:
        """Labels to show beside the stored ones. Called on the event loop."""
        return NO_LABELS


class LayeredSnapshotter(Snapshotter):
    """Snapshots of one driver below one directory; open it with :meth:`opened`.

    A caller that is cancelled in the middle of a prepare or view leaves a whole snapshot or none.
    """

    def __init__(
        self, driver: LayerDriver, root: Path, tree: KeyTree, *, async_remove: bool = False
    ) -> None:
        self.exports: Mapping[str, str] = {"root": str(root)}
        self.capabilities = frozenset({"rebase"} if driver.rebase else ())
        self._driver = driver
        self._tree = tree
        self._directories = root / "snapshots"
        self._async_remove = async_remove
        self._last = max([tree.last_id(), *map(_number, self._listed())])
        self._making: set[int] = set()
        self._running: set[asyncio.Task[Any]] = set()
        self._garbage: asyncio.Queue[Path] = asyncio.Queue()
        self._log = log.get("snapshots").bind(root=str(root))

    @classmethod
    @asynccontextmanager
    async def opened(
        cls, driver: LayerDriver, root: Path, *, async_remove: bool = False
    ) -> AsyncIterator[LayeredSnapshotter]:
        """Open the snapshots below ``root``; directories that a crash left are removed meanwhile.

        With ``async_remove`` disk is freed by :meth:`cleanup` only, not soon after a removal.
        """
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        (root / "snapshots").mkdir(mode=0o700, exist_ok=True)
        async with Database.opened(root / "snapshots.db", SCHEMA) as database:
            self = cls(driver, root, KeyTree(database), async_remove=async_remove)
            self._discard_unowned(self._listed())
            sweeper = asyncio.create_task(self._sweep(), name=f"snapshots:{root.name}")
            try:
                yield self
            finally:
                await asyncio.gather(*self._running, return_exceptions=True)
                sweeper.cancel()
                await asyncio.gather(sweeper, return_exceptions=True)

    async def stat(self, key: str) -> Snapshot:
        return self._shown(self._tree.find(key))

    async def update(
        self, key: str, labels: Mapping[str, str | None], *, replace: bool = False
    ) -> Snapshot:
        return self._shown(await self._tree.relabel(key, labels, replace))

    async def usage(self, key: str) -> Usage:
        node = self._tree.find(key)
        if node.usage is not None:
            return node.usage
        if node.snapshot.kind is Kind.VIEW:
            return Usage(0, 0)
        layer = self._layer(node)
        usage = await self._blocking(key, lambda: self._driver.usage(layer))
        if node.snapshot.kind is Kind.COMMITTED:
            # measured when somebody asks for the first time: a commit needs no walk of the tree
            await self._tree.measured(node.id, usage)
        return usage

    async def mounts(self, key: str) -> list[Mount]:
        node = self._tree.find(key)
        if node.snapshot.kind is Kind.COMMITTED:
            raise FailedPrecondition(
                f"snapshot {key!r}: is committed", hint="mount a view of it instead"
            )
        return self._driver.mounts(self._layer(node))

    async def prepare(self, key: str, parent: str = "", labels: Labels = NO_LABELS) -> list[Mount]:
        return await self._create(Kind.ACTIVE, key, parent, labels)

    async def view(self, key: str, parent: str = "", labels: Labels = NO_LABELS) -> list[Mount]:
        return await self._create(Kind.VIEW, key, parent, labels)

    async def commit(
        self, name: str, key: str, labels: Labels = NO_LABELS, *, parent: str | None = None
    ) -> None:
        self._tree.check_commit(name, key, parent)
        node = self._tree.find(key)
        if parent and not node.snapshot.parent and not self._driver.rebase:
            raise Unimplemented(f"snapshot {key!r}: this snapshotter cannot rebase at commit")
        if type(self._driver).commit is not LayerDriver.commit:
            layer = self._layer(node)
            await self._blocking(key, lambda: self._driver.commit(layer))
        await self._tree.commit(name, key, labels, parent)

    async def remove(self, key: str) -> None:
        number = await self._tree.delete(key)
        if not self._async_remove:
            self._garbage.put_nowait(self._directory(number))

    async def walk(self, filters: Sequence[str] = ()) -> AsyncIterator[Snapshot]:
        matches = parse(filters).match
        for node in self._tree.all():
            snapshot = self._shown(node)
            if matches(_fields(snapshot)):
                yield snapshot

    async def check(self, key: str) -> Sequence[str]:
        layer = self._layer(self._tree.find(key))
        if not await self._blocking(key, layer.directory.is_dir):
            return (f"{layer.directory} is missing",)
        return await self._blocking(key, lambda: self._driver.check(layer))

    async def leftovers(self) -> Sequence[str]:
        await self._garbage.join()
        names = await asyncio.to_thread(self._listed)
        return [str(self._directories / name) for name in self._unowned(names)]

    async def cleanup(self) -> None:
        await self._garbage.join()
        self._discard_unowned(await asyncio.to_thread(self._listed))
        await self._garbage.join()

    async def _create(self, kind: Kind, key: str, parent: str, labels: Labels) -> list[Mount]:
        self._tree.check_insert(key, parent)
        self._last += 1
        layer = Layer(self._directory(self._last), kind, self._above(parent), dict(labels))
        # shielded: a thread that is filling the directory cannot be stopped when the caller leaves
        return await self._to_the_end(self._make(self._last, layer, key, parent))

    async def _make(self, number: int, layer: Layer, key: str, parent: str) -> list[Mount]:
        def fill() -> None:
            layer.directory.mkdir(mode=0o700)
            self._driver.prepare(layer)

        self._making.add(number)
        try:
            await self._blocking(key, fill)
            # durable with the row: the directory's journal entry is older than the row's fsync;
            # what goes with the request, or is committed before its end, needs neither
            lasting = not scope.passing()
            await self._tree.insert(number, key, layer.kind, parent, layer.labels, durable=lasting)
        except BaseException:
            self._garbage.put_nowait(layer.directory)
            raise
        finally:
            self._making.discard(number)
        return self._driver.mounts(layer)

    async def _to_the_end(self, work: Coroutine[Any, Any, T]) -> T:
        task = asyncio.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._ended)
        return await asyncio.shield(task)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._log.debug("snapshot not made", error=str(error))

    async def _sweep(self) -> None:
        """Remove directories as they come; what resists is tried again by :meth:`cleanup`."""
        while True:
            directory = await self._garbage.get()
            removing = asyncio.ensure_future(asyncio.to_thread(self._driver.remove, directory))
            try:
                await asyncio.shield(removing)
            except asyncio.CancelledError:
                await asyncio.wait([removing])  # nothing works on the files after the end
                raise
            except FileNotFoundError:
                self._log.debug("directory is gone already", path=str(directory))
            except Exception as error:  # one driver's mistake must not end all removals
                self._log.warning("directory not removed", path=str(directory), error=repr(error))
            finally:
                self._garbage.task_done()

    def _listed(self) -> list[str]:
        return [path.name for path in self._directories.iterdir()]

    def _discard_unowned(self, names: Sequence[str]) -> None:
        """Have those of ``names`` removed that neither a row nor a running prepare owns."""
        for name in self._unowned(names):
            self._garbage.put_nowait(self._directories / name)

    def _unowned(self, names: Sequence[str]) -> list[str]:
        """Those of ``names`` that neither a row nor a running prepare owns.

        The names were listed before the rows are read here: what became a snapshot in between
        has its row by now.
        """
        owned = self._tree.ids() | self._making
        return [name for name in names if _number(name) not in owned]

    async def _blocking(self, key: str, work: Callable[[], T]) -> T:
        try:
            return await asyncio.to_thread(work)
        except OSError as error:
            raise from_os_error(f"snapshot {key!r}", error) from error

    def _shown(self, node: Node) -> Snapshot:
        extra = self._driver.labels(self._directory(node.id))
        if not extra:
            return node.snapshot
        return replace(node.snapshot, labels={**node.snapshot.labels, **extra})

    def _layer(self, node: Node) -> Layer:
        snapshot = node.snapshot
        return Layer(
            self._directory(node.id), snapshot.kind, self._above(snapshot.parent), snapshot.labels
        )

    def _above(self, parent: str) -> tuple[Path, ...]:
        return tuple(map(self._directory, self._tree.ancestors(parent))) if parent else ()

    def _directory(self, number: int) -> Path:
        return self._directories / str(number)


def _number(name: str) -> int:
    """The id that a directory's name stands for; 0, which is nobody's, for other names."""
    return int(name) if name.isascii() and name.isdecimal() else 0


def _fields(snapshot: Snapshot) -> Callable[[tuple[str, ...]], str | None]:
    """What filters can ask of a snapshot: name, parent, kind, labels."""

    def value(path: tuple[str, ...]) -> str | None:
        match path:
            case ("name",):
                return snapshot.name
            case ("parent",):
                return snapshot.parent
            case ("kind",):
                return str(snapshot.kind)
            case ("labels", *rest):
                return snapshot.labels.get(".".join(rest))
            case _:
                return None

    return value
