"""Pods beside containerd's: whole lives of a pod with a container, through the CRI of both."""

from __future__ import annotations

import itertools
import json
import platform
import statistics
import subprocess
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

from cored_service_cri import pause

from cored._pb.cri.v1 import api_pb2 as pb
from cored.testing.worlds import world
from tests import daemons, images
from tests.bench.compare import Row
from tests.bench.load import Connection
from tests.daemons import Daemon

__all__ = ["rows"]

_PROJECT = Path(__file__).resolve().parents[2]
_BUSYBOX, _PAUSE = "docker.io/library/busybox:latest", "docker.io/library/pause:bench"
_SERVICE = "/runtime.v1.RuntimeService"
# lives that each of so many at a time goes through in a round
_LIVES = {1: 6, 8: 3}
_CRI = """
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{pause}"
restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "/usr/lib/cni"
conf_dir = "{networks}"
"""
_UP = ("RunPodSandbox", "CreateContainer", "StartContainer")


class Lives:
    """One daemon's pods, and the time that each call has taken, in ms."""

    def __init__(self, daemon: Daemon, logs: Path) -> None:
        self.daemon = daemon
        self.logs = logs
        self.steps: dict[str, list[float]] = defaultdict(list)
        self._numbers = itertools.count()

    def live(self, link: Connection) -> None:
        """A pod with a container that runs, from nothing to nothing."""
        config = _pod(f"pod{next(self._numbers)}", self.logs)
        pod = self._call(link, "RunPodSandbox", config=config).pod_sandbox_id
        one = self._call(
            link, "CreateContainer", pod_sandbox_id=pod, config=_container(), sandbox_config=config
        ).container_id
        self._call(link, "StartContainer", container_id=one)
        self._call(link, "StopContainer", container_id=one)
        self._call(link, "RemoveContainer", container_id=one)
        self._call(link, "StopPodSandbox", pod_sandbox_id=pod)
        self._call(link, "RemovePodSandbox", pod_sandbox_id=pod)

    def _call(self, link: Connection, method: str, **fields: Any) -> Any:
        request = getattr(pb, f"{method}Request")(**fields)
        start = time.perf_counter()
        answer = link.unary(f"{_SERVICE}/{method}", request.SerializeToString())
        self.steps[method].append((time.perf_counter() - start) * 1000)
        return getattr(pb, f"{method}Response").FromString(answer)


def rows(rounds: int, program: str) -> list[Row]:
    """Latency and throughput, on a host of its own that is a network namespace."""
    with tempfile.TemporaryDirectory(prefix="cored-bench-") as scratch, ExitStack() as stack:
        place = Path(scratch)
        (place / "namespaces").mkdir()
        stack.enter_context(world(place / "namespaces"))
        networks = [_network(place, number) for number in (1, 2)]
        ours = stack.enter_context(
            daemons.cored(
                f'network_config_dirs = ["{networks[0]}"]\n[plugins.runtime.shim]\nruntime = "runc"'
            )
        )
        cri = _CRI.format(pause=_PAUSE, networks=networks[1])
        peer = stack.enter_context(daemons.containerd(cri, program=program, cri=True))
        busybox = place / "busybox.tar"
        subprocess.run([_PROJECT / "deploy/quickstart/busybox-image", busybox], check=True)
        machine = {"pause": pause.executable(platform.machine())}
        made = images.make([images.layer(machine)], command=["/pause"])
        images.write_layout(made, place / "pause.tar", _PAUSE)
        for daemon, archive in ((ours, busybox), (peer, busybox), (peer, place / "pause.tar")):
            daemon.ctr("-n", "k8s.io", "images", "import", str(archive))
        return _measured(*(Lives(daemon, place / "logs") for daemon in (ours, peer)), rounds)


