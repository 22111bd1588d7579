"""Whether overlays work here, found out by making one."""

from __future__ import annotations

import shutil
from pathlib import Path

from cored.abc.values import Mount
from cored.errors import InvalidArgument, Unimplemented
from cored.linux import mount_all, unmount

__all__ = ["in_user_namespace", "probe"]

_HINT = 'use snapshotter "native", or put the root on ext4, xfs or btrfs'


def in_user_namespace() -> bool:
    """Whether this process' ids are not the machine's own."""
    # the first namespace maps all ids to themselves, see user_namespaces(7)
    return Path("/proc/self/uid_map").read_text().split() != ["0", "0", "4294967295"]


def probe(root: Path) -> None:
    """Unimplemented where the kernel, or the filesystem below ``root``, cannot do overlays.

    InvalidArgument for a path that cannot be written in the options of an overlay.
    """
    if odd := set(str(root)) & set(':,\\"'):
        raise InvalidArgument(
            f"overlayfs on {root}: the path holds {' '.join(sorted(odd))}",
            hint="choose another root",
        )
    place = root / "probe"
    shutil.rmtree(place, ignore_errors=not place.exists())
    for name in ("lower", "upper", "work", "merged"):
        (place / name).mkdir(parents=True)
    (place / "lower/gone").touch()
    try:
        _try_whiteout(place)
    except OSError as error:
        raise Unimplemented(f"overlayfs on {root}: {error.strerror}", hint=_HINT) from error
    finally:
        shutil.rmtree(place)


def _try_whiteout(place: Path) -> None:
    options = [f"workdir={place}/work", f"upperdir={place}/upper", f"lowerdir={place}/lower"]
    if in_user_namespace():
        options.append("userxattr")
    mount_all([Mount("overlay", "overlay", options=tuple(options))], place / "merged")
    try:
        (place / "merged/gone").unlink()
        left = [path.name for path in (place / "merged").iterdir()]
    finally:
        unmount(place / "merged", lazy=True)
    if left:  # a filesystem whose directories do not tell types (xfs with ftype=0) shows whiteouts
        raise Unimplemented(f"overlayfs on {place.parent}: removed files stay visible", hint=_HINT)
