"""corectl beside docker's client on Debian's dockerd, and podman: what a person waits for."""

from __future__ import annotations

import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from tests import daemons
from tests.bench.compare import Row
from tests.bench.podman import LIMITS, podman
from tests.docker import dockerd

__all__ = ["rows"]

_PROJECT = Path(__file__).resolve().parents[2]
# the daemon's bridges and rules stay in a network namespace that goes with it
_ALONE = ("unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "cored")
_RUN = ("run", "--rm", "busybox", "true")
_AIMS = {("ps",): 2.0, ("version",): 2.0, _RUN: 0.7}


def rows(rounds: int) -> list[Row]:
    """Wall times in ms, by turns."""
    with ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="cored-bench-")))
        busybox = place / "busybox.tar"
        subprocess.run([_PROJECT / "deploy/quickstart/busybox-image", busybox], check=True)
        ours = stack.enter_context(daemons.cored(within=_ALONE))
        ours.ctr("images", "import", str(busybox))
        docker = stack.enter_context(dockerd(stack.enter_context(daemons.containerd())))
        docker("load", "-i", str(busybox))
        sides: dict[str, Sequence[str]] = {
            "ours": [*daemons.INSTALLED, "--address", str(ours.address)],
            "docker": ["/usr/bin/docker", "-H", docker.host],
        }
        if shutil.which("podman"):
            sides["podman"] = podman(place, busybox)
        for side, words in (("ours", sides["ours"]), ("docker", sides["docker"])):
            assert side
            for _ in range(3):
                subprocess.run([*words, "run", "-d", "busybox", "sleep", "1000"],
                               check=True, stdout=subprocess.DEVNULL)  # fmt: skip
        taken: dict[tuple[str, Sequence[str]], list[float]] = {}
        for number in range(rounds + 1):
            for side in sorted(sides, reverse=bool(number % 2)):
                for words in _AIMS:
                    if side == "podman" and words != _RUN:
                        continue
                    wall = _wall(side, sides[side], words)
                    if number:
                        taken.setdefault((side, words), []).append(wall)
    found = [
        _row(f"corectl : docker {' '.join(words[:2])}", taken, "docker", words, aim)
        for words, aim in _AIMS.items()
    ]
    if "podman" in sides:
        found.append(_row("corectl : podman run --rm", taken, "podman", _RUN, 1.0))
    return found


def _wall(side: str, program: Sequence[str], words: Sequence[str]) -> float:
    more = LIMITS if side == "podman" else ()
    start = time.perf_counter()
    subprocess.run([*program, *words[:1], *more, *words[1:]], check=True, stdout=subprocess.DEVNULL)
    return (time.perf_counter() - start) * 1000


def _row(
    what: str,
    taken: dict[tuple[str, Sequence[str]], list[float]],
    peer: str,
    words: Sequence[str],
    aim: float,
) -> Row:
    ours, theirs = taken["ours", words], taken[peer, words]
    ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
    middle = statistics.median
    return Row(what, "ms", middle(ours), middle(theirs), aim, (min(ratios), max(ratios)))
