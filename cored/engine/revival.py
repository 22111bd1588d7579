"""Frozen dataclasses from the JSON that ``asdict`` made of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from types import UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

__all__ = ["revived"]

_Value = TypeVar("_Value")


def revived(kind: type[_Value], document: Mapping[str, Any]) -> _Value:
    """``kind`` from a document; fields that it no longer has are passed over."""
    known: Any = kind
    hints = _hints(known)
    return kind(**{key: _value(hints[key], document[key]) for key in hints if key in document})


@cache
def _hints(kind: Any) -> dict[str, Any]:
    hints = get_type_hints(kind)
    return {field.name: hints[field.name] for field in fields(kind)}


def _value(hint: Any, value: Any) -> Any:
    if get_origin(hint) is UnionType:  # X | None
        return None if value is None else _value(get_args(hint)[0], value)
    if get_origin(hint) is tuple:
        return tuple(_value(get_args(hint)[0], entry) for entry in value)
    if is_dataclass(hint):
        return revived(hint, value)  # type: ignore[arg-type]
    return value
