"""Frozen dataclasses from the JSON that ``asdict`` made of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from functools import cache, partial
from types import UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

__all__ = ["revived"]

_Value = TypeVar("_Value")


def revived(kind: type[_Value], document: Mapping[str, Any]) -> _Value:
    """``kind`` from a document; fields that it no longer has are passed over."""
    known: Any = kind
    values = {}
    for name, convert in _plan(known):
        if name in document:
            value = document[name]
            values[name] = value if convert is None else convert(value)
    return kind(**values)


_Convert = Callable[[Any], Any]


@cache
def _plan(kind: Any) -> list[tuple[str, _Convert | None]]:
    """Each field and what its value goes through."""
    hints = get_type_hints(kind)
    return [(field.name, _converter(hints[field.name])) for field in fields(kind)]


def _converter(hint: Any) -> _Convert | None:
    if get_origin(hint) is UnionType:  # X | None
        present = _converter(get_args(hint)[0])
        return present and partial(_unless_none, present)
    if get_origin(hint) is tuple:
        inner = _converter(get_args(hint)[0])
        return partial(_each, inner) if inner else tuple
    if is_dataclass(hint):
        return partial(revived, hint)  # type: ignore[arg-type]
    return None


def _unless_none(convert: _Convert, value: Any) -> Any:
    return None if value is None else convert(value)


def _each(convert: _Convert, values: Any) -> tuple[Any, ...]:
    return tuple(map(convert, values))
