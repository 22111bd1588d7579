"""An application of many services: corectl compose beside docker-compose on Debian's dockerd."""

from __future__ import annotations

import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from tests import daemons
from tests.bench.compare import Row
from tests.docker import dockerd

__all__ = ["rows"]

_PROJECT = Path(__file__).resolve().parents[2]
_LAYERS, _EACH = 3, 10
# the daemon's bridges and rules stay in a network namespace that goes with it
_ALONE = ("unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "cored")


def application() -> str:
    """Thirty services in three layers; each waits until one of the layer before is healthy."""
    lines = ["services:"]
    for layer in range(_LAYERS):
        for number in range(_EACH):
            lines += [
                f"  s{layer}x{number}:",
                "    image: busybox",
                "    command: sleep 1000",
                "    healthcheck: {test: [CMD, 'true'], interval: 500ms}",
            ]
            if layer:
                need = f"s{layer - 1}x{number}"
                lines.append(f"    depends_on: {{{need}: {{condition: service_healthy}}}}")
    return "\n".join(lines) + "\n"


def rows(rounds: int) -> list[Row]:
    """``up -d`` and ``down -t 0``, in seconds, by turns."""
    with ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="cored-bench-")))
        (place / "docker-compose.yml").write_text(application())
        busybox = place / "busybox.tar"
        subprocess.run([_PROJECT / "deploy/quickstart/busybox-image", busybox], check=True)
        runc = '[plugins.runtime.shim]\nruntime = "runc"\n'
        ours = stack.enter_context(daemons.cored(runc, within=_ALONE))
        ours.ctr("images", "import", str(busybox))
        docker = stack.enter_context(dockerd(stack.enter_context(daemons.containerd())))
        docker("load", "-i", str(busybox))

        def mine(*words: str) -> None:
            ours.corectl("compose", *words, check=True, cwd=place)

        def theirs(*words: str) -> None:
            docker.compose(place, *words)

        taken: dict[tuple[str, str], list[float]] = {}
        sides: dict[str, Callable[..., None]] = {"ours": mine, "theirs": theirs}
        for number in range(rounds + 1):
            for side in sorted(sides, reverse=bool(number % 2)):
                for what, words in (("up", ("up", "-d")), ("down", ("down", "-t", "0"))):
                    start = time.perf_counter()
                    sides[side](*words)
                    if number:
                        wall = time.perf_counter() - start
                        taken.setdefault((what, side), []).append(wall)
    return [
        _row("compose up -d, 30 services, health", taken["up", "ours"], taken["up", "theirs"], 0.7),
        _row(
            "compose down -t 0, 30 services", taken["down", "ours"], taken["down", "theirs"], None
        ),
    ]


def _row(what: str, ours: list[float], theirs: list[float], target: float | None) -> Row:
    ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
    middle = statistics.median
    spread = (min(ratios), max(ratios))
    return Row(what, "s", middle(ours), middle(theirs), target, spread)
