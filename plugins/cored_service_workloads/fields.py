"""Messages to frozen dataclasses with fields of the same names, and back."""

from __future__ import annotations

import dataclasses
from functools import cache
from types import UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from google.protobuf.message import Message

__all__ = ["fill", "value"]

_Value = TypeVar("_Value")


def value(kind: type[_Value], message: Message) -> _Value:
    """A dataclass from a message.

    ``X | None`` is a field with presence; a tuple in one is a message with the tuple as ``args``.
    """
    known: Any = kind
    return kind(**{name: _from(message, name, hint) for name, hint in _hints(known).items()})


def fill(message: Message, source: Any) -> None:
    """A message from a dataclass."""
    known: Any = type(source)
    for name in _hints(known):
        _into(message, name, getattr(source, name))


@cache
def _hints(kind: Any) -> dict[str, Any]:
    hints = get_type_hints(kind)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind)}


def _from(message: Message, name: str, hint: Any) -> Any:
    there = getattr(message, name)
    if get_origin(hint) is UnionType:
        if not message.HasField(name):
            return None
        hint = get_args(hint)[0]
        there = there.args if get_origin(hint) is tuple else there
    if get_origin(hint) is tuple:
        inner = get_args(hint)[0]
        if dataclasses.is_dataclass(inner):
            return tuple(value(inner, entry) for entry in there)  # type: ignore[arg-type]
        return tuple(there)
    if dataclasses.is_dataclass(hint):
        return value(hint, there)  # type: ignore[arg-type]
    return dict(there) if hasattr(there, "items") else there


def _into(message: Message, name: str, given: Any) -> None:
    if given is None:
        return
    place = getattr(message, name)
    if isinstance(given, tuple) and isinstance(place, Message):
        place.SetInParent()
        place.args.extend(given)
    elif isinstance(given, tuple):
        for entry in given:
            if dataclasses.is_dataclass(entry):
                fill(place.add(), entry)
            else:
                place.append(entry)
    elif dataclasses.is_dataclass(given):
        fill(place, given)
    elif hasattr(given, "items"):
        place.update(given)
    else:
        setattr(message, name, given)
