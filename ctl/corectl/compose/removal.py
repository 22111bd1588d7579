"""What ``down`` and ``stop`` do: from what is there to steps, dependents first."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from corectl.compose.existing import Existing, Replica
from corectl.compose.steps import (
    Plan,
    RemoveContainer,
    RemoveImage,
    RemoveNetwork,
    RemoveVolume,
    StopContainer,
)

__all__ = ["DownOptions", "plan_down", "plan_stop"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DownOptions:
    """``volumes`` and ``images`` are names of what goes, too; ``timeout`` in seconds."""

    timeout: int | None = None
    volumes: Sequence[str] = ()
    anonymous: bool = False
    images: Sequence[str] = ()


def plan_stop(replicas: Iterable[Replica], timeout: int | None) -> Plan:
    """Stop those that run; one only when those that depend on it have ended."""
    plan = Plan()
    _stops(plan, list(replicas), timeout)
    return plan


def plan_down(
    replicas: Sequence[Replica], existing: Existing, options: DownOptions, *, everything: bool
) -> Plan:
    """Stop and remove; with ``everything`` also networks, volumes and images."""
    plan = Plan()
    stops = _stops(plan, replicas, options.timeout)
    removed = [
        plan.add(RemoveContainer(r.name, options.anonymous), [stops[r.id]] if r.id in stops else [])
        for r in replicas
    ]
    if not everything:
        return plan
    for network in sorted(existing.networks or ()):
        plan.add(RemoveNetwork(network), removed)
    for volume in options.volumes:
        plan.add(RemoveVolume(volume), removed)
    for image in options.images:
        plan.add(RemoveImage(image), removed)
    return plan


def _stops(plan: Plan, replicas: Sequence[Replica], timeout: int | None) -> dict[str, int]:
    """A step for each that runs, by its id. Services that form a circle stop at once."""
    left = {r.service for r in replicas}
    found: dict[str, int] = {}
    by_service: dict[str, list[int]] = {}
    while left:
        needed = {need for r in replicas if r.service in left for need in r.needs}
        free = sorted(name for name in left if name not in needed) or sorted(left)
        for name in free:
            dependents = {r.service for r in replicas if name in r.needs}
            after = [step for other in dependents for step in by_service.get(other, ())]
            by_service[name] = []
            for replica in replicas:
                if replica.service == name and replica.alive:
                    step = plan.add(StopContainer(replica.name, name, timeout), after)
                    found[replica.id] = step
                    by_service[name].append(step)
        left -= set(free)
    return found
