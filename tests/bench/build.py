"""Builds of one small application beside ``buildah bud`` and ``docker build``.

Cold, all cached, one file changed.

All run their steps in the host's network; buildah's with the isolation that costs least (chroot),
on overlay with its cache of layers; docker's with BuildKit, on overlay2. Every cold build has a
Dockerfile of its own.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tests.bench.compare import Row
from tests.daemons import Daemon
from tests.docker import Docker, dockerd

__all__ = ["rows"]

_DOCKERFILE = """FROM busybox AS build
ARG ROUND={round}
WORKDIR /src
COPY package .
RUN mkdir -p /deps && for i in $(seq 200); do echo "$i {round}" > /deps/$i; done
COPY . .
RUN cat src/* > /app && chmod 755 /app
FROM busybox
COPY --from=build /deps /deps
COPY --from=build /app /app
ENV MODE=production
CMD ["cat", "/app"]
"""


def rows(daemon: Daemon, peer: Daemon, busybox: Path, rounds: int) -> list[Row]:
    """The three kinds, by turns; a warm-up before. ``peer`` is the containerd that dockerd has."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as scratch, dockerd(peer) as docker:
        docker("load", "-i", str(busybox))
        place = Path(scratch)
        builders = {
            "cored": _cored(daemon),
            "buildah": _buildah(place / "store", busybox),
            "docker": _docker(docker),
        }
        figures: dict[str, dict[str, list[float]]] = {}
        for number in range(rounds + 1):
            names = list(builders)
            names = names[number % 3 :] + names[: number % 3]
            for name in names:
                context = _context(place / f"{name}-{number}", f"{name}-{number}")
                for kind in ("cold", "cached", "one file changed"):
                    if kind == "one file changed":
                        (context / "src/7").write_text("changed\n")
                    start = time.perf_counter()
                    builders[name](context)
                    took = time.perf_counter() - start
                    if number:
                        figures.setdefault(kind, {}).setdefault(name, []).append(took)
    return [
        _row(kind, found["cored"], found[name], name, faster=name == _fastest(found))
        for kind, found in figures.items()
        for name in ("buildah", "docker")
    ]


def _fastest(found: dict[str, list[float]]) -> str:
    """Of the others."""
    return min(("buildah", "docker"), key=lambda name: statistics.median(found[name]))


def _row(kind: str, ours: list[float], theirs: list[float], who: str, *, faster: bool) -> Row:
    """The aims are about the faster of the others."""
    ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
    middle = statistics.median
    aim = {"cold": 0.7, "cached": 0.3}.get(kind) if faster else None
    spread = (min(ratios), max(ratios))
    return Row(f"build, {kind}, {who}", "s", middle(ours), middle(theirs), aim, spread)


def _context(place: Path, round: str) -> Path:
    (place / "src").mkdir(parents=True)
    for number in range(50):
        (place / f"src/{number}").write_text(f"source {number}\n" * 200)
    (place / "package").write_text(round)
    (place / "Dockerfile").write_text(_DOCKERFILE.format(round=round))
    return place


def _cored(daemon: Daemon) -> Callable[[Path], None]:
    def build(context: Path) -> None:
        daemon.installed(
            "build", "-q", "--network", "host", "-t", "bench:1", str(context), check=True
        )

    return build


def _buildah(place: Path, busybox: Path) -> Callable[[Path], None]:
    store = ("--root", str(place / "root"), "--runroot", str(place / "run"))
    place.mkdir()
    policy = place / "policy.json"
    policy.write_text('{"default": [{"type": "insecureAcceptAnything"}]}')
    trust = ("--signature-policy", str(policy))

    def call(*words: str) -> None:
        subprocess.run(
            ["buildah", *store, "--storage-driver", "overlay", *words],
            check=True, capture_output=True,
        )  # fmt: skip

    call("pull", *trust, f"docker-archive:{busybox}")

    def build(context: Path) -> None:
        call("bud", "--isolation", "chroot", *trust, "--pull-never", "--layers", "-q",
             "-t", "bench:1", str(context))  # fmt: skip

    return build


def _docker(docker: Docker) -> Callable[[Path], None]:
    environment = {**os.environ, "DOCKER_BUILDKIT": "1"}

    def build(context: Path) -> None:
        docker("build", "-q", "--network", "host", "-t", "bench:1", str(context), env=environment)

    return build
