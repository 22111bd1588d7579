"""User namespaces of containers: which of the host's ids they get, and their root filesystems."""

from __future__ import annotations

import asyncio
import json
import pwd
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

from cored import scope
from cored.abc.records import Container, ContainerStore, NamespaceStore
from cored.abc.values import Mount
from cored.errors import FailedPrecondition, ResourceExhausted
from cored.oci.users import IdRange, subordinate
from cored.scope import Scope

__all__ = ["AUTO_USER", "IdRanges", "chosen", "ids_of", "mapped"]

# whose subordinate ids are given out by "auto"
AUTO_USER = "cored"
_COUNT = 65536


class IdRanges:
    """Gives out ids so that no two containers of any namespace have the same."""

    def __init__(self, containers: ContainerStore, namespaces: NamespaceStore) -> None:
        self._containers = containers
        self._namespaces = namespaces
        self._lock = asyncio.Lock()
        self._reserved: list[IdRange] = []

    @asynccontextmanager
    async def reserved(self, wanted: str) -> AsyncIterator[IdRange | None]:
        """Ids as :func:`chosen` has them, kept until the container's record names them."""
        if wanted in ("", "host"):
            yield None
            return
        async with self._lock:
            taken = [*self._reserved]
            for namespace in await self._namespaces.list():
                with scope.entered(Scope(namespace.name)):
                    found = map(ids_of, await self._containers.list())
                taken += [ids for ids in found if ids is not None]
            ids = await asyncio.to_thread(chosen, wanted, taken)
            self._reserved.append(ids)
        try:
            yield ids
        finally:
            self._reserved.remove(ids)


def chosen(wanted: str, taken: Iterable[IdRange], root: Path = Path("/")) -> IdRange:
    """The ids for ``auto`` or a user's name.

    FailedPrecondition when the user has none, ResourceExhausted when all are ``taken``. Blocks.
    """
    name = AUTO_USER if wanted == "auto" else wanted
    ranges = _ranges(name, root)
    if not ranges:
        raise FailedPrecondition(
            f"user namespace {wanted!r}: the user {name!r} has no subordinate ids",
            hint=f"put {name}:1000000:6553600 into /etc/subuid and /etc/subgid",
        )
    if wanted != "auto":
        return ranges[0]
    used = list(taken)
    for one in ranges:
        for first in range(one.first, one.first + one.count - _COUNT + 1, _COUNT):
            if all(first + _COUNT <= u.first or u.first + u.count <= first for u in used):
                return IdRange(first, _COUNT)
    raise ResourceExhausted(
        "user namespace 'auto': all subordinate ids are in use",
        hint=f"remove containers, or give {name} more of them in /etc/subuid and /etc/subgid",
    )


def ids_of(record: Container) -> IdRange | None:
    """The ids that a container has."""
    if record.spec is None:
        return None
    document = json.loads(record.spec.value)
    maps = document.get("linux", {}).get("uidMappings") or []
    return IdRange(maps[0]["hostID"], maps[0]["size"]) if maps else None


def mapped(mounts: Sequence[Mount], ids: IdRange | None) -> list[Mount]:
    """The root filesystem with its owners seen through the namespace (``coreshim.idmaps``)."""
    if ids is None:
        return list(mounts)
    option = f"X-mount.idmap=b:0:{ids.first}:{ids.count}"
    return [replace(mount, options=(*mount.options, option)) for mount in mounts]


def _ranges(name: str, root: Path) -> list[IdRange]:
    """Those that the user has for users and for groups alike."""
    try:
        number: int | None = pwd.getpwnam(name).pw_uid
    except KeyError:
        number = None
    users, groups = (
        subordinate(name, number, (root / "etc" / file).read_text())
        if (root / "etc" / file).exists()
        else []
        for file in ("subuid", "subgid")
    )
    return [one for one in users if one in groups]
