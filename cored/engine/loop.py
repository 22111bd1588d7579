"""Loop devices as mounts: ``loop`` makes a block device of a file (loop(4))."""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import time
from collections.abc import Sequence
from pathlib import Path

from cored.abc.mounts import ActiveMount, MountHandler
from cored.abc.values import Mount
from cored.errors import Unavailable, from_os_error

__all__ = ["LoopHandler"]

_SET_FD = 0x4C00
_CLEAR_FD = 0x4C01
_SET_STATUS64 = 0x4C04
_GET_FREE = 0x4C82
# struct loop_info64: the file's name is at 56
_INFO = "=56x64s112x"
_TRIES = 20


class LoopHandler(MountHandler):
    """The mount point is a symbolic link to the device."""

    def mount(self, mount: Mount, point: Path, before: Sequence[ActiveMount]) -> ActiveMount:
        """Attach ``mount.source``; option ``ro`` makes it read-only."""
        del before
        readonly = "ro" in mount.options
        try:
            backing = os.open(mount.source, (os.O_RDONLY if readonly else os.O_RDWR) | os.O_CLOEXEC)
        except OSError as error:
            raise from_os_error(f"loop: file {mount.source}", error) from error
        try:
            device = _attached(backing, mount.source, readonly)
        finally:
            os.close(backing)
        try:
            point.symlink_to(device)
        except OSError:
            _detach(device)
            raise
        return ActiveMount(mount, os.fspath(point), time.time_ns(), {"device": device})

    def unmount(self, point: Path) -> None:
        """Detach the device, when its last user is gone."""
        try:
            device = str(point.readlink())
        except FileNotFoundError:
            return
        _detach(device)
        point.unlink()


def _attached(backing: int, source: str, readonly: bool) -> str:
    """A free device with the file attached."""
    try:
        control = os.open("/dev/loop-control", os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise Unavailable("loop: the kernel has no loop devices", hint="modprobe loop") from error
    try:
        for _ in range(_TRIES):
            device = f"/dev/loop{fcntl.ioctl(control, _GET_FREE)}"
            fd = os.open(device, (os.O_RDONLY if readonly else os.O_RDWR) | os.O_CLOEXEC)
            try:
                fcntl.ioctl(fd, _SET_FD, backing)
                # losetup(8) shows whose it is
                fcntl.ioctl(fd, _SET_STATUS64, struct.pack(_INFO, os.fsencode(source)[:63]))
                return device
            except OSError as error:
                if error.errno != errno.EBUSY:  # somebody else was quicker
                    raise from_os_error(f"loop: device {device}", error) from error
            finally:
                os.close(fd)
    finally:
        os.close(control)
    raise Unavailable("loop: no device could be had", hint="try again")


def _detach(device: str) -> None:
    fd = os.open(device, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.ioctl(fd, _CLEAR_FD)
    except OSError as error:
        if error.errno != errno.ENXIO:  # nothing is attached any more
            raise from_os_error(f"loop: device {device}", error) from error
    finally:
        os.close(fd)
