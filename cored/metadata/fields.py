"""Field masks: which part of a record an update replaces (compat.md, A: conventions)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from cored.errors import InvalidArgument

__all__ = ["merged"]

T = TypeVar("T")


def merged(what: str, old: T, new: T, paths: Sequence[str], mutable: Sequence[str]) -> T:
    """``old`` with the fields that ``paths`` name taken from ``new``.

    No paths: all ``mutable`` ones. ``labels.<key>`` sets one key of a map, or removes it when
    ``new`` lacks it; the key keeps its dots. InvalidArgument for an immutable field.
    """
    changes: dict[str, Any] = {}
    for path in paths or mutable:
        name, _, key = path.partition(".")
        if name not in mutable:
            raise InvalidArgument(
                f"{what}: field {path!r} cannot be updated", hint=f"only {', '.join(mutable)}"
            )
        value = getattr(new, name)
        if not key:
            changes[name] = value
        elif isinstance(value, Mapping):
            kept = dict(changes.get(name, getattr(old, name)))
            if key in value:
                kept[key] = value[key]
            else:
                kept.pop(key, None)
            changes[name] = kept
        else:
            raise InvalidArgument(f"{what}: field {path!r} cannot be updated: {name} is no map")
    return replace(old, **changes)  # type: ignore[type-var]
