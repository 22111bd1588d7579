"""Which services need which: depends_on, links, namespaces and volumes of others."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from corectl.compose.model import Service
from corectl.compose.parts import Dependency
from cored.errors import InvalidArgument

__all__ = ["dependencies", "layers", "needed_by"]

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
    left = {
        name: {need for need in dependencies(one) if need in services}
        for name, one in services.items()
    }
    found: list[list[str]] = []
    while left:
        ready = sorted(name for name, needs in left.items() if not needs & left.keys())
        if not ready:
            raise InvalidArgument(f"services depend on each other: {' -> '.join(_circle(left))}")
        found.append(ready)
        for name in ready:
            del left[name]
    return found


def _circle(needs: Mapping[str, set[str]]) -> list[str]:
    trail = [min(needs)]
    while True:
        following = min(need for need in needs[trail[-1]] if need in needs)
        if following in trail:
            return [*trail[trail.index(following) :], following]
        trail.append(following)
