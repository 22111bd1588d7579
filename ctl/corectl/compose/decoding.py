"""Trees to dataclasses: the fields are the keys that may be there, their types what they may be.

Errors name file, line and key; a key that is not known is told with the one that was meant.
"""

from __future__ import annotations

import difflib
import re
import types
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin, get_type_hints

from corectl.compose.tree import Node, child, invalid, plain

__all__ = ["Bytes", "Choice", "Duration", "Loose", "Numeral", "Octal", "decode"]

Record = TypeVar("Record")


class Choice:
    """Words that a value is one of."""

    def __init__(self, *words: str) -> None:
        self.words = words


Bytes = Annotated[int, "bytes"]
"""A number of bytes: 1024, 64k, 2gb."""
Duration = Annotated[int, "duration"]
"""Nanoseconds: 1m30s."""
Loose = Annotated[str, "loose"]
"""A word, or a number or truth as a word."""
Numeral = Annotated[float, "numeral"]
"""A number, also in quotes."""
Octal = Annotated[int, "octal"]
"""A file's mode: 0440, or "0440"."""

_BYTES = re.compile(r"(\d+(?:\.\d+)?) ?(?:([kmgtp])(?:i?b)?|b)?", re.IGNORECASE)
_PART = re.compile(r"(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h|d|w)")
_UNITS = {"ns": 1, "us": 10**3, "µs": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9,
          "h": 3600 * 10**9, "d": 86400 * 10**9, "w": 604800 * 10**9}  # fmt: skip
_TRUTHS = {"true": True, "yes": True, "on": True, "y": True,
           "false": False, "no": False, "off": False, "n": False}  # fmt: skip


def decode(kind: type[Record], node: Node, path: str) -> Record:
    """``node`` as the dataclass ``kind``. InvalidArgument."""
    found = _value(kind, node, path)
    assert isinstance(found, kind)
    return found


@cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind, include_extras=True)


def _record(kind: Any, node: Node, path: str) -> Any:
    if not isinstance(node.value, dict | None):
        raise invalid(node, path, "must be a mapping")
    known = {field.metadata.get("key", field.name): field for field in fields(kind)}
    given = {}
    for key, value in node.mapping.items():
        where = child(path, key)
        if key.startswith("x-"):
            continue
        if key not in known:
            raise _unknown(value, where, key, list(known))
        if value.value is not None:
            hint = _hints(kind)[known[key].name]
            given[known[key].name] = _value(hint, value, where)
    for key, field in known.items():
        absent = field.default is MISSING and field.default_factory is MISSING
        if absent and field.name not in given:
            raise invalid(node, path or "file", f"'{key}' is missing")
    return kind(**given)


def _unknown(node: Node, path: str, key: str, known: list[str]) -> Exception:
    near = difflib.get_close_matches(key, known, 1)
    hint = f"did you mean '{near[0]}'?" if near else "extensions begin with x-"
    return invalid(node, path, f"unknown key '{key}'", hint=hint)


def _value(hint: Any, node: Node, path: str) -> Any:
    origin = get_origin(hint)
    if origin is Annotated:
        kind, extra = get_args(hint)
        return _annotated(kind, extra, node, path)
    if is_dataclass(hint):
        return _record(hint, node, path)
    if origin in (Union, types.UnionType):
        return _either(get_args(hint), node, path)
    if origin is tuple:
        if not isinstance(node.value, list):
            raise invalid(node, path, "must be a list")
        (inner, _) = get_args(hint)
        return tuple(_value(inner, one, child(path, n)) for n, one in enumerate(node.value))
    if origin in (dict, Mapping):
        if not isinstance(node.value, dict):
            raise invalid(node, path, "must be a mapping")
        inner = get_args(hint)[1]
        return {k: _value(inner, v, child(path, k)) for k, v in node.value.items()}
    if hint is Any:
        return plain(node)
    return _scalar(hint, node, path)


def _either(hints: tuple[Any, ...], node: Node, path: str) -> Any:
    """The first that fits what is there: mappings are records, the rest scalars."""
    if node.value is None:
        return None
    left = [hint for hint in hints if hint is not type(None)]
    mappings = [hint for hint in left if is_dataclass(hint) or get_origin(hint) in (dict, Mapping)]
    lists = [hint for hint in left if get_origin(hint) is tuple]
    chosen = left[0]
    if isinstance(node.value, dict) and mappings:
        chosen = mappings[0]
    elif isinstance(node.value, list) and lists:
        chosen = lists[0]
    elif others := [hint for hint in left if hint not in mappings and hint not in lists]:
        chosen = others[0]
    return _value(chosen, node, path)


def _scalar(kind: Any, node: Node, path: str) -> Any:
    value = node.value
    if kind is str and isinstance(value, str):
        return value
    if kind is bool:
        if isinstance(value, bool):
            return value
        if isinstance(value, str) and value.lower() in _TRUTHS:
            return _TRUTHS[value.lower()]
        raise invalid(node, path, f"{_shown(node)} is neither true nor false")
    if kind is int:
        if isinstance(value, int) and not isinstance(value, bool):
            return value
        if isinstance(value, str) and re.fullmatch(r"[-+]?\d+", value):
            return int(value)
        if isinstance(value, float) and value.is_integer():
            return int(value)
        raise invalid(node, path, f"{_shown(node)} is not a whole number")
    what = "must be a word" if isinstance(value, dict | list) else f"{_shown(node)} is not a word"
    raise invalid(node, path, what, hint="put it in quotes")


def _annotated(kind: Any, extra: Any, node: Node, path: str) -> Any:
    value = node.value
    if isinstance(value, dict | list | None):
        raise invalid(node, path, "must be a word or a number")
    if isinstance(extra, Choice):
        if value not in extra.words:
            raise invalid(node, path, f"{_shown(node)} is not one of {', '.join(extra.words)}")
        return value
    written = "true" if value is True else "false" if value is False else str(value)
    match extra:
        case "loose":
            return f"{value:g}" if isinstance(value, float) else written
        case "bytes":
            return _bytes(node, path, written)
        case "duration":
            return _duration(node, path, written)
        case "octal" if isinstance(value, str) and re.fullmatch(r"0?o?[0-7]{1,6}", value):
            return int(value.removeprefix("0o"), 8)
        case "octal":
            return _scalar(int, node, path)
        case _:
            try:
                return float(written)
            except ValueError as error:
                raise invalid(node, path, f"{_shown(node)} is not a number") from error


def _bytes(node: Node, path: str, text: str) -> int:
    if text == "-1":
        return -1
    found = _BYTES.fullmatch(text)
    if found is None:
        raise invalid(node, path, f"'{text}' is not a size", hint="write 64m or 2gb")
    return int(float(found[1]) * 1024 ** (" kmgtp".index((found[2] or " ").lower())))


def _duration(node: Node, path: str, text: str) -> int:
    parts = _PART.findall(text)
    if text == "0":
        return 0
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise invalid(node, path, f"'{text}' is not a duration", hint="write 30s or 1m30s")
    return round(sum(float(number) * _UNITS[unit] for number, unit in parts))


def _shown(node: Node) -> str:
    match node.value:
        case dict():
            return "a mapping"
        case list():
            return "a list"
        case bool() as flag:
            return str(flag).lower()
        case value:
            return f"'{value}'"
