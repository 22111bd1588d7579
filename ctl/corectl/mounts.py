"""What -v, --mount and --tmpfs ask for."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from corectl.sizes import count
from cored.errors import InvalidArgument

if TYPE_CHECKING:
    from cored._pb.cored.workloads.v1 import workloads_pb2 as pb

    Wanted = pb.BindMount | pb.VolumeMount | pb.Tmpfs

__all__ = ["mount", "relative", "sorted_mounts", "volume"]

_PROPAGATION = ("shared", "slave", "private", "rshared", "rslave", "rprivate")
_MODES = {"ro", "rw", "z", "Z", "nocopy", "consistent", "cached", "delegated", *_PROPAGATION}
_FLAGS = {"readonly", "ro", "volume-nocopy", "bind-nonrecursive"}
_KEYS = {
    "type", "source", "src", "target", "destination", "dst", "bind-propagation",
    "bind-recursive", "volume-driver", "volume-opt", "volume-label", "volume-subpath",
    "tmpfs-size", "tmpfs-mode", "consistency", *_FLAGS,
}  # fmt: skip
_NO = ("false", "0")
_YES = ("", "true", "1")
_KINDS = ("bind", "volume", "tmpfs")
_HERE = (".", "..", "~")


def sorted_mounts(options: Mapping[str, Any]) -> tuple[list[Any], list[Any], list[Any]]:
    """Binds, volumes and tmpfs of the parsed options. InvalidArgument."""
    from cored._pb.cored.workloads.v1 import workloads_pb2 as pb

    found = [volume(text) for text in options["volume"]]
    for one in found:
        if isinstance(one, pb.VolumeMount):
            one.driver = options["volume_driver"]
    more: list[Wanted] = [*found, *(mount(text) for text in options["mount"])]
    return (
        [one for one in more if isinstance(one, pb.BindMount)],
        [one for one in more if isinstance(one, pb.VolumeMount)],
        [one for one in more if isinstance(one, pb.Tmpfs)],
    )


def relative(options: Mapping[str, Any]) -> str:
    """The first of -v and --mount whose source is relative to here; '' where none is."""
    for text in options["volume"]:
        if text.split("/")[0].split(":")[0] in _HERE and ":" in text:
            return str(text)
    for text in options["mount"]:
        one, _ = _fields(text)
        if (one.get("source") or one.get("src") or "").split("/")[0] in _HERE:
            return str(text)
    return ""


def volume(text: str) -> pb.BindMount | pb.VolumeMount:
    """docker's -v: ``TARGET``, ``NAME:TARGET[:MODES]`` or ``/HOST:TARGET[:MODES]``.

    A source that begins with a dot is relative to here. InvalidArgument.
    """
    from cored._pb.cored.workloads.v1 import workloads_pb2 as pb

    hint = "write SOURCE:TARGET or SOURCE:TARGET:ro, the target an absolute path"
    parts = text.split(":")
    if len(parts) > 3 or not all(parts):
        raise InvalidArgument(f"--volume '{text}': not understood", hint=hint)
    source = "" if len(parts) == 1 else parts[0]
    target = parts[0] if len(parts) == 1 else parts[1]
    modes = set(parts[2].split(",")) if len(parts) == 3 else set()
    if unknown := modes - _MODES:
        raise InvalidArgument(f"--volume '{text}': unknown option {min(unknown)}", hint=hint)
    if not target.startswith("/"):
        raise InvalidArgument(f"--volume '{text}': target '{target}' is relative", hint=hint)
    read_only = "ro" in modes
    if source.split("/")[0] in _HERE:
        source = os.path.normpath(Path.cwd() / Path(source).expanduser())
    if not source.startswith("/"):
        if "/" in source:
            raise InvalidArgument(f"--volume '{text}': source '{source}' is relative", hint=hint)
        return pb.VolumeMount(
            name=source, target=target, read_only=read_only, no_copy="nocopy" in modes
        )
    return pb.BindMount(
        source=source,
        target=target,
        read_only=read_only,
        create_source=True,
        propagation=next(iter(sorted(modes & set(_PROPAGATION))), ""),
    )


def mount(text: str) -> Wanted:
    """docker's --mount: ``type=bind,source=…,target=…``. InvalidArgument."""
    from cored._pb.cored.workloads.v1 import workloads_pb2 as pb

    one, several = _fields(text)
    kind = one.get("type", "volume")
    _of_its_kind(text, kind, one)
    target = one.get("target") or one.get("destination") or one.get("dst") or ""
    source = one.get("source") or one.get("src") or ""
    if not target.startswith("/"):
        raise InvalidArgument(f"--mount '{text}': no absolute target", hint="target=/path")
    read_only = _flag(one, "readonly") or _flag(one, "ro")
    if kind == "bind":
        if source.split("/")[0] in (".", ".."):
            source = os.path.normpath(Path.cwd() / source)
        if not source.startswith("/"):
            raise InvalidArgument(f"--mount '{text}': no absolute source", hint="source=/path")
        return pb.BindMount(
            source=source,
            target=target,
            read_only=read_only,
            propagation=one.get("bind-propagation", ""),
            shallow=_flag(one, "bind-nonrecursive") or one.get("bind-recursive") == "disabled",
        )
    if kind == "volume":
        return pb.VolumeMount(
            name=source,
            target=target,
            read_only=read_only,
            no_copy=_flag(one, "volume-nocopy"),
            driver=one.get("volume-driver", ""),
            options=_pairs(several.get("volume-opt", ())),
            labels=_pairs(several.get("volume-label", ())),
            subpath=one.get("volume-subpath", ""),
        )
    if kind == "tmpfs":
        words = ["ro"] if read_only else []
        if "tmpfs-size" in one:
            words.append(f"size={count(one['tmpfs-size'])}")
        if "tmpfs-mode" in one:
            words.append(f"mode={one['tmpfs-mode']}")
        return pb.Tmpfs(target=target, options=",".join(words))
    raise InvalidArgument(f"--mount '{text}': type '{kind}' is unknown", hint="bind, volume, tmpfs")


def _fields(text: str) -> tuple[dict[str, str], dict[str, list[str]]]:
    """The last value of each key, and all values."""
    import csv

    one: dict[str, str] = {}
    several: dict[str, list[str]] = {}
    for word in next(csv.reader([text]), []):
        name, equals, value = word.partition("=")
        name = name.strip().lower()
        if name not in _KEYS or (not equals and name not in _FLAGS):
            raise InvalidArgument(
                f"--mount '{text}': '{word}' is not understood", hint="type=bind,source=…,target=…"
            )
        one[name] = value
        several.setdefault(name, []).append(value)
    return one, several


def _of_its_kind(text: str, kind: str, one: Mapping[str, str]) -> None:
    """InvalidArgument for keys that are another type's, and values that say neither yes nor no."""
    for name, value in one.items():
        prefix = name.partition("-")[0]
        if "-" in name and prefix in _KINDS and prefix != kind:
            raise InvalidArgument(f"--mount '{text}': {name} is not for type {kind}")
        if name in _FLAGS and value.lower() not in (*_NO, *_YES):
            raise InvalidArgument(
                f"--mount '{text}': {name} is '{value}'", hint="write true or false"
            )
    if kind == "tmpfs" and one.keys() & {"source", "src"}:
        raise InvalidArgument(f"--mount '{text}': type tmpfs has no source")


def _flag(one: Mapping[str, str], name: str) -> bool:
    return name in one and one[name].lower() not in _NO


def _pairs(given: Sequence[str]) -> dict[str, str]:
    return dict(text.partition("=")[::2] for text in given)
