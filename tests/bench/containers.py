"""Containers beside containerd's: whole lives, what many that are idle cost, and a restart."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

from google.protobuf.any_pb2 import Any as AnyMessage

from cored._pb.containerd.runc.v1 import oci_pb2
from cored._pb.containerd.services.snapshots.v1 import snapshots_pb2
from cored._pb.containerd.services.tasks.v1 import tasks_pb2
from cored._pb.containerd.v1.types import task_pb2
from tests.bench.compare import Row
from tests.bench.load import Connection
from tests.daemons import Daemon

__all__ = ["cycle", "idle", "restart"]

_IMAGE = "docker.io/library/busybox:latest"
_TASKS = "/containerd.services.tasks.v1.Tasks"
# cycles that each of so many at a time goes through in a round
_CYCLES = {1: 10, 8: 5, 16: 3}
_SETTLED = 30.0


def cycle(ours: Daemon, peer: Daemon, rounds: int, runtimes: Sequence[str]) -> list[Row]:
    """Create, start, wait and delete of a task that does nothing, through the API.

    Both daemons are asked for the same OCI runtime, in the same words: runc's options.
    """
    return [row for runtime in runtimes for row in _cycles(ours, peer, rounds, runtime)]


def _cycles(ours: Daemon, peer: Daemon, rounds: int, runtime: str) -> list[Row]:
    most = max(_CYCLES)
    names = [f"cycle{number}" for number in range(most)]
    taken: dict[tuple[int, int], list[list[float]]] = {}
    speeds: dict[int, list[float]] = {id(ours): [], id(peer): []}
    with ExitStack() as stack:
        lives = {}
        for daemon in (ours, peer):
            for name in names:
                daemon.ctr("containers", "create", _IMAGE, name, "true")
                stack.callback(daemon.ctr, "containers", "rm", name)
            lives[id(daemon)] = [
                stack.enter_context(_life(daemon, name, runtime)) for name in names
            ]
        for number in range(rounds + 1):
            for daemon in (ours, peer) if number % 2 else (peer, ours):
                for at_a_time, each in _CYCLES.items():
                    start = time.perf_counter()
                    found = _together(lives[id(daemon)][:at_a_time], each)
                    elapsed = time.perf_counter() - start
                    if number:
                        taken.setdefault((id(daemon), at_a_time), []).append(found)
                        if at_a_time == 8:
                            speeds[id(daemon)].append(at_a_time * each / elapsed)
    rows = []
    for at_a_time in (1, 16):
        mine, theirs = taken[id(ours), at_a_time], taken[id(peer), at_a_time]
        what = f"{runtime}: create…delete, {at_a_time} at a time"
        rows.append(_row(what, mine, theirs, statistics.median, 0.5 if at_a_time == 1 else None))
        rows.append(_row("  the same, p99", mine, theirs, _p99, None))
    mine, theirs = speeds[id(ours)], speeds[id(peer)]
    ratios = [b / a for a, b in zip(mine, theirs, strict=True)]
    took = [1000 / statistics.median(each) for each in (mine, theirs)]
    spread = (min(ratios), max(ratios))
    rows.append(Row("  8 at a time, a cycle every", "ms", took[0], took[1], 0.5, spread))
    return rows


def idle(ours: Daemon, peer: Daemon, count: int) -> list[Row]:
    """What the processes of ``count`` shims take, MiB of proportional set size."""
    averages, totals = [], []
    for daemon in (ours, peer):
        with _running(daemon, count) as pids:
            _settle(pids)
            shims = {pid for shim in set(map(_shim, pids)) for pid in _parts(shim)}
            averages.append(sum(map(_pss, shims)) / count)
            totals.append(sum(map(_pss, shims.union(_zygotes(daemon)))))
    what = (f"PSS of a shim, {count} idle containers", "  all of them, with our zygote")
    return [
        Row(name, "MiB", mine, theirs, target, (mine / theirs,) * 2)
        for name, (mine, theirs), target in zip(what, (averages, totals), (0.6, None), strict=True)
    ]


def restart(ours: Daemon, peer: Daemon, count: int, rounds: int) -> list[Row]:
    """From a daemon's start with ``count`` running containers, after SIGKILL."""
    serves: dict[int, list[float]] = {id(ours): [], id(peer): []}
    knows: dict[int, list[float]] = {id(ours): [], id(peer): []}
    with _running(ours, count) as mine, _running(peer, count) as theirs:
        for number in range(rounds):
            for daemon in (ours, peer) if number % 2 else (peer, ours):
                _settle(mine)
                _settle(theirs)
                daemon.kill()
                start = time.perf_counter()
                daemon.start(120, look_every=0.002)
                with closing(Connection(str(daemon.address), "default")) as link:
                    known = 0
                    while known < count:
                        answer = link.unary(f"{_TASKS}/List", b"")
                        if not serves[id(daemon)] or len(serves[id(daemon)]) == number:
                            serves[id(daemon)].append((time.perf_counter() - start) * 1000)
                        known = _of_ours(tasks_pb2.ListTasksResponse.FromString(answer))
                knows[id(daemon)].append((time.perf_counter() - start) * 1000)
    whats = (f"restart with {count} containers: serves", "  all are known")
    return [
        _row(what, [[x] for x in each[id(ours)]], [[x] for x in each[id(peer)]],
             statistics.median, 1.0)
        for what, each in zip(whats, (serves, knows), strict=True)
    ]  # fmt: skip


