"""A container's root filesystem, as its create request describes it."""

from __future__ import annotations

import errno
import os
from typing import Any

from cored import linux
from coreshim import idmaps
from coreshim.server import INVALID, UNKNOWN, Failure

__all__ = ["Rootfs"]

_UNMOUNTABLE = (errno.ENODEV, errno.EINVAL, errno.ENOENT, errno.ENOTDIR, errno.ENOTBLK)


class _Mount:
    """A mount as cored.linux takes it."""

    def __init__(self, values: dict[str, Any]) -> None:
        self.type = values["type"]
        self.source = values["source"]
        self.target = values["target"]
        self.options = values["options"]


class Rootfs:
    """A bundle's; ``mounted`` says whether there is something of ours on it."""

    def __init__(self, bundle: str) -> None:
        self._bundle = bundle
        self._path = os.path.join(bundle, "rootfs")
        self.mounted = False

    def mount(self, mounts: list[dict[str, Any]]) -> None:
        """Make all mounts, or none. Failure."""
        if not mounts:
            return
        os.makedirs(self._path, mode=0o711, exist_ok=True)
        try:
            entries = [_Mount(values) for values in mounts]
            with idmaps.applied(entries, self._bundle) as mapped:
                linux.mount_all(mapped, self._path)
        except OSError as error:
            # no such filesystem, bad options, no such source: what the request described
            code = INVALID if error.errno in _UNMOUNTABLE else UNKNOWN
            raise Failure(
                code, f"root filesystem {self._path}: cannot be mounted: {error.strerror}"
            ) from error
        self.mounted = True

    def unmount(self) -> None:
        """Undo :meth:`mount`."""
        if self.mounted:
            self.mounted = False
            linux.unmount_all(self._path, lazy=True)
