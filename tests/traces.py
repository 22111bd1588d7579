"""All that pods can leave on a machine, counted: to compare before and after."""

from __future__ import annotations

import os
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from tests.daemons import Daemon
from tests.grpc_client import Client

__all__ = ["more", "traces"]

# of the daemon's own: they grow and shrink as it works
_OWN = (".db", ".db-wal", ".db-shm", "/log")


def traces(daemon: Daemon, *places: Path) -> Counter[str]:
    """What there is now, each with its kind: mounts, processes, cgroups, namespaces, links, rules
    of the firewall, records of the store, files of the daemon's and in ``places``."""
    return Counter(_found(daemon, (daemon.home, *places)))


def more(now: Counter[str], before: Counter[str]) -> list[str]:
    """What there is now and was not before."""
    return sorted((now - before).elements())


def _found(daemon: Daemon, places: tuple[Path, ...]) -> Iterator[str]:
    assert daemon.process is not None
    for line in Path(f"/proc/{daemon.process.pid}/mountinfo").read_text().splitlines():
        yield f"mount {line.split()[4]}"
    yield from _processes(str(daemon.home))
    for place in Path("/sys/fs/cgroup").glob("**/k8s.io/*"):
        if place.is_dir():
            yield f"cgroup {place}"
    for path in Path("/sys/class/net").iterdir():
        yield f"link {path.name}"
    done = subprocess.run(["nft", "-s", "list", "ruleset"], capture_output=True, text=True)
    for line in done.stdout.splitlines():
        yield from (f"rule {word}" for word in line.split(", "))
    yield from _records(daemon)
    for place in places:
        for path in place.rglob("*"):
            if not str(path).endswith(_OWN) and "/logs/" not in str(path):
                yield f"file {path}"


def _processes(home: str) -> Iterator[str]:
    """Processes with the daemon's directory in their words, and those in pods' cgroups; their
    namespaces."""
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            command = (path / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            inside = "/k8s.io/" in (path / "cgroup").read_text()
            if (inside or home in command) and not command.startswith("/usr/bin/python"):
                yield f"process {command[:100]}"
            for space in (path / "ns").iterdir() if inside else ():
                yield f"namespace {os.readlink(space)}"


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
