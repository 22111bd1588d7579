"""What a mount's type may ask for before it is mounted: ``format/mkdir/overlay`` and the like."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from cored import linux
from cored.abc.mounts import ActiveMount
from cored.abc.values import Mount
from cored.errors import InvalidArgument, PermissionDenied, Unavailable

__all__ = ["TRANSFORMS", "Roots", "split"]

_MKDIR = "X-containerd.mkdir."
_MKFS = "X-containerd.mkfs."
_FIELD = re.compile(r"\{\{-?\s*(\w+)\s+(\d+)(?:\s+(\d+))?\s*-?\}\}")
_UNITS = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
_LARGEST = 1 << 44
_FILESYSTEMS = {
    "ext2": ("mkfs.ext2", "-U {}"),
    "ext3": ("mkfs.ext3", "-U {}"),
    "ext4": ("mkfs.ext4", "-U {}"),
    "xfs": ("mkfs.xfs", "-m uuid={}"),
}


class Roots:
    """The directories in which a client may have directories and files made."""

    def __init__(self, allowed: Sequence[Path]) -> None:
        self._allowed = allowed

    def within(self, path: str) -> tuple[str, str]:
        """(allowed root, path below it). PermissionDenied for anything elsewhere."""
        wanted = Path(os.path.normpath(path))
        for root in self._allowed:
            if wanted != root and wanted.is_relative_to(root):
                return os.fspath(root), os.fspath(wanted.relative_to(root))
        raise PermissionDenied(
            f"mount: {path!r} is not in a directory where mounts may be prepared",
            hint=f"allowed: {', '.join(map(str, self._allowed))}",
        )


Transform = Callable[[Mount, Sequence[ActiveMount], Roots], Mount]


def split(type: str) -> tuple[list[str], str]:
    """The transforms that a mount's type begins with, and the type behind them."""
    transforms = []
    head, slash, rest = type.partition("/")
    while slash and head in TRANSFORMS:
        transforms.append(head)
        type = rest
        head, slash, rest = type.partition("/")
    return transforms, type


def _format(mount: Mount, before: Sequence[ActiveMount], roots: Roots) -> Mount:
    """Fill ``{{ mount 0 }}``, ``{{ source 0 }}``, ``{{ target 0 }}``, ``{{ overlay 2 0 }}`` in."""
    del roots

    def fill(found: re.Match[str]) -> str:
        word, first, last = found[1], int(found[2]), found[3]
        numbers = [first]
        if last is not None:
            step = 1 if first <= int(last) else -1
            numbers = list(range(first, int(last) + step, step))
        if max(numbers) >= len(before):
            raise InvalidArgument(
                f"mount: {found[0]!r} names mount {max(numbers)}, there are {len(before)} before it"
            )
        match word, last:
            case "source", None:
                return before[first].mount.source
            case "target", None:
                return before[first].mount.target
            case "mount", None:
                return before[first].point
            case "overlay", str():
                return ":".join(before[n].point for n in numbers)
            case _:
                raise InvalidArgument(f"mount: {found[0]!r} is unknown")

    def filled(text: str) -> str:
        result = _FIELD.sub(fill, text)
        if "{{" in result:
            raise InvalidArgument(f"mount: {text!r} cannot be formatted")
        return result

    return Mount(
        mount.type,
        filled(mount.source),
        filled(mount.target),
        tuple(filled(option) for option in mount.options),
    )


def _mkdir(mount: Mount, before: Sequence[ActiveMount], roots: Roots) -> Mount:
    """``X-containerd.mkdir.path=<path>[:<mode>[:<uid>:<gid>]]``: make directories first."""
    del before
    kept = []
    for option in mount.options:
        if not option.startswith(_MKDIR):
            kept.append(option)
            continue
        key, _, value = option.removeprefix(_MKDIR).partition("=")
        path, *rest = value.split(":")
        if key != "path" or len(rest) not in (0, 1, 3):
            raise InvalidArgument(f"mount option {option!r}: invalid")
        try:
            mode = int(rest[0], 8) if rest else 0o700
            owner = (int(rest[1]), int(rest[2])) if len(rest) == 3 else (0, 0)
        except ValueError:
            raise InvalidArgument(f"mount option {option!r}: mode or owner is no number") from None
        if not 0 <= mode <= 0o777:
            raise InvalidArgument(f"mount option {option!r}: invalid mode")
        _make_directory(roots, path, mode, owner)
    return Mount(mount.type, mount.source, mount.target, tuple(kept))


def _make_directory(roots: Roots, path: str, mode: int, owner: tuple[int, int]) -> None:
    root, below = roots.within(path)
    above, _, name = below.rpartition("/")
    with linux.opened_below(root, above or ".") as parent:
        place = Path(parent, name)
        try:
            place.mkdir(mode)
        except FileExistsError:
            if not place.is_dir() or place.is_symlink():
                raise InvalidArgument(f"mount: {path!r} exists and is no directory") from None
        else:
            os.chown(place, *owner, follow_symlinks=False)
            place.chmod(mode)


def _mkfs(mount: Mount, before: Sequence[ActiveMount], roots: Roots) -> Mount:
    """``X-containerd.mkfs.{size,fs,uuid}=``: make the source a file with a filesystem, once."""
    del before
    root, below = roots.within(mount.source)
    settings = {"fs": "ext4"}
    kept = []
    for option in mount.options:
        if not option.startswith(_MKFS):
            kept.append(option)
            continue
        key, _, value = option.removeprefix(_MKFS).partition("=")
        if key not in ("size", "fs", "uuid"):
            raise InvalidArgument(f"mount option {option!r}: unknown")
        settings[key] = value
    size = _size(settings.get("size", ""))
    if settings["fs"] not in _FILESYSTEMS:
        raise InvalidArgument(f"mkfs: unknown filesystem {settings['fs']!r}")
    program, uuid = _FILESYSTEMS[settings["fs"]]
    extra = uuid.format(settings["uuid"]).split() if settings.get("uuid") else []
    above, _, name = below.rpartition("/")
    with linux.opened_below(root, above or ".") as parent:
        _make_image(Path(parent, name), size, [program, "-q", *extra])
    return Mount(mount.type, mount.source, mount.target, tuple(kept))


def _make_image(path: Path, size: int, command: Sequence[str]) -> None:
    """A new sparse file with a filesystem in it; complete when it has its name."""
    if path.exists():
        return
    # mkfs is another process: our descriptors have other names there
    real = Path(str(path).replace("/proc/self/", f"/proc/{os.getpid()}/", 1))
    partial = real.with_name(f"{real.name}.partial-{os.getpid()}")
    try:
        with partial.open("xb") as file:
            os.truncate(file.fileno(), size)
        done = subprocess.run([*command, partial], capture_output=True, text=True, check=False)
        if done.returncode:
            raise InvalidArgument(f"{command[0]}: {done.stderr.strip()[:500]}")
        partial.rename(real)
    except FileNotFoundError as error:
        raise Unavailable(f"{command[0]}: is not installed") from error
    finally:
        partial.unlink(missing_ok=True)


def _size(text: str) -> int:
    found = re.fullmatch(r"(\d+)([bkmgt]?)(?:i?b)?", text.lower())
    size = int(found[1]) * _UNITS[found[2]] if found else 0
    if not 0 < size <= _LARGEST:
        raise InvalidArgument(f"mkfs: size {text!r} is invalid", hint="X-containerd.mkfs.size=64m")
    return size


TRANSFORMS: Mapping[str, Transform] = {"format": _format, "mkdir": _mkdir, "mkfs": _mkfs}
