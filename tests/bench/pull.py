"""A cold pull of a development image from a registry on loopback: cored beside the others.

User CPU and memory are of everything that a pull takes: client, daemon, its children. The floor
is the same work by the quickest tools there are, one after the other: decompressing with ISA-L,
hashing blobs and tars, and plain ``tar x``; the longest of the three is its wall time, their sum
its user CPU.
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from tests import daemons
from tests.bench.compare import Row
from tests.bench.development import development_image
from tests.daemons import CORECTL, Daemon
from tests.registries import Registry, registry

__all__ = ["PEERS", "rows"]

PEERS = ("containerd", "podman", "umoci", "floor")
"""What cored can be measured beside; umoci stands for skopeo and umoci together."""


@dataclass(frozen=True)
class Cost:
    """Seconds of wall, user and system time, and the most memory at once (PSS), MiB."""

    wall: float
    user: float
    system: float
    peak: float


def rows(
    cache: Path, rounds: int, peers: Sequence[str] = PEERS, containerd: str = "containerd"
) -> list[Row]:
    """Rounds in which each has its turn, every time in another order; and a warm-up before.

    Every pull has a daemon and a store of its own, and nothing is removed before the end: ext4
    looks for inodes for a long time when many were freed a moment ago, and whoever's turn comes
    after a removal would pay for it.
    """
    layout = development_image(cache)
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=cache)))
        (scratch / "registry").mkdir()
        remote = stack.enter_context(registry(scratch / "registry"))
        reference = _pushed(remote, layout)
        pulls: dict[str, Callable[[], Cost]] = {
            "cored": lambda: _cored(_settled(stack.enter_context(daemons.cored())), reference),
            "containerd": lambda: _containerd(
                _settled(stack.enter_context(daemons.containerd(program=containerd))), reference
            ),
            "podman": lambda: _podman(_made(scratch), reference),
            "umoci": lambda: _umoci(_made(scratch), reference),
            "floor": lambda: _floor(_made(scratch), layout),
        }
        names = ("cored", *peers)
        costs: dict[str, list[Cost]] = {name: [] for name in names}
        for number in range(rounds + 1):
            turn = number % len(names)
            for name in (*names[turn:], *names[:turn]):
                subprocess.run(["sync"], check=True)
                cost = pulls[name]()
                print(f"  round {number} {name}: {cost}", file=sys.stderr, flush=True)
                if number:
                    costs[name].append(cost)
    return list(_compared(costs))


def _compared(costs: Mapping[str, list[Cost]]) -> Iterator[Row]:
    aims = {
        ("containerd", "wall"): 0.5,
        ("containerd", "user"): 0.5,
        ("containerd", "peak"): 1.0,
        ("floor", "user"): 1.4,
    }
    for name in [name for name in costs if name != "cored"]:
        for figure, unit in (("wall", "s"), ("user", "s"), ("system", "s"), ("peak", "MiB")):
            if name == "floor" and figure == "peak":
                continue
            mine = [getattr(cost, figure) for cost in costs["cored"]]
            theirs = [getattr(cost, figure) for cost in costs[name]]
            ratios = [a / b for a, b in zip(mine, theirs, strict=True)]
            middle = statistics.median
            what = f"pull, {figure}, beside {name}"
            spread = (min(ratios), max(ratios))
            aim = aims.get((name, figure))
            yield Row(what, unit, middle(mine), middle(theirs), aim, spread)


def _made(scratch: Path) -> Path:
    return Path(tempfile.mkdtemp(dir=scratch))


def _pushed(remote: Registry, layout: Path) -> str:
    reference = f"{remote.host}/debian:bench"
    subprocess.run(
        ["skopeo", "copy", "-q", "--insecure-policy", "--dest-tls-verify=false",
         f"oci:{layout}:bench", f"docker://{reference}"],
        check=True,
    )  # fmt: skip
    return reference


def _settled(daemon: Daemon) -> Daemon:
    """Wait until a daemon has started: what it still does after its first answer is no pull's."""
    assert daemon.process is not None
    roots = [daemon.process.pid]
    before, used = (-1.0, -1.0), _times(roots)
    while used != before:
        time.sleep(1)
        before, used = used, _times(roots)
    return daemon


def _cored(daemon: Daemon, reference: str) -> Cost:
    base = (*CORECTL, "--address", str(daemon.address))
    return _measured([[*base, "pull", "-q", reference]], daemon)


def _containerd(daemon: Daemon, reference: str) -> Cost:
    beside = Path(daemon.command[0]).with_name("ctr")
    ctr = str(beside) if beside.exists() else "ctr"
    base = (ctr, "--address", str(daemon.address), "images")
    return _measured([[*base, "pull", "--plain-http", reference]], daemon)


