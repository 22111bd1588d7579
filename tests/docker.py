"""Debian's dockerd on a cored: private root, a network namespace of its own, nothing left."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.daemons import Daemon, home

__all__ = ["Docker", "dockerd"]

# some machines have another docker first on their PATH
_DOCKER = "/usr/bin/docker"
_COMPOSE = "/usr/bin/docker-compose"


@dataclass
class Docker:
    """A running dockerd; calls take the words of docker's command line."""

    place: Path
    process: subprocess.Popen[bytes]

    @property
    def host(self) -> str:
        return f"unix://{self.place}/sock"

    @property
    def log(self) -> str:
        return (self.place / "log").read_text(errors="replace")

    def __call__(
        self, *words: str, code: int = 0, **options: Any
    ) -> subprocess.CompletedProcess[str]:
        """Run docker; its exit code must be ``code``."""
        done = subprocess.run(
            [_DOCKER, "-H", self.host, *words],
            capture_output=True, text=True, timeout=120, check=False, **options,
        )  # fmt: skip
        assert done.returncode == code, (words, done.stdout, done.stderr, self.log[-3000:])
        return done

    def compose(self, project: Path, *words: str) -> str:
        """Run docker-compose in a directory; what it printed."""
        done = subprocess.run(
            [_COMPOSE, "-H", self.host, "--no-ansi", *words],
            capture_output=True, text=True, timeout=180, check=False, cwd=project,
        )  # fmt: skip
        assert done.returncode == 0, (words, done.stdout, done.stderr, self.log[-3000:])
        return done.stdout + done.stderr

    def inspect(self, name: str) -> dict[str, Any]:
        (found,) = json.loads(self("inspect", name).stdout)
        return dict(found)

    def inside(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command where the ports that dockerd publishes are."""
        return subprocess.run(
            ["nsenter", "--net", "--target", str(self.process.pid), *command],
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip

    def on_a_terminal(self, *words: str) -> str:
        """Run docker with a terminal; what appeared on it."""
        ours, theirs = pty.openpty()
        with subprocess.Popen(
            [_DOCKER, "-H", self.host, *words],
            stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
        ) as process:  # fmt: skip
            os.close(theirs)
            seen = b""
            with suppress(OSError):  # EIO: the other end is closed
                while data := os.read(ours, 4096):
                    seen += data
            os.close(ours)
            assert process.wait(60) == 0, seen
        return seen.decode(errors="replace")


@contextmanager
def dockerd(cored: Daemon) -> Iterator[Docker]:
    """dockerd on ``cored``'s socket until the body ends; its containers go with it."""
    with home("dk") as place, (place / "log").open("wb") as log:
        arguments = [
            f"--containerd={cored.address}",
            "--containerd-namespace=docker-test",
            "--containerd-plugins-namespace=docker-test-plugins",
            f"--data-root={place}/data",
            f"--exec-root={place}/exec",
            f"--pidfile={place}/pid",
            f"--host=unix://{place}/sock",
        ]
        # with a network namespace of its own no rule and no bridge of it gets out
        command = 'ip link set lo up && exec /usr/sbin/dockerd "$@"'
        process = subprocess.Popen(
            ["unshare", "--net", "sh", "-c", command, "dockerd", *arguments],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
        docker = Docker(place, process)
        try:
            end = time.monotonic() + 90
            while not (place / "sock").exists():
                assert process.poll() is None and time.monotonic() < end, docker.log[-4000:]
                time.sleep(0.05)
            yield docker
            remaining = docker("ps", "-aq").stdout.split()
            if remaining:
                docker("rm", "-f", *remaining)
        finally:
            process.terminate()
            process.wait(90)
