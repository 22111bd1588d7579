"""btrfs subvolumes by ioctl (numbers and layouts: linux/btrfs.h). All raise OSError."""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cored.dataclass import dataclass

__all__ = [
    "NOT_BTRFS",
    "Item",
    "SubvolumeInfo",
    "create",
    "delete",
    "info",
    "is_subvolume",
    "opened",
    "search",
    "set_read_only",
    "snapshot",
    "sync",
]

NOT_BTRFS = (errno.ENOTTY, errno.EOPNOTSUPP, errno.EINVAL)

_SYNC = 0x9408
_SUBVOL_CREATE, _SNAP_DESTROY = 0x5000940E, 0x5000940F
_SNAP_CREATE_V2, _SNAP_DESTROY_V2 = 0x50009417, 0x5000943F
_GET_FLAGS, _SET_FLAGS = 0x80089419, 0x4008941A
_GET_INFO, _TREE_SEARCH_V2 = 0x81F8943C, 0xC0709411
_READ_ONLY, _BY_ID = 1 << 1, 1 << 4
_VOLUME = struct.Struct("=q4088s")  # struct btrfs_ioctl_vol_args
_VOLUME_V2 = struct.Struct("=qQQ32s4040s")  # struct btrfs_ioctl_vol_args_v2
_KEY = struct.Struct("=7Q4L32xQ")  # struct btrfs_ioctl_search_key, and the size of the buffer
_HEADER = struct.Struct("=3Q2L")  # struct btrfs_ioctl_search_header
_INFO_SIZE = 504
_BUFFER = 1 << 18
_ROOT_TREE, _ROOT_REF = 1, 156
_FIRST_INODE = 256
"""The inode number of every subvolume's root."""
_MOST = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class SubvolumeInfo:
    """``made_in`` is the number of the transaction that created it."""

    id: int
    read_only: bool
    made_in: int


@dataclass(frozen=True, slots=True)
class Item:
    """One item of a tree; what ``data`` means depends on the ``type`` of its key."""

    object: int
    type: int
    offset: int
    data: memoryview


@contextmanager
def opened(directory: Path) -> Iterator[int]:
    """An open directory, itself no symbolic link."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    handle = os.open(directory, flags)
    try:
        yield handle
    finally:
        os.close(handle)


def create(path: Path) -> None:
    """Make an empty subvolume."""
    with opened(path.parent) as parent:
        _call(parent, _SUBVOL_CREATE, bytearray(_VOLUME.pack(0, os.fsencode(path.name))), path)


def snapshot(source: Path, path: Path) -> None:
    """Make a writable snapshot of the subvolume ``source``; durable when it returns."""
    with opened(source) as old, opened(path.parent) as parent:
        wanted = _VOLUME_V2.pack(old, 0, 0, b"", os.fsencode(path.name))
        _call(parent, _SNAP_CREATE_V2, bytearray(wanted), path)


def delete(path: Path) -> None:
    """Delete a subvolume with all those nested in it; the filesystem frees its blocks later."""
    with opened(path) as handle:
        _writable(handle)
        for nested in _nested(handle, info(path).id):
            _call(handle, _SNAP_DESTROY_V2, _by_id(nested), path)
    with opened(path.parent) as parent:
        _call(parent, _SNAP_DESTROY, bytearray(_VOLUME.pack(0, os.fsencode(path.name))), path)


def is_subvolume(path: Path) -> bool:
    """Whether a directory on btrfs is the root of a subvolume."""
    return path.lstat().st_ino == _FIRST_INODE


def set_read_only(path: Path, wanted: bool) -> None:
    """Have the filesystem refuse all changes below ``path``, or allow them again."""
    with opened(path) as handle:
        flags = _flags(handle)
        if bool(flags & _READ_ONLY) != wanted:
            _set_flags(handle, flags ^ _READ_ONLY)


def info(path: Path) -> SubvolumeInfo:
    """What the filesystem knows of a subvolume (Linux 4.18)."""
    answer = bytearray(_INFO_SIZE)
    with opened(path) as handle:
        _call(handle, _GET_INFO, answer, path)
    (id,) = struct.unpack_from("=Q", answer)
    (flags,) = struct.unpack_from("=Q", answer, 288)
    (made_in,) = struct.unpack_from("=Q", answer, 352)
    # the flag has another bit on the disk than in the ioctls
    return SubvolumeInfo(id, bool(flags & 1), made_in)


def sync(handle: int) -> None:
    """Write the filesystem of ``handle`` out: data that waits in memory has no extents yet."""
    fcntl.ioctl(handle, _SYNC)


def search(
    handle: int, *, tree: int = 0, first: int = 0, last: int = _MOST, since: int = 0
) -> Iterator[Item]:
    """The items of a tree (0: that of the open subvolume) with objects ``first`` to ``last``.

    Blocks that no transaction from ``since`` on has written are skipped. An item's data is valid
    until the next one.
    """
    at: tuple[int, int, int] | None = (first, 0, 0)
    while at is not None:
        object, type, offset = at
        buffer = bytearray(_KEY.size + _BUFFER)
        _KEY.pack_into(
            buffer, 0,
            tree, object, last, offset, _MOST, since, _MOST, type, 255, 1 << 31, 0, _BUFFER,
        )  # fmt: skip
        fcntl.ioctl(handle, _TREE_SEARCH_V2, buffer)
        (count,) = struct.unpack_from("=L", buffer, 64)
        view, place = memoryview(buffer), _KEY.size
        for _ in range(count):
            _, object, offset, type, length = _HEADER.unpack_from(buffer, place)
            place += _HEADER.size
            yield Item(object, type, offset, view[place : place + length])
            place += length
        at = _after(object, type, offset) if count else None


def _after(object: int, type: int, offset: int) -> tuple[int, int, int] | None:
    """The key that follows one."""
    if offset < _MOST:
        return object, type, offset + 1
    if type < 255:
        return object, type + 1, 0
    return (object + 1, 0, 0) if object < _MOST else None


def _nested(handle: int, id: int) -> list[int]:
    """The subvolumes below the subvolume ``id``, the innermost first."""
    # not recursively: a container may have made as deep ones as it likes
    below, pending = list[int](), [id]
    while pending:
        one = pending.pop()
        found = search(handle, tree=_ROOT_TREE, first=one, last=one)
        children = [item.offset for item in found if item.type == _ROOT_REF]
        below += children
        pending += children
    return below[::-1]


def _by_id(id: int) -> bytearray:
    return bytearray(_VOLUME_V2.pack(0, 0, _BY_ID, b"", struct.pack("=Q", id)))


def _flags(handle: int) -> int:
    answer = bytearray(8)
    fcntl.ioctl(handle, _GET_FLAGS, answer)
    return int.from_bytes(answer, "little")


def _set_flags(handle: int, flags: int) -> None:
    fcntl.ioctl(handle, _SET_FLAGS, bytearray(flags.to_bytes(8, "little")))


def _writable(handle: int) -> None:
    flags = _flags(handle)
    if flags & _READ_ONLY:
        _set_flags(handle, flags & ~_READ_ONLY)


def _call(handle: int, number: int, argument: bytearray, path: Path) -> None:
    try:
        fcntl.ioctl(handle, number, argument)
    except OSError as error:
        error.filename = str(path)
        raise
