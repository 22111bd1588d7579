"""Devices of the host that a container is given."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

from cored.engine.workload import DeviceRequest
from cored.errors import InvalidArgument, NotFound
from cored.oci.devices import Device, permissions
from cored.oci.resources import Throttle

__all__ = ["everything", "found", "throttled"]

# what the runtime makes for each container itself
_OWN = frozenset({"pts", "shm", "fd", "mqueue", "console", "ptmx", "core"})


def found(wanted: Sequence[DeviceRequest]) -> list[Device]:
    """The devices by their paths. NotFound, InvalidArgument. Blocks."""
    devices: list[Device] = []
    for one in wanted:
        source, allowed = Path(one.source), permissions(one.permissions)
        target = one.target or one.source
        if not one.source.startswith("/") or not target.startswith("/"):
            raise InvalidArgument(f"device {one.source!r}: its paths must be absolute")
        if source.is_dir():
            inside = [
                _device(path, str(Path(target) / path.relative_to(source)), allowed)
                for path in sorted(source.rglob("*"))
                if _is_device(path)
            ]
            if not inside:
                raise NotFound(f"device {one.source!r}: there is none in this directory")
            devices += inside
        else:
            devices.append(_device(source, target, allowed))
    return devices


def everything(place: Path = Path("/dev")) -> list[Device]:
    """All devices of the host, for a privileged container. Blocks."""
    return [_device(path, str(path), "rwm") for path in _all(place)]


def throttled(wanted: Sequence[Throttle]) -> list[tuple[Throttle, int, int]]:
    """The throttles with the numbers of their devices. NotFound, InvalidArgument. Blocks."""
    result = []
    for throttle in wanted:
        device = _device(Path(throttle.path), throttle.path, "rwm")
        if device.kind != "b":
            raise InvalidArgument(f"device {throttle.path!r}: is not a block device")
        result.append((throttle, device.major, device.minor))
    return result


def _all(place: Path) -> Iterator[Path]:
    for entry in sorted(place.iterdir()):
        if entry.name in _OWN or entry.is_symlink():
            continue
        if entry.is_dir():
            yield from _all(entry)
        elif _is_device(entry):
            yield entry


def _is_device(path: Path) -> bool:
    try:
        mode = path.stat().st_mode
    except OSError:  # gone since, or a broken link
        return False
    return stat.S_ISCHR(mode) or stat.S_ISBLK(mode)


def _device(source: Path, target: str, allowed: str) -> Device:
    try:
        status = source.stat()
    except OSError as error:
        raise NotFound(f"device {str(source)!r}: {(error.strerror or '').lower()}") from error
    if not _is_device(source):
        raise InvalidArgument(f"device {str(source)!r}: is not a device")
    return Device(
        path=target,
        kind="b" if stat.S_ISBLK(status.st_mode) else "c",
        major=os.major(status.st_rdev),
        minor=os.minor(status.st_rdev),
        mode=stat.S_IMODE(status.st_mode),
        uid=status.st_uid,
        gid=status.st_gid,
        permissions=allowed,
    )
