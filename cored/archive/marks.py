"""How layers say that something is gone: in archives by name, in overlays by device and xattr.

https://github.com/opencontainers/image-spec/blob/main/layer.md#whiteouts and the kernel's
Documentation/filesystems/overlayfs.rst, "whiteouts and opaque directories".
"""

from __future__ import annotations

import errno
import os
import stat

__all__ = [
    "OPAQUE",
    "OPAQUE_NAME",
    "OPAQUE_XATTR",
    "WHITEOUT",
    "is_opaque",
    "is_overlays",
    "is_whiteout",
    "unmark_opaque",
]

WHITEOUT = b".wh."
OPAQUE_NAME = b".wh..wh..opq"
OPAQUE_XATTR = b"trusted.overlay.opaque"
OPAQUE = b"y"


def is_whiteout(there: os.stat_result) -> bool:
    """Whether this is overlay's mark of a removed name: a character device 0:0."""
    return stat.S_ISCHR(there.st_mode) and there.st_rdev == 0


def is_opaque(path: bytes | int) -> bool:
    """Whether a directory hides all that lies below it."""
    try:
        return os.getxattr(path, OPAQUE_XATTR) == OPAQUE
    except OSError as error:
        if error.errno in (errno.ENODATA, errno.EOPNOTSUPP):
            return False
        raise


def unmark_opaque(path: int) -> None:
    """Take the mark of an opaque directory away; fine where there is none."""
    if is_opaque(path):
        os.removexattr(path, OPAQUE_XATTR)


def is_overlays(xattr: bytes) -> bool:
    """Whether an xattr belongs to overlay's own bookkeeping, and so never to a layer."""
    return xattr.startswith((b"trusted.overlay.", b"user.overlay."))
