"""The small first process of ``--init``: tini, as Debian's packages tini and docker.io bring it."""

from __future__ import annotations

import os

from cored.errors import FailedPrecondition

__all__ = ["PLACE", "program"]

PLACE = "/sbin/docker-init"
"""Where it is in a container; docker's."""

# static ones: what is in the image does not matter to them
_PROGRAMS = (
    "/usr/bin/tini-static", "/usr/bin/docker-init", "/usr/libexec/docker/docker-init",
    "/usr/local/bin/docker-init", "/usr/libexec/podman/catatonit",
)  # fmt: skip


def program() -> str:
    """Its path on this host. FailedPrecondition where there is none."""
    for path in _PROGRAMS:
        if os.access(path, os.X_OK):
            return path
    raise FailedPrecondition("init: this host has none", hint="install the package tini")
