"""``RUN --device``: which of the devices that a step asks for it gets."""

from __future__ import annotations

from collections.abc import Collection

from cored.engine import cdi
from cored.errors import NotFound, PermissionDenied
from cored_service_build.dockerfile.instructions import Run

__all__ = ["allowed_devices"]


def allowed_devices(entry: Run, allow: Collection[str]) -> tuple[str, ...]:
    """CDI names; one that is not here is left out unless it is required.

    PermissionDenied for what ``allow`` has not, NotFound.
    """
    found = []
    for name, required in entry.devices:
        try:
            cdi.found((name,))
        except NotFound:
            if required:
                raise
            continue
        if not {"device", f"device={name}"} & {*allow}:
            raise PermissionDenied(
                f"device {name!r}: is not allowed", hint=f"--allow device={name}"
            )
        found.append(name)
    return tuple(found)