def _measured(ours: Lives, peer: Lives, rounds: int) -> list[Row]:
    taken: dict[tuple[int, int], list[list[float]]] = defaultdict(list)
    speeds: dict[int, list[float]] = defaultdict(list)
    for number in range(rounds + 1):
        for lives in (ours, peer) if number % 2 else (peer, ours):
            for at_a_time, each in _LIVES.items():
                start = time.perf_counter()
                found = _together(lives, at_a_time, each)
                elapsed = time.perf_counter() - start
                if number:
                    taken[id(lives), at_a_time].append(found)
                    if at_a_time > 1:
                        speeds[id(lives)].append(elapsed * 1000 / at_a_time / each)
            if not number:
                lives.steps.clear()
    one = [taken[id(lives), 1] for lives in (ours, peer)]
    most = max(_LIVES)
    return [
        _row("pod + container, a life", *one, statistics.median, 0.8),
        _row("  the same, p99", *one, _p99, None),
        _row(f"  {most} at a time, a life every", *(
            [[speed] for speed in speeds[id(lives)]] for lives in (ours, peer)
        ), statistics.median, 0.8),
        *_steps(ours.steps, peer.steps),
    ]  # fmt: skip


def _steps(mine: Mapping[str, list[float]], theirs: Mapping[str, list[float]]) -> Iterator[Row]:
    """Each call, at whatever load."""
    for method, figures in mine.items():
        yield _row(f"  {method}", [figures], [theirs[method]], statistics.median, None)


def _together(lives: Lives, at_a_time: int, each: int) -> list[float]:
    """The time in ms that each life took."""
    found: list[float] = []

    def go() -> None:
        with closing(Connection(str(lives.daemon.address), "k8s.io")) as link:
            for _ in range(each):
                start = time.perf_counter()
                lives.live(link)
                found.append((time.perf_counter() - start) * 1000)

    threads = [threading.Thread(target=go) for _ in range(at_a_time)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if len(found) != at_a_time * each:
        raise RuntimeError(f"a pod failed:\n{lives.daemon.log[-4000:]}")
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


def _pod(name: str, logs: Path) -> pb.PodSandboxConfig:
    meta = pb.PodSandboxMetadata(name=name, namespace="bench", uid=f"uid-{name}")
    port = pb.PortMapping(container_port=80)
    linux = pb.LinuxPodSandboxConfig(cgroup_parent="/cored-bench")
    return pb.PodSandboxConfig(
        metadata=meta, hostname=name, log_directory=str(logs / name), linux=linux,
        port_mappings=[port], labels={"app": name},
    )  # fmt: skip


def _container() -> pb.ContainerConfig:
    profile = pb.SecurityProfile(profile_type=pb.SecurityProfile.RuntimeDefault)
    modes = pb.NamespaceOption(pid=pb.CONTAINER)
    context = pb.LinuxContainerSecurityContext(namespace_options=modes, seccomp=profile)
    limits = pb.LinuxContainerResources(cpu_shares=100, memory_limit_in_bytes=128 << 20)
    return pb.ContainerConfig(
        metadata=pb.ContainerMetadata(name="main"),
        image=pb.ImageSpec(image=_BUSYBOX),
        command=["sleep", "1000"],
        log_path="main/0.log",
        linux=pb.LinuxContainerConfig(security_context=context, resources=limits),
    )


def _network(place: Path, number: int) -> Path:
    """The same for both, but for the bridge's name and the addresses."""
    directory = place / f"net{number}"
    directory.mkdir()
    bridge = {
        "type": "bridge", "bridge": f"bench{number}", "isGateway": True, "ipMasq": True,
        "ipam": {
            "type": "host-local", "ranges": [[{"subnet": f"10.{90 + number}.0.0/16"}]],
            "routes": [{"dst": "0.0.0.0/0"}], "dataDir": str(place / f"addresses{number}"),
        },
    }  # fmt: skip
    portmap = {"type": "portmap", "capabilities": {"portMappings": True}}
    document = {"cniVersion": "1.0.0", "name": f"pods{number}", "plugins": [bridge, portmap]}
    (directory / "10-pods.conflist").write_text(json.dumps(document))
    return directory
