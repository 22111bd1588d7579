"""Garbage collection as a property: nothing reachable is lost, everything else is freed.

Random histories of requests, races, restarts and crashes run against the real metadata store over
the real content store and snapshotter; a model (:mod:`collection_model`) says what must be there.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sqlite3
import sys
import tempfile
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

import pytest
from cored_content_local import LocalContentStore
from cored_snapshotter_native import CopyDriver
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from cored import log, scope
from cored.abc.content import read_blob
from cored.abc.records import Container, Image, Lease, Resource, Sandbox
from cored.abc.snapshots import Snapshotter
from cored.abc.values import Descriptor, Typed
from cored.config import GcConfig
from cored.engine.events import Exchange
from cored.errors import CoredError
from cored.layered import LayeredSnapshotter
from cored.metadata.store import Metadata
from cored.scope import Scope
from tests.conformance.collection_model import DIGESTS, PAYLOADS, Model, Op, cut_short, outcomes
from tests.conformance.collection_requests import delicate, request, rivals

# a real disk would be waited for a hundred thousand times; what is durable when is not asked here
_FAST = Path("/dev/shm")
_QUIET = GcConfig(startup_delay=3600, deletion_threshold=0, mutation_threshold=0)
_NAMESPACES = ("one", "two")

# the real store


@asynccontextmanager
async def opened(root: Path) -> AsyncIterator[tuple[Metadata, Snapshotter]]:
    content = await asyncio.to_thread(LocalContentStore, root / "content")
    async with LayeredSnapshotter.opened(CopyDriver(), root / "native") as native:
        async with Metadata.opened(root, Exchange(), content, {"native": native}, _QUIET) as store:
            yield store, native


async def perform(store: Metadata, op: Op) -> None:
    """Do it; a refusal is an answer like another."""
    scope.enter(Scope(op.namespace, op.lease))
    try:
        await _perform(store, op)
    except CoredError as error:
        if error.code == "INTERNAL":
            raise


async def _perform(store: Metadata, op: Op) -> None:
    snapshots = store.snapshotters["native"]
    match op.what, op.arguments:
        case "begin", (ref, payload, expected):
            wanted = DIGESTS[payload] if expected else ""
            async with await store.content.writer(ref, expected=wanted) as writer:
                await writer.truncate(0)
                await writer.write(PAYLOADS[payload])
        case "finish", (ref, given):
            async with await store.content.writer(ref) as writer:
                if writer.status.offset:
                    await writer.commit(0, "", given)
                    return
            await store.content.abort(ref)
        case "abort", (ref,):
            await store.content.abort(ref)
        case "delete blob", (digest,):
            await store.content.delete(digest)
        case "relabel", ("blobs", digest, given):
            await store.content.update(digest, given, replace=True)
        case "relabel", ("snapshots", key, given):
            await snapshots.update(key, given, replace=True)
        case "relabel", ("containers", id, given):
            await store.containers.update(Container(id, given), ["labels"])
        case "prepare" | "view", (key, parent, given):
            await getattr(snapshots, op.what)(key, parent, given)
        case "commit", (name, key, given):
            await snapshots.commit(name, key, given)
        case "remove", (key,):
            await snapshots.remove(key)
        case "create image" | "update image", (name, digest, given):
            record = Image(name, Descriptor("type", digest, 1), given)
            await (store.images.create if op.what[0] == "c" else store.images.update)(record)
        case "create container", (id, key, given):
            spec = Typed("spec", b"{}")
            record = Container(id, given, "", "runc", None, spec, "native", key)
            await store.containers.create(record)
        case "create sandbox", (id, given):
            await store.sandboxes.create(Sandbox(id, labels=given))
        case "create lease", (id, given):
            await store.leases.create(Lease(id, given))
        case "delete image" | "delete container" | "delete lease" | "delete sandbox", (name,):
            plural = {"delete sandbox": "sandboxes"}.get(op.what, op.what.split()[1] + "s")
            await getattr(store, plural).delete(name)
        case "add", (lease, kind, id):
            await store.leases.add(lease, Resource(id, kind))
        case "discard", (lease, kind, id):
            await store.leases.discard(lease, Resource(id, kind))
        case "collect", ():
            await store.gc.collect()
        case _:
            raise AssertionError(op)


async def seen(store: Metadata, root: Path) -> dict[str, Any]:
    """What clients can see, and the files of blobs, as :meth:`Model.seen` has it."""
    found: dict[str, Any] = {name: {} for name in Model().seen()}
    for ns in _NAMESPACES:
        scope.enter(Scope(ns))
        async for info in store.content.walk():
            found["blobs"][ns, info.digest] = info.labels
        async for status in store.content.ingests():
            found["ingests"][ns, status.ref] = status.offset
        async for s in store.snapshotters["native"].walk():
            found["snapshots"][ns, s.name] = (str(s.kind), s.parent, s.labels)
        for image in await store.images.list():
            found["images"][ns, image.name] = (image.target.digest, image.labels)
        for container in await store.containers.list():
            found["containers"][ns, container.id] = (container.snapshot_key, container.labels)
        for sandbox in await store.sandboxes.list():
            found["sandboxes"][ns, sandbox.id] = sandbox.labels
        for lease in await store.leases.list():
            found["leases"][ns, lease.id] = lease.labels
            for held in await store.leases.resources(lease.id):
                found["resources"][ns, lease.id, held.type, held.id] = None
    for path in (root / "content/blobs/sha256").iterdir():
        found["files"]["sha256:" + path.name] = None
    return found


async def check_backends(store: Metadata, native: Snapshotter, root: Path) -> None:
    """After a collection: what is listed can be read and used, and there is nothing else."""
    rows = 0
    for ns in _NAMESPACES:
        scope.enter(Scope(ns))
        async for info in store.content.walk():
            data = await read_blob(store.content, info.digest)
            assert DIGESTS[data[0] - 65] == info.digest
            assert PAYLOADS[data[0] - 65] == data
        async for snapshot in store.snapshotters["native"].walk():
            rows += 1
            if str(snapshot.kind) != "committed":
                for mount in await store.snapshotters["native"].mounts(snapshot.name):
                    assert Path(mount.source).is_dir()
    await native.cleanup()
    assert len(list((root / "native/snapshots").iterdir())) == rows


# crashes


def crash(root: Path, todo: Sequence[Op], at: int) -> int:
    """Run ``todo`` in a fork that is killed at its ``at``-th call of a function, wherever that is,
    or after the last operation; answer how many were done.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            asyncio.run(_doomed(root, todo, at, writer))
        finally:
            os._exit(1)
    os.close(writer)
    with open(reader, "rb") as done:
        acknowledged = len(done.read())
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status), "the fork failed by itself"
    return acknowledged