def _podman(place: Path, reference: str) -> Cost:
    base = ("podman", "--root", str(place / "root"), "--runroot", str(place / "run"),
            "--storage-driver", "overlay")  # fmt: skip
    return _measured([[*base, "pull", "-q", "--tls-verify=false", reference]])


def _umoci(place: Path, reference: str) -> Cost:
    layout = place / "layout"
    return _measured(
        [
            ["skopeo", "copy", "-q", "--insecure-policy", "--src-tls-verify=false",
             f"docker://{reference}", f"oci:{layout}:bench"],
            ["umoci", "unpack", "--image", f"{layout}:bench", str(place / "bundle")],
        ]
    )  # fmt: skip


def _floor(place: Path, layout: Path) -> Cost:
    """Every part by itself, on files that are there."""
    manifest = _manifest(layout)
    blobs = [layout / "blobs/sha256" / each["digest"][7:] for each in manifest["layers"]]
    inflate = _measured([[sys.executable, "-c", _INFLATE, str(place), *map(str, blobs)]])
    tars = [place / blob.name for blob in blobs]
    hashes = _measured([[sys.executable, "-c", _HASH, *map(str, [*blobs, *tars])]])
    trees = []
    for tar in tars:
        tree = place / f"{tar.name[:12]}.tree"
        tree.mkdir()
        trees.append(["tar", "-C", str(tree), "--numeric-owner", "-xpf", str(tar)])
    unpack = _measured(trees)
    parts = (inflate, hashes, unpack)
    return Cost(
        max(part.wall for part in parts),
        sum(part.user for part in parts),
        sum(part.system for part in parts),
        max(part.peak for part in parts),
    )


_INFLATE = """
import sys
from pathlib import Path
from isal import isal_zlib
for path in map(Path, sys.argv[2:]):
    inflater = isal_zlib.decompressobj(31)
    with path.open("rb") as blob, (Path(sys.argv[1]) / path.name).open("wb") as out:
        while data := blob.read(1 << 18):
            out.write(inflater.decompress(data))
"""
_HASH = """
import hashlib, sys
for path in sys.argv[1:]:
    with open(path, "rb") as file:
        hashlib.file_digest(file, "sha256")
"""


def _manifest(layout: Path) -> dict[str, list[dict[str, str]]]:
    index = json.loads((layout / "index.json").read_text())
    digest = index["manifests"][0]["digest"].removeprefix("sha256:")
    return dict(json.loads((layout / "blobs/sha256" / digest).read_text()))


def _measured(commands: list[list[str]], daemon: Daemon | None = None) -> Cost:
    """Run commands one after the other; what they, and a daemon meanwhile, took."""
    roots = [daemon.process.pid] if daemon is not None and daemon.process is not None else []
    with _Watch(roots) as watch:
        before = _times(roots)
        mine = resource.getrusage(resource.RUSAGE_CHILDREN)
        start = time.perf_counter()
        for command in commands:
            with subprocess.Popen(
                command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
            ) as process:
                watch.pids.append(process.pid)
                assert process.stderr is not None
                said = process.stderr.read()
            if process.returncode:
                raise RuntimeError(f"{' '.join(command)}: {said[-2000:]}")
            watch.pids.remove(process.pid)
        wall = time.perf_counter() - start
        after = _times(roots)
    done = resource.getrusage(resource.RUSAGE_CHILDREN)
    return Cost(
        wall,
        after[0] - before[0] + done.ru_utime - mine.ru_utime,
        after[1] - before[1] + done.ru_stime - mine.ru_stime,
        watch.peak,
    )


def _times(roots: list[int]) -> tuple[float, float]:
    """User and system CPU seconds of processes and their descendants, dead ones included."""
    user = system = 0
    for pid in _tree(roots):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        user += int(fields[11]) + int(fields[13])
        system += int(fields[12]) + int(fields[14])
    ticks = os.sysconf("SC_CLK_TCK")
    return user / ticks, system / ticks


def _tree(roots: list[int]) -> Iterator[int]:
    pending = list(roots)
    while pending:
        pid = pending.pop()
        yield pid
        for children in Path(f"/proc/{pid}/task").glob("*/children"):
            try:
                pending += map(int, children.read_text().split())
            except OSError:
                continue


class _Watch:
    """The proportional set size of process trees, looked at ten times a second."""

    def __init__(self, pids: list[int]) -> None:
        self.pids = list(pids)
        self.peak = 0.0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> _Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ended.wait(0.1):
            self.peak = max(self.peak, sum(map(_pss, set(_tree(list(self.pids))))))


def _pss(pid: int) -> float:
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0.0
    found = [line for line in text.splitlines() if line.startswith("Pss:")]
    return int(found[0].split()[1]) / 1024 if found else 0.0
