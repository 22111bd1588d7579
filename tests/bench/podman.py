"""Debian's podman on roots of its own."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

__all__ = ["LIMITS", "podman"]

# podman's own may be above those of whoever runs this
LIMITS = ("--ulimit=nofile=1024:1024", "--ulimit=nproc=1024:1024")


def podman(place: Path, archive: Path) -> Sequence[str]:
    """The command line of a podman below ``place`` that knows the archive's image."""
    home = place / "podman"
    (home / "net").mkdir(parents=True)
    places = [f"--{name}={home / name}" for name in ("root", "runroot", "tmpdir")]
    command = ["podman", *places, f"--network-config-dir={home}/net", "--log-level=error"]
    subprocess.run([*command, "load", "-q", "-i", archive], check=True, stdout=subprocess.DEVNULL)
    return command
