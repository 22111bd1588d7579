"""What a subvolume adds to the one that it is a snapshot of: exact, whether quotas are on or not.

Quota groups tell what a subvolume shares with nobody, which is less as soon as it has a child.
The filesystem's own records tell the transaction that wrote each extent and inode: those later
than the snapshot are the layer's. Blocks of the parent that nobody touched are not even read.
"""

from __future__ import annotations

import struct
from pathlib import Path

from cored.abc.snapshots import Usage
from cored_snapshotter_btrfs import subvolumes

__all__ = ["added"]

_INODE, _EXTENT = 1, 108
_INODE_HEAD = struct.Struct("=QQ")  # struct btrfs_inode_item: generation, transid
_EXTENT_HEAD = struct.Struct("=QQBBHB")  # struct btrfs_file_extent_item up to its type
_EXTENT_PLACE = struct.Struct("=QQ")  # disk_bytenr, disk_num_bytes
_INLINE = 0


def added(tree: Path, *, snapshot: bool) -> Usage:
    """Bytes (as stored: compressed, without holes) and inodes that are new or changed in ``tree``.

    Without ``snapshot`` it has no parent, and all of it is new.
    """
    since = subvolumes.info(tree).made_in + 1 if snapshot else 0
    extents: dict[int, int] = {}
    size = inodes = 0
    with subvolumes.opened(tree) as handle:
        subvolumes.sync(handle)
        for item in subvolumes.search(handle, since=since):
            if item.type == _INODE:
                inodes += _INODE_HEAD.unpack_from(item.data)[1] >= since
            elif item.type == _EXTENT:
                written, _, _, _, _, kind = _EXTENT_HEAD.unpack_from(item.data)
                if written < since:
                    continue
                if kind == _INLINE:
                    size += len(item.data) - _EXTENT_HEAD.size
                    continue
                place, length = _EXTENT_PLACE.unpack_from(item.data, _EXTENT_HEAD.size)
                if place:  # 0 is a hole
                    extents[place] = length
    return Usage(size + sum(extents.values()), inodes)
