"""cored beside containerd, in one interleaved run of the same unmodified clients: ratios.

    .venv/bin/python -m tests.bench [SECTION ...] [--rounds 20] [--import-rounds 5] [--shims 200]

Run, idle and import are measured through ctr; cycle, cri, unary, content and events through a load
generator that speaks gRPC by hand (load.py), so that a daemon's own time is what counts.
Starts a private daemon of each kind, on private roots in a mount namespace of its own, and leaves
nothing behind but the Debian image that it made for itself (in --cache, some 150 MB).
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tests import daemons
from tests.bench import api, build, commands, compose, containers, networks, pods, pull
from tests.bench.compare import Row, interleaved
from tests.bench.debian import debian_image
from tests.daemons import Daemon

PROJECT = Path(__file__).resolve().parents[2]


def main() -> None:
    options = _options()
    if os.geteuid() != 0:
        sys.exit("bench: needs root: it starts real daemons and containers")
    if os.environ.get("CORED_BENCH_NAMESPACE") != "1":
        os.environ["CORED_BENCH_NAMESPACE"] = "1"
        inside = ["unshare", "--mount", "--propagation", "private", sys.executable]
        os.execvp(inside[0], [*inside, "-m", "tests.bench", *sys.argv[1:]])
    image = debian_image(options.cache) if "import" in options.sections else None
    print(f"{'':34} {'cored':>9} {'containerd':>11} {'':4} {'ratio':>7}")
    with ExitStack() as stack:
        # the same OCI runtime for both: what containerd's shim runs
        ours = stack.enter_context(daemons.cored('[plugins.runtime.shim]\nruntime = "runc"\n'))
        peer = stack.enter_context(daemons.containerd(program=options.containerd))
        busybox = ours.home / "busybox.tar"
        subprocess.run([PROJECT / "deploy/quickstart/busybox-image", busybox], check=True)
        for daemon in (ours, peer):
            daemon.ctr("images", "import", str(busybox))
        for section in options.sections:
            for row in _SECTIONS[section](ours, peer, image, options):
                print(row, flush=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tests.bench", description=__doc__.splitlines()[0])
    parser.add_argument(
        "sections",
        nargs="*",
        metavar="SECTION",
        help=f"what to measure, everything without: {', '.join(_SECTIONS)}",
    )
    parser.add_argument("--api-rounds", type=int, default=7, help="of unary, content, events")
    parser.add_argument("--records", type=int, default=1000, help="containers that are listed")
    parser.add_argument("--blob", type=int, default=256, help="MiB of content written and read")
    parser.add_argument("--subscribers", type=int, default=100, help="of events")
    parser.add_argument("--events", type=int, default=200, help="that each of them gets")
    parser.add_argument("--build-rounds", type=int, default=5, help="of builds by each")
    parser.add_argument("--rounds", type=int, default=20, help="of ctr run --rm")
    parser.add_argument("--import-rounds", type=int, default=5, help="of import + unpack")
    parser.add_argument("--cycle-rounds", type=int, default=5, help="of whole lives of tasks")
    parser.add_argument("--cycle-with", nargs="*", default=["runc", "crun"], help="OCI runtimes")
    parser.add_argument("--shims", type=int, default=200, help="containers for idle and restart")
    parser.add_argument("--restart-rounds", type=int, default=3, help="of restart")
    parser.add_argument("--network-rounds", type=int, default=10, help="of network")
    parser.add_argument("--cri-rounds", type=int, default=6, help="of lives of pods")
    parser.add_argument("--compose-rounds", type=int, default=3, help="of up and down")
    parser.add_argument("--corectl-rounds", type=int, default=20, help="of each command")
    parser.add_argument("--pull-rounds", type=int, default=3, help="of pulls by each client")
    parser.add_argument("--pull-with", nargs="*", choices=pull.PEERS, default=pull.PEERS)
    parser.add_argument("--containerd", default="containerd", help="another one than Debian's")
    parser.add_argument("--cache", type=Path, default=Path("/var/tmp/cored-bench"))
    options = parser.parse_args()
    if unknown := set(options.sections) - set(_SECTIONS):
        parser.error(f"unknown section {', '.join(sorted(unknown))}")
    options.sections = options.sections or list(_SECTIONS)
    return options


def _run(ours: Daemon, peer: Daemon, rounds: int) -> Row:
    def once(daemon: Daemon, number: int) -> float:
        start = time.perf_counter()
        daemon.ctr("run", "--rm", "docker.io/library/busybox:latest", f"run{number}", "true")
        return (time.perf_counter() - start) * 1000

    return interleaved("ctr run --rm IMAGE true", "ms", 0.9, rounds, once, ours, peer)


def _import(ours: Daemon, peer: Daemon, image: Path | None, rounds: int) -> list[Row]:
    processor: dict[int, list[float]] = {id(ours): [], id(peer): []}

    def once(daemon: Daemon, number: int) -> float:
        subprocess.run(["sync"], check=True)
        before = _processor(daemon)
        start = time.perf_counter()
        daemon.ctr("images", "import", str(image))
        wall = time.perf_counter() - start
        if number:
            processor[id(daemon)].append(_processor(daemon) - before)
        names = daemon.ctr("images", "ls", "-q", "name~=debian").stdout.split()
        daemon.ctr("images", "rm", "--sync", *names)
        return wall

    wall = interleaved("import + unpack, Debian 300+ MB", "s", 0.8, rounds, once, ours, peer)
    mine, theirs = processor[id(ours)], processor[id(peer)]
    ratios = [a / b for a, b in zip(mine, theirs, strict=True)]
    user = Row(
        "  the same, daemon's user CPU",
        "s",
        statistics.median(mine),
        statistics.median(theirs),
        0.8,
        (min(ratios), max(ratios)),
    )
    return [wall, user]


def _processor(daemon: Daemon) -> float:
    """User CPU seconds of a daemon and its living children."""
    assert daemon.process is not None
    total = 0
    pending = [daemon.process.pid]
    while pending:
        pid = pending.pop()
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[13])
        for children in Path(f"/proc/{pid}/task").glob("*/children"):
            pending += map(int, children.read_text().split())
    return total / os.sysconf("SC_CLK_TCK")


_SECTIONS: dict[str, Callable[[Daemon, Daemon, Path | None, Any], list[Row]]] = {
    "run": lambda ours, peer, _, options: [_run(ours, peer, options.rounds)],
    "build": lambda ours, peer, _, options: build.rows(
        ours, peer, ours.home / "busybox.tar", options.build_rounds
    ),
    "corectl": lambda ours, peer, _, o: commands.rows(o.corectl_rounds),
    "compose": lambda ours, peer, _, o: compose.rows(o.compose_rounds),
    "cycle": lambda ours, peer, _, o: containers.cycle(ours, peer, o.cycle_rounds, o.cycle_with),
    "idle": lambda ours, peer, _, options: containers.idle(ours, peer, options.shims),
    "restart": lambda ours, peer, _, o: containers.restart(ours, peer, o.shims, o.restart_rounds),
    "unary": lambda ours, peer, _, o: api.unary(ours, peer, o.api_rounds, o.records),
    "content": lambda ours, peer, _, o: api.content(ours, peer, o.api_rounds, o.blob),
    "events": lambda ours, peer, _, o: [
        api.events(ours, peer, o.api_rounds, o.subscribers, o.events)
    ],
    "network": lambda ours, peer, _, o: networks.rows(o.network_rounds),
    "cri": lambda ours, peer, _, o: pods.rows(o.cri_rounds, o.containerd),
    "pull": lambda ours, peer, _, o: pull.rows(o.cache, o.pull_rounds, o.pull_with, o.containerd),
    "import": lambda ours, peer, image, o: _import(ours, peer, image, o.import_rounds),
}

if __name__ == "__main__":
    # two daemons and their shims share this shell's limit of open files
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 65536)), hard))
    main()