async def _doomed(root: Path, todo: Sequence[Op], at: int, writer: int) -> None:
    left = at
    armed = False

    def count(frame: object, event: str, argument: object) -> None:
        nonlocal left
        if armed and event in ("call", "c_call"):
            left -= 1
            if left <= 0:
                os.kill(os.getpid(), signal.SIGKILL)

    threading.setprofile(count)  # SQLite's writers begin when the store is opened
    sys.setprofile(count)
    async with opened(root) as (store, _):
        armed = True
        for op in todo:
            await asyncio.create_task(perform(store, op))
            os.write(writer, b".")
        os.kill(os.getpid(), signal.SIGKILL)


class Store:
    """The real store beside the model; ``possible`` has every state that it may be in.

    There is more than one after races and crashes; looking at the store says which it was.
    """

    def __init__(self, runner: asyncio.Runner) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="gc-", dir=_FAST if _FAST.is_dir() else None))
        self.possible = [Model()]
        self.history: list[str] = []
        self.runner = runner
        self.open()

    def open(self) -> None:
        async def enter() -> None:
            self.stack = AsyncExitStack()
            self.store, self.native = await self.stack.enter_async_context(opened(self.root))

        self.runner.run(enter())

    def close(self) -> None:
        self.runner.run(self.stack.aclose())

    def look(self) -> None:
        found = self.runner.run(seen(self.store, self.root))
        possible = [model for model in self.possible if model.seen() == found]
        assert possible, "\n".join([*self.history, self.difference(found)])
        self.possible = possible

    def difference(self, found: dict[str, Any]) -> str:
        models = [model.seen() for model in self.possible]
        nearest = min(models, key=lambda model: sum(model[name] != found[name] for name in found))
        lines = [
            f"{name}: should be {nearest[name]}, is {found[name]}"
            for name in found
            if nearest[name] != found[name]
        ]
        return "\n".join([f"none of {len(models)} states fits; the nearest:", *lines])

    def do(self, *todo: Op) -> None:
        """Run requests, several at the same time."""

        async def together() -> None:
            await asyncio.gather(*(perform(self.store, op) for op in todo))

        self.history.append(" || ".join(map(str, todo)))
        self.runner.run(together())
        possible = [after for model in self.possible for after in outcomes(model, todo)]
        if len(todo) > 1:
            possible += self.aborted(todo)
        self.possible = possible
        if len(possible) > 1 or todo[0].what == "collect":
            self.look()

    def aborted(self, todo: Sequence[Op]) -> list[Model]:
        """When a collection was about to abort what is being taken up again: all but the note."""
        possible = []
        for number, op in enumerate(todo):
            if op.what in ("begin", "finish"):
                given = op.arguments if op.what == "begin" else (op.arguments[0], 0, False)
                noted = Op("note", op.namespace, op.lease, given)
                others = [*todo[:number], noted, *todo[number + 1 :]]
                possible += [after for model in self.possible for after in outcomes(model, others)]
        return possible

    def collect(self) -> None:
        self.do(Op("collect"))
        self.runner.run(check_backends(self.store, self.native, self.root))

    def restart(self, *, aged: bool) -> None:
        self.history.append("restart after a day" if aged else "restart")
        self.close()
        if aged:
            with sqlite3.connect(self.root / "metadata.db") as connection:
                connection.execute("UPDATE ingests SET expires_at = 1")
            connection.close()
            for model in self.possible:
                model.noted = dict.fromkeys(model.noted, False)
        self.open()
        self.look()

    def crash(self, todo: Sequence[Op], at: int) -> None:
        self.close()
        done = crash(self.root, todo, at)
        self.history.append(f"crash after {done} (call {at}) of " + "; ".join(map(str, todo)))
        self.open()
        for op in todo[:done]:
            self.possible = [after for model in self.possible for after in outcomes(model, [op])]
        if done < len(todo):
            self.possible = [
                after for model in self.possible for after in cut_short(model, todo[done])
            ]
        self.possible = [model.crashed() for model in self.possible]
        self.look()

    def step(self, random: Random) -> None:
        """Let something happen."""
        dice = random.random()
        some = [request(random, self.possible[0]) for _ in range(2)]
        if dice < 0.8:
            self.do(some[0])
        elif dice < 0.88:
            self.collect()
        elif dice < 0.95:
            both = rivals(random, self.possible[0]) if random.random() < 0.4 else some
            todo = random.choice([both, [both[0], Op("collect")], [*both, Op("collect")]])
            refs = [op.arguments[0] for op in todo if op.what in ("begin", "finish", "abort")]
            if len(refs) == len(set(refs)):
                # of two writers one comes too late, and which it is does not matter here
                self.do(*todo)
        elif dice < 0.96:
            self.restart(aged=random.random() < 0.5)
        else:
            some[random.randrange(2)] = delicate(random, self.possible[0])
            self.crash(some, random.randrange(1, 900))

    def end(self) -> None:
        self.close()
        shutil.rmtree(self.root)


