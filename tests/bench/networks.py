"""Networks: our plugins in process beside CNI's executables, and published ports beside others'."""

from __future__ import annotations

import asyncio
import json
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from cored_network_native.caller import Native

from cored.abc.network import Attachment, Network
from cored.cni import lists
from cored.cni.cache import Cache
from cored.cni.chain import Chain
from cored.cni.executables import Executables
from cored.testing.worlds import World, world
from tests import daemons
from tests.bench.compare import Row
from tests.bench.podman import LIMITS, podman
from tests.docker import dockerd

__all__ = ["rows"]

_PROJECT = Path(__file__).resolve().parents[2]
# attachments of a round; executables take a tenth of a second each
_EACH = 5


def rows(rounds: int) -> list[Row]:
    """Both comparisons, on a host of its own that is a network namespace."""
    with tempfile.TemporaryDirectory(prefix="cored-bench-") as scratch:
        place = Path(scratch)
        (place / "namespaces").mkdir()
        with world(place / "namespaces") as made:
            return [asyncio.run(_attaching(made, place, rounds)), *_publishing(place, rounds)]


async def _attaching(made: World, place: Path, rounds: int) -> Row:
    """Attach and detach of a chain of bridge, portmap and firewall; ms of one of each."""
    native = Native(Executables())
    networks: dict[str, Network] = {
        "ours": Chain(native, Cache(place / "ours")),
        "theirs": Chain(Executables(), Cache(place / "theirs")),
    }
    netns = made.namespace("bench")
    taken: dict[str, list[float]] = {key: [] for key in networks}
    try:
        for number in range(rounds + 1):
            for key in sorted(networks, reverse=bool(number % 2)):
                start = time.perf_counter()
                for each in range(_EACH):
                    wanted = _wanted(place, key, f"{key}{number}x{each}", netns)
                    await networks[key].detach(await networks[key].attach(wanted))
                if number:
                    taken[key].append((time.perf_counter() - start) * 1000 / _EACH)
    finally:
        await native.close()
    return _row("network attach+detach: executables", taken["ours"], taken["theirs"], 0.15)


def _wanted(place: Path, key: str, id: str, netns: str) -> Attachment:
    number = 1 if key == "ours" else 2
    bridge = {
        "type": "bridge", "bridge": f"br{number}", "isDefaultGateway": True, "ipMasq": True,
        "hairpinMode": True,
        "ipam": {
            "type": "host-local", "dataDir": str(place / "addresses"),
            "ranges": [[{"subnet": f"10.{number}.0.0/16"}]],
        },
    }  # fmt: skip
    portmap = {"type": "portmap", "capabilities": {"portMappings": True}}
    chained = [portmap, {"type": "firewall", "ingressPolicy": "same-bridge"}]
    table = {"cniVersion": "1.0.0", "name": key, "plugins": [bridge, *chained]}
    ports = [{"hostPort": 8000 + number, "containerPort": 80, "protocol": "tcp"}]
    config = lists.parse(json.dumps(table))
    return Attachment(id, netns, "eth0", config, capabilities={"portMappings": ports})


def _publishing(place: Path, rounds: int) -> list[Row]:
    """A container that does nothing, with a published port, by three clients in turns; wall ms."""
    busybox = place / "busybox.tar"
    subprocess.run([_PROJECT / "deploy/quickstart/busybox-image", busybox], check=True)
    with ExitStack() as stack:
        ours = stack.enter_context(daemons.cored())
        ours.ctr("images", "import", str(busybox))
        docker = stack.enter_context(dockerd(stack.enter_context(daemons.containerd())))
        docker("load", "-i", str(busybox))
        theirs = podman(place, busybox)
        run = ("run", "--rm", "-p")
        ways: Mapping[str, Callable[[], Any]] = {
            "corectl": lambda: ours.installed(*run, "8080:80", "busybox", "true", check=True),
            "podman": lambda: subprocess.run(
                [*theirs, *run, "8081:80", *LIMITS, "busybox", "true"], check=True
            ),
            "docker": lambda: docker(*run, "8082:80", "busybox", "true"),
        }
        taken: dict[str, list[float]] = {key: [] for key in ways}
        for number in range(rounds + 1):
            for key in sorted(ways, reverse=bool(number % 2)):
                start = time.perf_counter()
                ways[key]()
                if number:
                    taken[key].append((time.perf_counter() - start) * 1000)
    return [
        _row(f"corectl run --rm -p: {peer} run --rm -p", taken["corectl"], taken[peer], None)
        for peer in ("podman", "docker")
    ]


def _row(what: str, ours: list[float], theirs: list[float], target: float | None) -> Row:
    ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
    middle = statistics.median
    return Row(what, "ms", middle(ours), middle(theirs), target, (min(ratios), max(ratios)))
