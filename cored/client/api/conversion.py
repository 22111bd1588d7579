"""Answers of the daemon as frozen dataclasses with fields of the same names."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import cache
from types import UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from google.protobuf.timestamp_pb2 import Timestamp

__all__ = ["moment", "stamp", "value"]

_Value = TypeVar("_Value")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def value(kind: type[_Value], message: Any) -> _Value:
    """A dataclass from a message."""
    known: Any = kind
    return kind(**{name: _field(message, name, hint) for name, hint in _hints(known).items()})


def moment(message: Any) -> datetime | None:
    """A timestamp, to the microsecond; None for one that is not set."""
    if not message.seconds and not message.nanos:
        return None
    return _EPOCH + timedelta(seconds=message.seconds, microseconds=message.nanos // 1000)


def stamp(at: datetime | None) -> Timestamp | None:
    """The other way; a time without a zone is local."""
    if at is None:
        return None
    found = Timestamp()
    found.FromDatetime(at.astimezone(UTC))
    return found


@cache
def _hints(kind: Any) -> Mapping[str, Any]:
    hints = get_type_hints(kind)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind) if field.init}


def _field(message: Any, name: str, hint: Any) -> Any:
    there = getattr(message, name)
    if get_origin(hint) is UnionType:
        inner = get_args(hint)[0]
        if inner is datetime:
            return moment(there)
        if not message.HasField(name):
            return None
        return _inner(inner, there)
    if get_origin(hint) is tuple:
        inner = get_args(hint)[0]
        return tuple(_inner(inner, one) for one in there)
    if hasattr(there, "items"):
        return dict(there)
    return _inner(hint, there)


def _inner(kind: Any, there: Any) -> Any:
    known = isinstance(kind, type) and dataclasses.is_dataclass(kind)
    return value(kind, there) if known else there
