"""An application of many services: corectl compose beside docker-compose on Debian's dockerd, and
beside podman-compose where it is installed (which waits for nobody's health)."""

from __future__ import annotations

import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from tests import daemons
from tests.bench.compare import Row
from tests.bench.podman import LIMITS, podman
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
            ours.installed("compose", *words, check=True, cwd=place)

        def theirs(*words: str) -> None:
            docker.compose(place, *words)

        taken: dict[tuple[str, str], list[float]] = {}
        sides: dict[str, Callable[..., None]] = {"ours": mine, "docker": theirs}
        if shutil.which("podman-compose"):
            sides["podman"] = _podman_compose(place, busybox)
        for number in range(rounds + 1):
            for side in sorted(sides, reverse=bool(number % 2)):
                for what, words in (("up", ("up", "-d")), ("down", ("down", "-t", "0"))):
                    start = time.perf_counter()
                    sides[side](*words)
                    if number:
                        wall = time.perf_counter() - start
                        taken.setdefault((what, side), []).append(wall)
    found = []
    for peer in sides.keys() - {"ours"}:
        for what, aim in (("up", 0.7), ("down", None)):
            title = f"compose {what}, 30 services: {peer}"
            found.append(_row(title, taken[what, "ours"], taken[what, peer], aim))
    return sorted(found, key=lambda row: row.what)


def _podman_compose(place: Path, busybox: Path) -> Callable[..., None]:
    wrapper = place / "podman-here"
    wrapper.write_text(f'#!/bin/sh\nexec {" ".join(podman(place, busybox))} "$@"\n')
    wrapper.chmod(0o700)
    command = ["podman-compose", "--podman-path", str(wrapper)]
    limits = f"--podman-run-args={' '.join(LIMITS)}"

    def run(*words: str) -> None:
        # it complains of each health check that it has no systemd for
        subprocess.run(
            [*command, limits, *words],
            cwd=place,
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    return run


def _row(what: str, ours: list[float], theirs: list[float], target: float | None) -> Row:
    ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
    middle = statistics.median
    spread = (min(ratios), max(ratios))
    return Row(what, "s", middle(ours), middle(theirs), target, spread)