@pytest.mark.root
@settings(
    max_examples=int(os.environ.get("CORED_GC_EXAMPLES", "100")),
    derandomize=True,
    deadline=None,
    database=None,
    phases=[Phase.generate],  # a failure's message has the history
    suppress_health_check=list(HealthCheck),
)
@given(st.lists(st.integers(0, 2**32 - 1), min_size=60, max_size=80))
def test_random_histories_lose_nothing_and_leave_nothing(history: list[int]) -> None:
    log.configure("error")
    with asyncio.Runner() as runner:
        store = Store(runner)
        try:
            for seed in history:
                store.step(Random(seed))
            store.collect()
        finally:
            store.end()


@pytest.fixture
def store() -> Iterator[Store]:
    log.configure("error")
    with asyncio.Runner() as runner:
        store = Store(runner)
        yield store
        store.end()


@pytest.mark.root
def test_a_commit_is_whole_wherever_a_crash_comes(store: Store) -> None:
    """The snapshot is there, under its old name or its new one, and stays held."""
    store.do(Op("create lease", arguments=("l0", {})))
    mended = 0
    for number, at in enumerate(range(200, 700, 20)):
        key, name = f"key{number}", f"name{number}"
        store.do(Op("prepare", lease="l0", arguments=(key, "", {})))
        store.crash([Op("commit", lease="l0", arguments=(name, key, {"a": "b"}))], at)
        before = dict(store.possible[0].snapshots)
        store.collect()
        after = store.possible[0].snapshots
        assert len(after) == number + 1
        mended += after != before
    assert mended, "no crash came between the snapshotter and the metadata"


@pytest.mark.root
def test_of_two_requests_for_a_snapshot_one_comes_first(store: Store) -> None:
    for number in range(40):
        rivals = [
            Op("remove", arguments=("k0",)),
            Op("commit", arguments=("k2", "k0", {})),
            Op("prepare", arguments=("k1", "", {})),
        ]
        store.do(Op("prepare", arguments=("k0", "", {"containerd.io/gc.root": "1"})))
        store.do(Op("commit", arguments=("k1", "k0", {})), rivals[number % 3])
        store.collect()
        for key in ("k0", "k1", "k2"):
            store.do(Op("remove", arguments=(key,)))
        store.look()


@pytest.mark.root
def test_a_condition_keeps_what_was_used_not_long_ago(store: Store) -> None:
    label = "containerd.io/gc.cond.snapshot.native"
    condition = {f"{label}/a": "usedat<24h|k0", f"{label}/b": "usedat<24h,nonsense|k1"}
    store.do(Op("create image", arguments=("i0", next(iter(DIGESTS.values())), condition)))
    for key, used in (("k0", "2099-01-01T00:00:00Z"), ("k1", "2001-01-01T00:00:00Z")):
        labels = {"containerd.io/gc.cond.value-usedat": used}
        store.do(Op("prepare", arguments=(key, "", labels)))
    store.collect()
    assert list(store.possible[0].snapshots) == [("one", "k0")]
