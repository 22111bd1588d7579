"""What a container has of others: their network, their IPC, their processes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cored.abc.records import Container
from cored.engine.networking import SHARED
from cored.engine.workload import NAME, ContainerConfig, decoded
from cored.errors import FailedPrecondition

__all__ = ["Borrowed", "Sharing", "renewed"]


@dataclass(frozen=True, slots=True)
class Borrowed:
    """``paths`` are namespaces by kind; with a network go ``files`` and host name, with IPC
    ``shm``."""

    paths: Mapping[str, str] = field(default_factory=dict)
    files: Path | None = None
    hostname: str = ""
    shm: str = ""


class Sharing:
    """``pid`` answers the first process of a container that runs, 0 for others; ``netns`` the
    file that keeps a network; ``place`` its directory among ours."""

    def __init__(
        self,
        find: Callable[[str], Awaitable[Container]],
        pid: Callable[[str], int],
        netns: Callable[[str], Path],
        place: Callable[[str], Path],
        hostname: Callable[[str, ContainerConfig], str],
    ) -> None:
        self.find = find
        self._pid = pid
        self._netns = netns
        self._place = place
        self._hostname = hostname

    async def borrowed(self, config: ContainerConfig) -> Borrowed | None:
        """What it has of others, None for nothing. FailedPrecondition for one that is not there."""
        paths: dict[str, str] = {}
        files, hostname, shm = None, "", ""
        wanted = {"network": config.network}
        wanted |= {kind: getattr(config.namespaces, kind) for kind in ("ipc", "pid")}
        for kind, value in wanted.items():
            if not value.startswith(SHARED):
                continue
            other, theirs = await self._owner(kind, value)
            pid = self._pid(other.id)
            if not pid:
                raise FailedPrecondition(
                    f"{kind} {value!r}: that container is not running",
                    hint=f"start it: corectl start {other.labels.get(NAME, other.id)}",
                )
            paths[kind] = f"/proc/{pid}/ns/{'net' if kind == 'network' else kind}"
            if kind == "network":
                files, hostname = self._place(other.id), self._hostname(other.id, theirs)
                if self._netns(other.id).exists():
                    paths[kind] = str(self._netns(other.id))
            elif kind == "ipc":
                if theirs.namespaces.ipc == "shareable":
                    shm = str(self._place(other.id) / "shm")
                elif theirs.namespaces.ipc == "host":
                    shm = "/dev/shm"
                else:
                    name = other.labels.get(NAME, other.id)
                    raise FailedPrecondition(
                        f"ipc {value!r}: is that container's own",
                        hint=f"make {name} with --ipc shareable",
                    )
        return Borrowed(paths, files, hostname, shm) if paths else None

    async def _owner(self, kind: str, value: str) -> tuple[Container, ContainerConfig]:
        """Whose namespace it is in the end."""
        seen: set[str] = set()
        while True:
            other = await self.find(value.removeprefix(SHARED))
            theirs, _ = decoded(other)
            named = theirs.network if kind == "network" else getattr(theirs.namespaces, kind)
            if not named.startswith(SHARED):
                return other, theirs
            if other.id in seen:  # made again under the names of each other
                raise FailedPrecondition(f"{kind} {value!r}: containers share it in a circle")
            seen.add(other.id)
            value = named


def renewed(document: dict[str, Any], borrowed: Borrowed) -> None:
    """Put the others' namespaces of now into a spec: they may have been started again."""
    for one in document["linux"]["namespaces"]:
        if one["type"] in borrowed.paths:
            one["path"] = borrowed.paths[one["type"]]
    for mount in document["mounts"]:
        if mount["destination"] == "/dev/shm" and borrowed.shm:
            mount["source"] = borrowed.shm
