"""Which services need which: depends_on, links, namespaces and volumes of others."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from corectl.compose.model import Service
from corectl.compose.parts import Dependency
from cored.errors import InvalidArgument

__all__ = ["circle", "dependencies", "layers", "needed_by", "reason"]

_SHARED = ("network_mode", "ipc", "pid")


def dependencies(service: Service) -> dict[str, Dependency]:
    """What has to be there before a service's containers start."""
    found = {}
    for link in service.links:
        found[link.partition(":")[0]] = Dependency()
    for name in service.volumes_from:
        if not name.startswith("container:"):
            found[name.partition(":")[0]] = Dependency()
    for key in _SHARED:
        kind, _, name = str(getattr(service, key)).partition(":")
        if kind == "service":
            found[name] = Dependency()
    return {**found, **service.depends_on}


def reason(service: Service, need: str) -> str:
    """The key by which a service depends on ``need``, one of its :func:`dependencies`."""
    if need in service.depends_on:
        return "depends_on"
    if any(link.partition(":")[0] == need for link in service.links):
        return "links"
    if any(name.partition(":")[0] == need for name in service.volumes_from):
        return "volumes_from"
    return next(key for key in _SHARED if getattr(service, key) == f"service:{need}")


def needed_by(services: Mapping[str, Service], names: Iterable[str]) -> set[str]:
    """``names`` and, of ``services``, all that they need."""
    found: set[str] = set()
    left = list(names)
    while left:
        name = left.pop()
        if name in found or name not in services:
            continue
        found.add(name)
        left += dependencies(services[name])
    return found


def layers(services: Mapping[str, Service]) -> list[list[str]]:
    """Names in an order where dependencies come first, in groups that need nothing of each other.

    InvalidArgument for a circle.
    """
    found, left = _sorted(services)
    if left:
        raise InvalidArgument(f"services depend on each other: {' -> '.join(circle(services))}")
    return found


def circle(services: Mapping[str, Service]) -> list[str]:
    """Services of which each needs the next, the first one again at the end; empty where none."""
    _, left = _sorted(services)
    if not left:
        return []
    trail = [min(left)]
    while True:
        following = min(need for need in left[trail[-1]] if need in left)
        if following in trail:
            return [*trail[trail.index(following) :], following]
        trail.append(following)


def _sorted(services: Mapping[str, Service]) -> tuple[list[list[str]], dict[str, set[str]]]:
    """The groups, and what is left because it goes round in a circle."""
    left = {
        name: {need for need in dependencies(one) if need in services}
        for name, one in services.items()
    }
    found: list[list[str]] = []
    while ready := sorted(name for name, needs in left.items() if not needs & left.keys()):
        found.append(ready)
        for name in ready:
            del left[name]
    return found, left
