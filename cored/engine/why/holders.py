"""Who has what somebody else wants: ports of the host, and places of mounts."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

__all__ = ["mount_holders", "port_holders"]

# listening, of the states in /proc/net/tcp (net/tcp_states.h); UDP has no such state
_LISTEN = "0A"
_SOCKET = re.compile(r"socket:\[(\d+)\]")


def port_holders(protocol: str, port: int) -> list[str]:
    """Processes of the daemon's network namespace that have a port: ``nginx (pid 12)``. Blocks."""
    wanted = set()
    for name in (protocol, f"{protocol}6"):
        with suppress(OSError):
            for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]:
                fields = line.split()
                taken = int(fields[1].rpartition(":")[2], 16) == port
                if taken and (protocol != "tcp" or fields[3] == _LISTEN):
                    wanted.add(fields[9])
    return _named(pid for pid in _pids() if wanted & _sockets(pid)) if wanted else []


def mount_holders(path: str) -> list[str]:
    """Processes in whose mount namespaces something is mounted at, or from, a path. Blocks."""
    seen: set[str] = set()
    found = []
    for pid in _pids():
        with suppress(OSError):
            space = os.readlink(f"/proc/{pid}/ns/mnt")  # noqa: PTH115 - no file that there is
            if space in seen:
                continue
            seen.add(space)
            lines = Path(f"/proc/{pid}/mountinfo").read_text().splitlines()
            if any(_is_about(line.split(), path) for line in lines):
                found.append(pid)
    return _named(iter(found))


def _is_about(fields: list[str], path: str) -> bool:
    """Whether a line of mountinfo (proc(5)) has it as root, place or source."""
    return path in fields[3:5] or path == fields[fields.index("-") + 2]


def _pids() -> Iterator[int]:
    for entry in os.scandir("/proc"):
        if entry.name.isdecimal():
            yield int(entry.name)


def _sockets(pid: int) -> set[str]:
    found = set()
    with suppress(OSError):  # it has just ended
        for entry in os.scandir(f"/proc/{pid}/fd"):
            with suppress(OSError):
                match = _SOCKET.match(os.readlink(entry.path))  # noqa: PTH115 - as above
                if match:
                    found.add(match[1])
    return found


def _named(pids: Iterator[int]) -> list[str]:
    found = []
    for pid in pids:
        with suppress(OSError):
            found.append(f"{Path(f'/proc/{pid}/comm').read_text().strip()} (pid {pid})")
    return found
