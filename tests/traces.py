"""All that pods can leave on a machine, counted: to compare before and after."""

from __future__ import annotations

import os
import socket
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from tests.daemons import Daemon
from tests.grpc_client import Client
from tests.living import glob

__all__ = ["more", "traces"]

# of the daemon's own, which come and go as it works, and what a shim says that sleeps
_OWN = (".db", ".db-wal", ".db-shm", "/log", "/asleep")


def traces(daemon: Daemon, cgroup: str, *places: Path) -> Counter[str]:
    """What there is now, each with its kind: mounts, processes, cgroups (below ``cgroup``),
    namespaces, links, rules of the firewall, records of the store, files of the daemon's and in
    ``places``."""
    return Counter(_found(daemon, cgroup.strip("/"), (daemon.home, *places)))


def more(now: Counter[str], before: Counter[str]) -> list[str]:
    """What there is now and was not before."""
    return sorted((now - before).elements())


def _found(daemon: Daemon, cgroup: str, places: tuple[Path, ...]) -> Iterator[str]:
    assert daemon.process is not None
    lines = Path(f"/proc/{daemon.process.pid}/mountinfo").read_text().splitlines()
    mounts = {line.split()[4] for line in lines}
    yield from (f"mount {line.split()[4]}" for line in lines)
    yield from _processes(str(daemon.home), cgroup)
    for pattern in (f"{cgroup}/*/", f"*/{cgroup}/*/"):
        for place in glob(Path("/sys/fs/cgroup"), pattern):
            yield f"cgroup {place}"
    # not /sys/class/net, which may be that of another namespace
    yield from (f"link {name}" for _, name in socket.if_nameindex())
    done = subprocess.run(["nft", "-s", "list", "ruleset"], capture_output=True, text=True)
    for line in done.stdout.splitlines():
        yield from (f"rule {word}" for word in line.split(", "))
    yield from _records(daemon)
    for place in places:
        for top, directories, files in os.walk(place):
            directories[:] = [name for name in directories if f"{top}/{name}" not in mounts]
            for name in (*directories, *files):
                path = f"{top}/{name}"
                if not path.endswith(_OWN) and "/logs/" not in path:
                    yield f"file {path}"


def _processes(home: str, cgroup: str) -> Iterator[str]:
    """What is in pods' cgroups, with its namespaces; shims, by the files that they have open."""
    shims = set()
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if f"/{cgroup}/" in (path / "cgroup").read_text():
                yield f"process {(path / 'comm').read_text().strip()}"
                yield from (f"namespace {os.readlink(space)}" for space in (path / "ns").iterdir())
            log = os.readlink(path / "fd/2")
            if log.startswith(home) and log.endswith("shim.log"):
                shims.add(log)  # one that is awake is two processes
    yield from (f"shim {log}" for log in shims)


def _records(daemon: Daemon) -> Iterator[str]:
    with Client(daemon.address, "k8s.io") as api:
        for one in api.containers.List().containers:
            yield f"record {one.id}"
        for task in api.tasks.List().tasks:
            yield f"task {task.id}"
        for lease in api.leases.List().leases:
            yield f"lease {lease.id}"
        for sandbox in api.store.List().list:
            yield f"sandbox {sandbox.sandbox_id}"
        for page in api.snapshots.List():
            for info in page.info:
                yield f"snapshot {info.name}"
        for page in api.content.List():
            for info in page.info:
                yield f"content {info.digest}"
