"""``ctr events`` beside a test: what it prints between two moments that are known."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.daemons import Daemon
from tests.grpc_client import Client, kept, message
from tests.patience import eventually

__all__ = ["watched"]

_TYPE = "containerd.events.NamespaceDelete"


@contextmanager
def watched(daemon: Daemon, printed: Path) -> Iterator[Callable[[], list[str]]]:
    """``ctr events`` prints to a file, from before the body begins. What the call answers are its
    lines, with all in them that was published before."""
    command = ["ctr", "-a", str(daemon.address), "events"]
    begun = printed.stat().st_size if printed.exists() else 0
    count = 0

    def lines() -> list[str]:
        nonlocal count
        count += 1
        mark = f"marker-{id(lines)}-{begun}-{count}"
        event = kept(_TYPE, message(_TYPE, name=mark))
        with Client(daemon.address, "marker") as api:

            def seen() -> bool:
                # the first ones may come before the subscription stands
                api.events.Publish(topic="/tests/marker", event=event)
                return mark in printed.read_text()

            eventually(seen, why=lambda: f"ctr has printed only {printed.read_text()[begun:]!r}")
        return [line for line in printed.read_text()[begun:].splitlines() if "marker" not in line]

    with printed.open("ab") as out, subprocess.Popen(command, stdout=out, stderr=out) as watcher:
        try:
            lines()
            yield lines
        finally:
            watcher.terminate()
