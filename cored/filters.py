"""The filter language of List and Subscribe: ``labels."a.b/c"==x,kind!=view``.

Grammar: a filter is selectors joined by commas, all of which must hold; several filters are
alternatives. A selector is a field path (parts joined by dots, quoted where they hold other
characters) alone, which asks for presence, or with ``==``, ``!=`` or ``~=`` (regular expression,
found anywhere, where an absent field is empty) and a value, bare or quoted; a regular expression
may be quoted by ``/`` or ``|``, too. Quotes take Go's escapes: a backslash is written as two.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from cored.dataclass import dataclass
from cored.errors import InvalidArgument

__all__ = ["Adaptor", "Filter", "parse"]

Adaptor = Callable[[tuple[str, ...]], str | None]
"""Answers a field by its path: the text, or None where it is absent."""

_SPACE = re.compile(r"\s*")
_FIELD = re.compile(r"[A-Za-z0-9_]+")
_VALUE = re.compile(r"[^\s,\"=!~\0][^\s,\0]*")
_OPERATOR = re.compile(r"[=!~]+")
_QUOTED = re.compile(r'"(?:[^"\\\n]|\\.)*"')
_PATTERN = re.compile(r"/(?:[^/\\\n]|\\.)*/|\|(?:[^|\\\n]|\\.)*\|")
_ESCAPE = re.compile(
    r"\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([0-3][0-7]{2})|(.))", re.DOTALL
)
_NAMED = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "\\": "\\"}


@dataclass(frozen=True, slots=True)
class _Selector:
    path: tuple[str, ...]
    operator: str = ""
    value: str = ""
    pattern: re.Pattern[str] | None = None

    def match(self, adaptor: Adaptor) -> bool:
        found = adaptor(self.path)
        match self.operator:
            case "":
                return found is not None
            case "==":
                return found == self.value
            case "!=":
                # an absent field differs from every value
                return found != self.value
            case _:
                assert self.pattern is not None
                return self.pattern.search(found or "") is not None


@dataclass(frozen=True, slots=True)
class Filter:
    """Parsed filters: any alternative in which all selectors hold; none at all matches all."""

    alternatives: tuple[tuple[_Selector, ...], ...]

    def match(self, adaptor: Adaptor) -> bool:
        """Whether what ``adaptor`` shows passes."""
        if not self.alternatives:
            return True
        return any(all(s.match(adaptor) for s in chain) for chain in self.alternatives)


def parse(filters: Sequence[str]) -> Filter:
    """Parse filters; InvalidArgument says where one is wrong."""
    return Filter(tuple(_Parser(text).chain() for text in filters))


class _Parser:
    """One filter, left to right."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def chain(self) -> tuple[_Selector, ...]:
        found: list[_Selector] = []
        if not self._text:
            return ()
        while True:
            found.append(self._selector())
            if self._at == len(self._text):
                return tuple(found)
            if self._text[self._at] != ",":
                self._fail("expected , or the end")
            self._at += 1

    def _selector(self) -> _Selector:
        path = [self._part()]
        while self._text.startswith(".", self._at):
            self._at += 1
            path.append(self._part())
        if self._at == len(self._text) or self._text[self._at] == ",":
            return _Selector(tuple(path))
        self._skip()
        operator = self._take(_OPERATOR)
        if operator not in ("==", "!=", "~="):
            self._fail("expected one of == != ~=")
        self._skip()
        if operator == "~=":
            start = self._at
            text = self._value(_PATTERN, _QUOTED)
            try:
                return _Selector(tuple(path), operator, text, re.compile(text))
            except (re.error, OverflowError) as error:
                self._at = start
                self._fail(f"bad regular expression: {error}")
        return _Selector(tuple(path), operator, self._value(_QUOTED))

    def _part(self) -> str:
        self._skip()
        quoted = self._take(_QUOTED)
        if quoted is not None:
            return self._unquoted(quoted)
        bare = self._take(_FIELD)
        if bare is None:
            self._fail("expected a field name")
        return bare

    def _value(self, *quotes: re.Pattern[str]) -> str:
        for pattern in quotes:
            quoted = self._take(pattern)
            if quoted is not None:
                return self._unquoted(quoted)
        bare = self._take(_VALUE)
        if bare is None:
            self._fail("expected a value", "quote values that are empty, or hold spaces or quotes")
        return bare

    def _skip(self) -> None:
        self._take(_SPACE)

    def _take(self, pattern: re.Pattern[str]) -> str | None:
        found = pattern.match(self._text, self._at)
        if found is None:
            return None
        self._at = found.end()
        return found[0]

    def _unquoted(self, text: str) -> str:
        """The text of a quoted part, with Go's escapes."""
        quote = text[0]

        def character(found: re.Match[str]) -> str:
            for digits, radix in zip(found.groups()[:4], (16, 16, 16, 8), strict=True):
                if digits is not None and int(digits, radix) <= sys.maxunicode:
                    return chr(int(digits, radix))
            if found[5] == quote:
                return quote
            if found[5] not in _NAMED:
                self._fail(f"bad escape {found[0]}", "write a backslash as two")
            return _NAMED[found[5]]

        return _ESCAPE.sub(character, text[1:-1])

    def _fail(self, what: str, hint: str | None = None) -> NoReturn:
        raise InvalidArgument(f"filter {self._text!r}: {what} at position {self._at}", hint=hint)
