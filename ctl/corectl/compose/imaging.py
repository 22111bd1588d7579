"""Services' images: which are there, which are to be fetched or built."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

from corectl.compose.building import built_after
from corectl.compose.model import Service
from corectl.compose.preparing import first_images
from corectl.compose.printing import image_of
from corectl.compose.project import Project
from corectl.compose.steps import Build, Plan, Pull
from cored.errors import InvalidArgument, NotFound

if TYPE_CHECKING:
    from cored.client.workloads import Workloads

__all__ = ["builds", "digests", "pulls"]

_AGES = {"daily": 86_400, "weekly": 604_800}
_UNITS = {"w": 604_800, "d": 86_400, "h": 3600, "m": 60, "s": 1}


def digests(project: Project, workloads: Workloads) -> dict[str, str]:
    """The digest of every image that is there, by what the services call it."""
    found: dict[str, str] = {}
    wanted = [image_of(project, name) for name in project.services]
    wanted += [one for service in project.services.values() for one in first_images(service)]
    for image in dict.fromkeys(wanted):
        try:
            found[image] = workloads.inspect_image(image).target.digest
        except NotFound:
            continue
    return found


def pulls(project: Project, workloads: Workloads, there: dict[str, str], policy: str = "") -> Plan:
    """A step for each image to fetch; ``policy`` counts for more than the services' own."""
    plan = Plan()
    asked: set[str] = set()
    for name, service in project.services.items():
        image = image_of(project, name)
        if image in asked or not service.image:
            continue
        if _wanted(service, policy or service.pull_policy, workloads, image in there):
            asked.add(image)
            plan.add(Pull(image, service.platform, needed=service.build is None))
    for service in project.services.values():
        for image in set(first_images(service)) - asked - there.keys():
            asked.add(image)
            plan.add(Pull(image, service.platform))
    return plan


def builds(project: Project, there: dict[str, str], *, everything: bool) -> Plan:
    """A step for each image to build: those that are missing, or all."""
    plan = Plan()
    wanted = {
        name: service.build
        for name, service in project.services.items()
        if service.build is not None
        and (everything or image_of(project, name) not in there or service.pull_policy == "build")
    }
    steps: dict[str, int] = {}
    while wanted:
        # those that others begin with come first; a circle is for the builder to tell
        free = [n for n, one in wanted.items() if not built_after(one) & wanted.keys()]
        for name in free or list(wanted):
            after = [steps[other] for other in built_after(wanted[name]) if other in steps]
            steps[name] = plan.add(Build(image_of(project, name), name), after)
        wanted = {name: one for name, one in wanted.items() if name not in steps}
    return plan


def _wanted(service: Service, policy: str, workloads: Workloads, there: bool) -> bool:
    match policy:
        case "always":
            return True
        case "never":
            return False
        case "build" if service.build is not None:
            return False
        case "" | "missing" | "if_not_present" | "build":
            return not there
    age = _AGES.get(policy) or _every(policy, service)
    if not there:
        return True
    made: float = workloads.inspect_image(service.image).created_at.seconds
    return time.time() - made > age


def _every(policy: str, service: Service) -> int:
    text = policy.removeprefix("every_") if policy.startswith("every_") else ""
    if policy == "refresh":
        text = service.pull_refresh_after
    parts = re.findall(r"(\d+)([wdhms])", text)
    if not parts or "".join(n + unit for n, unit in parts) != text:
        raise InvalidArgument(
            f"pull_policy '{policy}': not understood",
            hint="always, never, missing, build, daily, weekly, every_12h",
        )
    return sum(int(number) * _UNITS[unit] for number, unit in parts)
