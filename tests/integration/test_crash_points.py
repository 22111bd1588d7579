"""The daemon is killed at every step of a pull: the store stays sound, the next pull goes on."""

from __future__ import annotations

import json
import random
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from cored._pb.containerd.services.content.v1 import content_pb2
from cored._pb.containerd.services.leases.v1 import leases_pb2
from cored._pb.containerd.services.snapshots.v1 import snapshots_pb2
from cored._pb.cored.garbage.v1 import garbage_pb2
from cored._pb.cored.stores.v1 import stores_pb2
from cored._pb.cored.workloads.v1 import workloads_pb2
from cored.client.channel import Channel
from cored.errors import CoredError
from tests import daemons, images
from tests.daemons import Daemon
from tests.patience import eventually
from tests.plain_registry import PlainRegistry, plain_registry

pytestmark = pytest.mark.root

NOISE = random.Random(5)
IMAGE = images.make(
    [
        images.layer({"etc": None, "etc/gone": b"1", "data": NOISE.randbytes(2_000_000)}),
        images.layer({"etc/.wh.gone": b"", "etc/new": NOISE.randbytes(100_000)}),
    ]
)
LAYERS = {layer["digest"] for layer in IMAGE.layers}
_NEVER = 1 << 30


class Api:
    """What the tests ask a daemon, by cored's own client."""

    def __init__(self, daemon: Daemon) -> None:
        self._channel = Channel(str(daemon.address), namespace="default")

    def close(self) -> None:
        self._channel.close()

    def pull(self, reference: str) -> None:
        request = workloads_pb2.PullRequest(reference=reference)
        answers = self._stream("cored.workloads.v1.Workloads/Pull", request,
                               workloads_pb2.TransferProgress)  # fmt: skip
        assert any(answer.HasField("image") for answer in answers)

    def check(self) -> Any:
        """The summary of a check that found no damage."""
        events = self._stream("cored.stores.v1.Stores/Check", stores_pb2.CheckRequest(),
                              stores_pb2.CheckEvent)  # fmt: skip
        *rest, last = events
        damaged = [str(event.damage) for event in rest if event.HasField("damage")]
        assert damaged == []
        return last.summary

    def collect(self) -> None:
        self._channel.unary("/cored.garbage.v1.Garbage/Collect", garbage_pb2.CollectRequest(),
                            garbage_pb2.CollectResponse)  # fmt: skip

    def blobs(self) -> set[str]:
        pages = self._stream(
            "containerd.services.content.v1.Content/List",
            content_pb2.ListContentRequest(), content_pb2.ListContentResponse,
        )  # fmt: skip
        return {info.digest for page in pages for info in page.info}

    def ingests(self) -> dict[str, int]:
        """How far the half-fetched layers are, by digest."""
        answer = self._channel.unary(
            "/containerd.services.content.v1.Content/ListStatuses",
            content_pb2.ListStatusesRequest(), content_pb2.ListStatusesResponse,
        )  # fmt: skip
        return {s.ref.removeprefix("layer-"): s.offset for s in answer.statuses}

    def snapshots(self) -> list[str]:
        pages = self._stream("containerd.services.snapshots.v1.Snapshots/List",
                             snapshots_pb2.ListSnapshotsRequest(),
                             snapshots_pb2.ListSnapshotsResponse)  # fmt: skip
        return [info.name for page in pages for info in page.info]

    def leases(self) -> list[str]:
        answer = self._channel.unary("/containerd.services.leases.v1.Leases/List",
                                     leases_pb2.ListRequest(), leases_pb2.ListResponse)  # fmt: skip
        return [lease.id for lease in answer.leases]

    def _stream(self, method: str, request: Any, answer: Any) -> list[Any]:
        return list(self._channel.stream(f"/{method}", [request], answer))


@contextmanager
def asked(daemon: Daemon) -> Iterator[Api]:
    api = Api(daemon)
    try:
        yield api
    finally:
        api.close()


@contextmanager
def crashing() -> Iterator[Daemon]:
    """A daemon that dies where :func:`die_at` says."""
    with daemons.cored(module="tests.crashing", start=False) as daemon:
        daemon.environment |= {
            "CRASH_AT": str(daemon.home / "last"),
            "CRASH_LOG": str(daemon.home / "steps"),
        }
        die_at(daemon, _NEVER)
        daemon.start()
        try:
            yield daemon
        finally:
            if daemon.process is not None and daemon.process.poll() is None:
                daemon.kill()


def die_at(daemon: Daemon, step: int) -> None:
    """Have its next pull end at a step; the next daemon's pulls are not concerned."""
    (daemon.home / "last").write_text(str(step))


def steps(daemon: Daemon) -> list[str]:
    return (daemon.home / "steps").read_text().splitlines()


def whole(api: Api) -> None:
    """All of the image is there, and nothing else."""
    api.collect()
    summary = api.check()
    assert list(summary.leftovers) == []
    assert (api.blobs(), api.ingests(), api.leases()) == (set(IMAGE.blobs), {}, [])
    assert (len(api.snapshots()), summary.contents) == (2, 2)


