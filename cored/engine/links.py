"""Links: a container finds others by names that were given for it alone."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace

from cored.abc.records import Container
from cored.engine.networking import Networking
from cored.engine.workload import NAME, ContainerConfig
from cored.errors import FailedPrecondition, InvalidArgument

__all__ = ["check", "linked"]

Find = Callable[[str], Awaitable[Container]]


async def check(config: ContainerConfig, find: Find) -> None:
    """All whom it is linked with are there. NotFound, InvalidArgument."""
    for link in config.links:
        await find(_parsed(link)[0])


async def linked(config: ContainerConfig, find: Find, networking: Networking) -> ContainerConfig:
    """With the addresses of those it is linked with, under alias, name and id.

    FailedPrecondition for one that does not run, or shares no network.
    """
    lines = list(config.extra_hosts)
    mine = {config.network or "bridge", *(one.network for one in config.endpoints)}
    for link in config.links:
        name, alias = _parsed(link)
        other = await find(name)
        shared = [one for one in networking.of(other.id) if one.network in mine]
        if not shared:
            raise FailedPrecondition(
                f"link {link!r}: that container does not run, or shares no network with this one",
                hint=f"start it first: corectl start {name}",
            )
        address = next(one.partition("/")[0] for one in shared[0].addresses)
        names = (alias, other.labels.get(NAME, ""), other.id[:12])
        lines += [f"{each}:{address}" for each in dict.fromkeys(filter(None, names))]
    return replace(config, extra_hosts=tuple(lines))


def _parsed(link: str) -> tuple[str, str]:
    name, colon, alias = link.partition(":")
    if not name or (colon and not alias) or ":" in alias:
        raise InvalidArgument(f"link {link!r}: not understood", hint="write NAME or NAME:ALIAS")
    return name, alias or name
