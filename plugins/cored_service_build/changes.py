"""Why a step was not in the cache: which of its inputs are not those of the last time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["changes"]

_MOST = 8


def changes(inputs: Mapping[str, Any], known: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """What differs from the most similar of ``known``, in words."""
    if not known:
        return ("this instruction was never run",)
    return min((tuple(_between(before, inputs)) for before in known), key=len)


def _between(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    found = []
    for name in sorted(before.keys() | after.keys()):
        old, new = before.get(name), after.get(name)
        if old == new:
            continue
        if name == "parent":
            found.append("the step before it made something else")
        elif name == "mounts" and list(map(_what, old or ())) == list(map(_what, new or ())):
            for mount, other in zip(old or (), new or (), strict=True):
                told = _entries("files", mount.get("content", {}), other.get("content", {}))
                found += [f"mount {_target(other)}: {text}" for text in told]
        elif isinstance(old, dict) and isinstance(new, dict):
            found += _entries(name, old, new)
        else:
            found.append(f"{name}: {_shown(old)} -> {_shown(new)}")
    return found


def _what(mount: Mapping[str, Any]) -> dict[str, Any]:
    """A mount's options, without what was found in it."""
    return {name: value for name, value in mount.items() if name != "content"}


def _target(mount: Mapping[str, Any]) -> str:
    return str(mount.get("target") or mount.get("dst") or mount.get("destination"))


def _entries(name: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    what = {"files": "file", "env": "variable"}.get(name, name)
    told = []
    for key in sorted(old.keys() | new.keys()):
        if key not in old:
            told.append(f"{what} {key}: is new")
        elif key not in new:
            told.append(f"{what} {key}: is gone")
        elif old[key] != new[key]:
            shown = f"{_shown(old[key])} -> {_shown(new[key])}"
            told.append(f"{what} {key}: {'changed' if name == 'files' else shown}")
    if len(told) > _MOST:
        return [*told[:_MOST], f"and {len(told) - _MOST} more of {name}"]
    return told


def _shown(value: object) -> str:
    text = str(value)
    return repr(text if len(text) < 60 else f"{text[:57]}...")
