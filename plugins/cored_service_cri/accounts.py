"""The accounts in images: their /etc/passwd and /etc/group, read once for each."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from cored import linux
from cored.abc.values import Mount
from cored.errors import from_mount_error
from cored.plainfiles import text

__all__ = ["Accounts"]

_MOST = 500


class Accounts:
    """What is in an image stays as it is: texts are kept by chain id."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[str, str]] = {}

    async def of(self, chain_id: str, rootfs: Sequence[Mount], place: Path) -> tuple[str, str]:
        """(passwd, group) of an image; ``rootfs`` stands on it, and nobody has written to it yet.
        It is mounted below ``place`` for a moment. CoredError."""
        if chain_id not in self._known:
            self._known[chain_id] = await asyncio.to_thread(_accounts, rootfs, place)
            while len(self._known) > _MOST:
                del self._known[next(iter(self._known))]
        return self._known[chain_id]


def _accounts(rootfs: Sequence[Mount], place: Path) -> tuple[str, str]:
    try:
        with linux.mounted(rootfs, place) as root:
            return text(str(root), "/etc/passwd"), text(str(root), "/etc/group")
    except OSError as error:
        raise from_mount_error("root filesystem of a container", error) from error
