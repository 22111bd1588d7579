"""The driver ``local``: a directory of this host, or what mount(8) would put there."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from cored import linux
from cored.abc.values import Mount
from cored.abc.volumes import Volume, VolumeDriver
from cored.errors import InvalidArgument, from_mount_error

__all__ = ["LocalDriver"]

_OPTIONS = ("type", "device", "o")


class LocalDriver(VolumeDriver):
    """Options ``type``, ``device`` and ``o`` as docker's; without them the directory is all."""

    def check(self, options: Mapping[str, str]) -> None:
        unknown = sorted(set(options) - {*_OPTIONS, "size"})
        if unknown:
            there = ", ".join(_OPTIONS)
            raise InvalidArgument(
                f"volume option {unknown[0]!r}: unknown", hint=f"there is {there}"
            )
        if "size" in options:
            raise InvalidArgument("volume option 'size': needs a quota, which is not built")
        if options and not options.get("device"):
            raise InvalidArgument("volume options: no device", hint="-o device=…")

    def create(self, volume: Volume, place: Path) -> None:
        self.directory(volume, place).mkdir(mode=0o755, exist_ok=True)

    def remove(self, volume: Volume, place: Path) -> None:
        self.detach(volume, place)

    def directory(self, volume: Volume, place: Path) -> Path:
        return place / "_data"

    def attach(self, volume: Volume, place: Path) -> None:
        target = self.directory(volume, place)
        if not volume.options or mounted(target):
            return
        kind, device = volume.options.get("type", ""), volume.options["device"]
        words = tuple(filter(None, volume.options.get("o", "").split(",")))
        if "bind" in words or "rbind" in words:
            kind = "bind"
        mount = Mount(kind or "none", device, options=words)
        try:
            linux.mount_all([mount], target)
        except OSError as error:
            raise from_mount_error(f"volume {volume.name!r}: {device!r}", error) from error

    def detach(self, volume: Volume, place: Path) -> None:
        target = self.directory(volume, place)
        if volume.options and mounted(target):
            linux.unmount_all(target, lazy=True)


def mounted(place: Path) -> bool:
    """Whether something is mounted there, a bind mount of the same filesystem too."""
    wanted = os.fspath(place.resolve())
    with Path("/proc/self/mountinfo").open() as lines:
        return any(_unescaped(line.split(" ", 5)[4]) == wanted for line in lines)


def _unescaped(text: str) -> str:
    r"""Spaces and the like are written as \040."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), text)
