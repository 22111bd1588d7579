"""The functions of templates: docker's own, and those of Go that make sense for listings."""

from __future__ import annotations

import json as _json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

__all__ = ["FUNCTIONS", "shown", "true"]


def shown(value: Any) -> str:
    """A value as Go prints it with %v."""
    match value:
        case None:
            return "<no value>"
        case bool():
            return "true" if value else "false"
        case Mapping():
            return f"map[{' '.join(f'{shown(k)}:{shown(value[k])}' for k in sorted(value))}]"
        case list() | tuple():
            return f"[{' '.join(map(shown, value))}]"
        case _:
            return str(value)


def true(value: Any) -> bool:
    """Go's truth: not the zero value, not empty."""
    return bool(value)


def _json_text(value: Any) -> str:
    return _json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def _pretty(value: Any) -> str:
    return _json.dumps(value, indent=4, ensure_ascii=False)


def _join(values: Sequence[Any], separator: str) -> str:
    return separator.join(map(shown, values or ()))


def _split(text: str, separator: str) -> list[str]:
    return text.split(separator) if separator else list(text)


def _pad(text: str, before: int, after: int) -> str:
    return f"{' ' * before}{text}{' ' * after}" if text else text


def _truncate(text: str, length: int) -> str:
    return str(text)[:length]


def _index(value: Any, *keys: Any) -> Any:
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else value[key]
    return value


def _slice(value: Any, start: int = 0, end: int | None = None) -> Any:
    return value[start:end]


def _equal(value: Any, *others: Any) -> bool:
    return any(value == other for other in others)


def _and(*values: Any) -> Any:
    return next((value for value in values if not true(value)), values[-1])


def _or(*values: Any) -> Any:
    return next((value for value in values if true(value)), values[-1])


def _print(*values: Any) -> str:
    return "".join(map(shown, values))


def _println(*values: Any) -> str:
    return " ".join(map(shown, values)) + "\n"


def _printf(form: str, *values: Any) -> str:
    """Go's verbs that Python does not have in other words."""
    quoted = [_json_text(v) if isinstance(v, str) else shown(v) for v in values]
    out, given, at = "", 0, 0
    while at < len(form):
        if form[at] != "%":
            out, at = out + form[at], at + 1
            continue
        end = at + 1
        while end < len(form) and form[end] in "+-# 0123456789.":
            end += 1
        verb, flags = form[end : end + 1], form[at + 1 : end]
        at = end + 1
        if verb == "%":
            out += "%"
            continue
        if given >= len(values):
            out += f"%!{verb}(MISSING)"
            continue
        value = values[given]
        match verb:
            case "q":
                out += f"%{flags}s" % quoted[given]
            case "v" | "s":
                out += f"%{flags}s" % shown(value)
            case "t":
                out += shown(bool(value))
            case "d" | "x" | "X" | "o" | "f" | "e" | "g":
                out += f"%{flags}{verb}" % value
            case _:
                out += f"%!{verb}({shown(value)})"
        given += 1
    return out


FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    "json": _json_text,
    "jsonpretty": _pretty,
    "join": _join,
    "split": _split,
    "lower": lambda text: str(text).lower(),
    "upper": lambda text: str(text).upper(),
    "title": lambda text: str(text).title(),
    "pad": _pad,
    "truncate": _truncate,
    "println": _println,
    "print": _print,
    "printf": _printf,
    "len": lambda value: len(value or ()),
    "index": _index,
    "slice": _slice,
    "and": _and,
    "or": _or,
    "not": lambda value: not true(value),
    "eq": _equal,
    "ne": lambda a, b: a != b,
    "lt": lambda a, b: a < b,
    "le": lambda a, b: a <= b,
    "gt": lambda a, b: a > b,
    "ge": lambda a, b: a >= b,
}