def _of_ours(answer: tasks_pb2.ListTasksResponse) -> int:
    return sum(
        task.id.startswith("idle") and task.status == task_pb2.RUNNING for task in answer.tasks
    )


@contextmanager
def _life(daemon: Daemon, name: str, runtime: str) -> Iterator[Callable[[], None]]:
    """A container's task, from its creation to its end, over a connection of its own."""
    with closing(Connection(str(daemon.address), "default")) as link:
        asked = snapshots_pb2.MountsRequest(snapshotter="overlayfs", key=name)
        answer = link.unary(
            "/containerd.services.snapshots.v1.Snapshots/Mounts", asked.SerializeToString()
        )
        mounts = snapshots_pb2.MountsResponse.FromString(answer).mounts
        options = AnyMessage(
            type_url="containerd.runc.v1.Options",
            value=oci_pb2.Options(binary_name=runtime).SerializeToString(),
        )
        create = tasks_pb2.CreateTaskRequest(
            container_id=name, rootfs=mounts, options=options
        ).SerializeToString()
        start = tasks_pb2.StartRequest(container_id=name).SerializeToString()
        wait = tasks_pb2.WaitRequest(container_id=name).SerializeToString()
        delete = tasks_pb2.DeleteTaskRequest(container_id=name).SerializeToString()

        def live() -> None:
            link.unary(f"{_TASKS}/Create", create)
            waiting = link.begin(f"{_TASKS}/Wait", wait)
            link.unary(f"{_TASKS}/Start", start)
            while not waiting.ended:
                link.receive()
            link.only(waiting)
            link.unary(f"{_TASKS}/Delete", delete)

        yield live


def _together(lives: list[Callable[[], None]], each: int) -> list[float]:
    """The time in ms that each cycle took, all lives at a time."""
    found: list[float] = []

    def go(live: Callable[[], None]) -> None:
        for _ in range(each):
            start = time.perf_counter()
            live()
            found.append((time.perf_counter() - start) * 1000)

    threads = [threading.Thread(target=go, args=(live,)) for live in lives]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if len(found) != len(lives) * each:
        raise RuntimeError("a cycle failed")
    return found


def _row(
    what: str,
    mine: list[list[float]],
    theirs: list[list[float]],
    middle: Callable[[list[float]], float],
    target: float | None,
) -> Row:
    ratios = [middle(a) / middle(b) for a, b in zip(mine, theirs, strict=True)]
    ours, peers = (middle([x for found in each for x in found]) for each in (mine, theirs))
    return Row(what, "ms", ours, peers, target, (min(ratios), max(ratios)))


def _p99(found: list[float]) -> float:
    return sorted(found)[max(0, -(-len(found) * 99 // 100) - 1)]


@contextmanager
def _running(daemon: Daemon, count: int) -> Iterator[list[int]]:
    """So many containers that sleep; their pids."""
    names = [f"idle{number}" for number in range(count)]
    with ThreadPoolExecutor(4) as pool:
        try:
            list(pool.map(lambda n: daemon.ctr("run", "-d", _IMAGE, n, "sleep", "1000000"), names))
            lines = daemon.ctr("tasks", "ls").stdout.splitlines()[1:]
            yield [int(line.split()[1]) for line in lines if line.split()[0] in names]
        finally:
            list(pool.map(lambda name: _removed(daemon, name), names))


def _removed(daemon: Daemon, name: str) -> None:
    daemon.ctr("tasks", "rm", "-f", name)
    daemon.ctr("containers", "rm", name)


def _settle(pids: list[int]) -> None:
    """Return when shims have as few processes as they will have, or after a while."""
    shims = set(map(_shim, pids))
    end = time.monotonic() + _SETTLED
    time.sleep(1)
    while any(len(_parts(shim)) > 1 for shim in shims) and time.monotonic() < end:
        time.sleep(0.5)


def _shim(pid: int) -> int:
    """The shim of a container: its parent, or the parent's if that is a part of a shim."""
    parent = _parent(pid)
    above = _parent(parent)
    return above if _name(above) == _name(parent) else parent


def _parts(shim: int) -> list[int]:
    """The processes that a shim consists of: itself and forks of the same name."""
    children = Path(f"/proc/{shim}/task/{shim}/children").read_text().split()
    return [shim, *(int(child) for child in children if _name(int(child)) == _name(shim))]


def _zygotes(daemon: Daemon) -> list[int]:
    """The shims' zygote and all forks of it, where a daemon has one."""
    assert daemon.process is not None
    pending, found = [daemon.process.pid], []
    while pending:
        pid = pending.pop()
        for children in Path(f"/proc/{pid}/task").glob("*/children"):
            pending += map(int, children.read_text().split())
        if b"zygote" in Path(f"/proc/{pid}/cmdline").read_bytes():
            found.append(pid)
    return found


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text()
    except FileNotFoundError:
        return ""


def _parent(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("PPid:"):
            return int(line.split()[1])
    raise RuntimeError(f"process {pid}: no parent")


def _pss(pid: int) -> float:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"process {pid}: no PSS")
