"""The filter language of List and Subscribe: ``labels."a.b/c"==x,kind!=view``.

Grammar: a filter is selectors joined by commas, all of which must hold; several filters are
alternatives. A selector is a field path (parts joined by dots, quoted where they hold other
characters) alone, which asks for presence, or with ``==``, ``!=`` or ``~=`` (regular expression,
found anywhere) and a value, bare or quoted.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NoReturn

from cored.errors import InvalidArgument

__all__ = ["Adaptor", "Filter", "parse"]

Adaptor = Callable[[tuple[str, ...]], str | None]
"""Answers a field by its path: the text, or None where it is absent."""

_FIELD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_VALUE = re.compile(r"[^\s,\"]+|(?=,|$)")
_OPERATOR = re.compile(r"==|!=|~=")
_QUOTED = re.compile(r'"(?:[^"\\\n]|\\.)*"')
_PATTERN = re.compile(r"/((?:[^/\\]|\\.)*)/|\|((?:[^|\\]|\\.)*)\|")
_ESCAPE = re.compile(r"\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|([0-7]{3})|(.))", re.DOTALL)
_NAMED = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}


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
                return found is not None and self.pattern.search(found) is not None


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
        if not self._text.strip():
            return ()
        while True:
            found.append(self._selector())
            self._skip()
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
        operator = self._take(_OPERATOR)
        if operator is None:
            return _Selector(tuple(path))
        if operator == "~=":
            start = self._at
            text = self._regex()
            try:
                return _Selector(tuple(path), operator, text, re.compile(text))
            except re.error as error:
                self._at = start
                self._fail(f"bad regular expression: {error}")
        return _Selector(tuple(path), operator, self._value())

    def _part(self) -> str:
        quoted = self._take(_QUOTED)
        if quoted is not None:
            return _unquoted(quoted)
        bare = self._take(_FIELD)
        if bare is None:
            self._fail("expected a field name")
        return bare

    def _value(self) -> str:
        quoted = self._take(_QUOTED)
        if quoted is not None:
            return _unquoted(quoted)
        bare = self._take(_VALUE)
        if bare is None:
            self._fail("expected a value", "quote values that hold spaces or quotes")
        return bare

    def _regex(self) -> str:
        found = _PATTERN.match(self._text, self._at)
        if found is None:
            return self._value()
        self._at = found.end()
        return found[1] if found[1] is not None else found[2]

    def _take(self, pattern: re.Pattern[str]) -> str | None:
        self._skip()
        found = pattern.match(self._text, self._at)
        if found is None:
            return None
        self._at = found.end()
        return found[0]

    def _skip(self) -> None:
        """Spaces between the parts of a filter mean nothing."""
        while self._text[self._at : self._at + 1].isspace():
            self._at += 1

    def _fail(self, what: str, hint: str | None = None) -> NoReturn:
        raise InvalidArgument(f"filter {self._text!r}: {what} at position {self._at}", hint=hint)


def _unquoted(text: str) -> str:
    """The text of a quoted part, with Go's escapes."""

    def character(found: re.Match[str]) -> str:
        for digits, radix in ((found[1], 16), (found[2], 16), (found[3], 8)):
            if digits is not None:
                return chr(int(digits, radix))
        return _NAMED.get(found[4], found[4])

    return _ESCAPE.sub(character, text[1:-1])