def killed(daemon: Daemon, api: Api, registry: PlainRegistry, step: int) -> bool:
    """Pull until a step; False when the pull ended before it came to that."""
    die_at(daemon, step)
    try:
        api.pull(registry.reference("app"))
    except (CoredError, OSError):
        assert daemon.process is not None
        assert daemon.process.wait(60) == -signal.SIGKILL
        return True
    finally:
        die_at(daemon, _NEVER)
    return False


def crashed_and_resumed(points: Sequence[int]) -> list[str]:
    """For each step: die there, check, pull again, and throw all away; the names of the steps."""
    reached = []
    with plain_registry(IMAGE) as registry, crashing() as daemon:
        for step in points:
            with asked(daemon) as api:
                dead = killed(daemon, api, registry, step)
            if dead:
                reached.append(steps(daemon)[-1])
                came, begun = on_disk(daemon)
                daemon.start()
            with asked(daemon) as api:
                if dead:
                    api.collect()
                    api.check()
                    known = api.blobs()
                    registry.requests.clear()
                    api.pull(registry.reference("app"))
                    _went_on(registry, known, came & LAYERS, begun)
                whole(api)
                daemon.ctr("images", "rm", registry.reference("app"))
                nothing(api)
    return reached


def nothing(api: Api) -> None:
    """Nothing is left."""
    api.collect()
    assert (api.blobs(), api.ingests(), api.snapshots(), api.leases()) == (set(), {}, [], [])
    assert list(api.check().leftovers) == []


def on_disk(daemon: Daemon) -> tuple[set[str], dict[str, int]]:
    """The blobs that came whole, and how many bytes of others, by digest."""
    store = daemon.home / "root/content_store.local"
    begun = {}
    for meta in store.glob("ingest/*/meta.json"):
        data = meta.with_name("data")
        if data.exists():  # it has just become a blob
            begun[json.loads(meta.read_text())["expected"]] = data.stat().st_size
    return {f"sha256:{path.name}" for path in store.glob("blobs/sha256/*")}, begun


def _went_on(
    registry: PlainRegistry, known: set[str], came: set[str], begun: dict[str, int]
) -> None:
    """What had come before was not fetched again: of a layer, not a byte."""
    starts: dict[str, list[int]] = {}
    for digest, start in registry.requests:
        assert digest not in known | came
        if digest in LAYERS:  # a config is fetched in one go
            starts.setdefault(digest, []).append(start)
    for digest, where in starts.items():
        # a worker may have gone on for a moment; a connection that is slow gets others beside it,
        # for what is further on
        assert min(where) >= begun.get(digest, 0)
        assert len(where) == len(set(where))


@pytest.mark.slow
def test_a_pull_survives_a_crash_at_every_step() -> None:
    with plain_registry(IMAGE) as registry, crashing() as daemon:
        with asked(daemon) as api:
            api.pull(registry.reference("app"))
            whole(api)
        names = steps(daemon)
    pulled = next(n for n, name in enumerate(names, 1) if name.endswith(" pulled"))
    assert pulled > 25, names
    with ThreadPoolExecutor(2) as pool:
        points = range(1, pulled + 1)
        found = pool.map(crashed_and_resumed, [points[::2], points[1::2]])
        reached = [name for names in found for name in names]
    # several writes may share a commit, so that one run has a few steps more than another
    assert len(reached) > pulled - 8
    kinds = {name.split()[1] for name in reached}
    assert kinds >= {"_commit", "rename", "replace", "mkdir", "job"}


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except FileNotFoundError:  # it is a blob by now
        return 0


def test_half_a_layer_is_not_fetched_again() -> None:
    with plain_registry(IMAGE) as registry, crashing() as daemon:
        process = daemon.process
        assert process is not None
        large = IMAGE.layers[0]["digest"]

        def die(digest: str) -> None:
            if digest != large:
                registry.half_way = die  # not yet
                return
            place = daemon.home / "root/content_store.local/ingest"
            size = len(IMAGE.blobs[large])
            eventually(lambda: any(_size(file) >= size // 4 for file in place.glob("*/data")))
            process.kill()
            process.wait()
            raise ConnectionAbortedError("its workers get no more")

        registry.half_way = die
        with asked(daemon) as api, pytest.raises((CoredError, OSError)):
            api.pull(registry.reference("app"))
        assert process.wait(60) == -signal.SIGKILL
        daemon.start()
        with asked(daemon) as api:
            api.check()
            offset = api.ingests()[large]
            assert offset >= len(IMAGE.blobs[large]) // 4
            registry.requests.clear()
            api.pull(registry.reference("app"))
            again = [start for digest, start in registry.requests if digest == large]
            assert again == ([offset] if offset < len(IMAGE.blobs[large]) else [])
            whole(api)


def test_what_came_for_a_pull_that_nobody_repeats_goes_with_its_lease() -> None:
    with plain_registry(IMAGE) as registry, crashing() as daemon:
        with asked(daemon) as api:
            assert killed(daemon, api, registry, 30)
        daemon.start()
        with asked(daemon) as api:
            (lease,) = api.leases()
            daemon.ctr("leases", "rm", lease)
            nothing(api)
