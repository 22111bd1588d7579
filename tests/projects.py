"""Projects of corectl compose in directories of their own."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from corectl.compose.materials import Store

from tests.daemons import CORECTL, Daemon

__all__ = ["Compose", "leftovers", "project"]


class Compose:
    """corectl compose in a directory of its own."""

    def __init__(self, daemon: Daemon, place: Path) -> None:
        self.daemon, self.place = daemon, place
        self.environ = {**os.environ, "TOKEN": "hidden"}

    def write(self, text: str) -> None:
        (self.place / "compose.yaml").write_text(text)

    def command(self, *arguments: str) -> list[str]:
        address = ("--address", str(self.daemon.address))
        return [*CORECTL, *address, "compose", *arguments]

    def __call__(self, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            self.command(*arguments),
            cwd=self.place,
            env=self.environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == code, (done, self.daemon.log[-3000:])
        return done

    def begin(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self.command(*arguments),
            cwd=self.place,
            env=self.environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def ps(self) -> dict[str, dict[str, Any]]:
        lines = self("ps", "-a", "--format", "json").stdout.splitlines()
        return {one["Name"]: one for one in map(json.loads, lines)}

    def ids(self) -> dict[str, str]:
        return {name: one["ID"] for name, one in self.ps().items()}


@contextmanager
def project(daemon: Daemon, place: Path) -> Iterator[Compose]:
    """A project called shop; at the end it goes down, and has to leave nothing."""
    made = Compose(daemon, place)
    yield made
    if (place / "compose.yaml").exists():
        made("down", "-v", "-t", "0", "--remove-orphans")
    left = leftovers(daemon)
    assert left == [], left


def leftovers(daemon: Daemon) -> list[str]:
    found = daemon.ctr("containers", "ls", "-q").stdout.split()
    found += daemon.corectl("volume", "ls", "-q").stdout.decode().split()
    networks = daemon.corectl("network", "ls").stdout.decode()
    found += re.findall(r"\S+_default|\S+_back", networks)
    found += [row for row in daemon.ctr("snapshots", "ls").stdout.splitlines() if "Active" in row]
    # that of this daemon: others are being tested at the same time
    own = Store(f"{daemon.address}\0default", "shop").directory
    return [*found, str(own)] if own.exists() else found
