"""Variables in values: $x ${x} ${x:-w} ${x-w} ${x:?w} ${x?w} ${x:+w} ${x+w}, nested; $$ is $."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

from corectl.compose.tree import Node, each_scalar, invalid

__all__ = ["Lookup", "Missing", "interpolate", "substitute"]

Lookup = Callable[[str], str | None]
_NAME = re.compile(r"[_a-zA-Z][_a-zA-Z0-9]*")
_OPERATOR = re.compile(r":?[-?+]")


class Missing(ValueError):
    """A variable that has to be set is not; the text is what the file says of that."""


def substitute(text: str, lookup: Lookup, unset: Callable[[str], None] = lambda name: None) -> str:
    """``text`` with its variables replaced. ValueError with what is wrong; Missing.

    ``unset`` is told each variable that has no value and no default.
    """
    return _Scanner(text, lookup, unset).until("")


def interpolate(node: Node, lookup: Lookup, unset: Callable[[str], None]) -> Node:
    """All values of a tree (keys stay as they are). InvalidArgument."""

    def change(one: Node, path: str) -> Node:
        if not isinstance(one.value, str) or "$" not in one.value:
            return one
        try:
            return replace(one, value=substitute(one.value, lookup, unset))
        except Missing as error:
            raise invalid(one, path, str(error)) from error
        except ValueError as error:
            hint = "write $$ for a dollar sign"
            raise invalid(one, path, f"'{one.value}': {error}", hint=hint) from error

    return each_scalar(node, "", change)


class _Scanner:
    def __init__(
        self, text: str, lookup: Lookup, unset: Callable[[str], None], *, at: int = 0
    ) -> None:
        self._text, self._lookup, self._unset = text, lookup, unset
        self._at = at
        # whether what is read is not wanted, so that nothing in it is missed
        self._passing = False

    def until(self, end: str) -> str:
        """Everything up to ``end``, which is passed over; up to the text's end when that is ''."""
        found: list[str] = []
        text = self._text
        while self._at < len(text):
            if end and text[self._at] == end:
                self._at += 1
                return "".join(found)
            dollar = text.find("$", self._at)
            stop = text.find(end, self._at) if end else -1
            nearest = min((n for n in (dollar, stop) if n >= 0), default=len(text))
            found.append(text[self._at : nearest])
            self._at = nearest
            if nearest == dollar:
                found.append(self._variable())
        if end:
            raise ValueError(f"a brace is not closed: no '{end}'")
        return "".join(found)

    def _variable(self) -> str:
        self._at += 1
        rest = self._text[self._at : self._at + 1]
        if rest == "$":
            self._at += 1
            return "$"
        if rest != "{":
            return self._value(self._name())
        self._at += 1
        name = self._name()
        operator = _OPERATOR.match(self._text, self._at)
        if operator is None:
            if self._text[self._at : self._at + 1] != "}":
                raise ValueError(f"${{{name}: not a form of a variable")
            self._at += 1
            return self._value(name)
        self._at = operator.end()
        return self._choice(name, operator[0])

    def _choice(self, name: str, operator: str) -> str:
        value = self._lookup(name)
        there = value is not None and (operator[0] != ":" or value != "")
        inner = _Scanner(self._text, self._lookup, self._unset, at=self._at)
        inner._passing = self._passing or there != (operator[-1] == "+")
        word = inner.until("}")
        self._at = inner._at
        match operator[-1]:
            case "+":
                return word if there else ""
            case "?" if not there and not self._passing:
                raise Missing(f"variable {name} is not set: {word}".removesuffix(": "))
            case _:
                return (value or "") if there else word

    def _name(self) -> str:
        found = _NAME.match(self._text, self._at)
        if found is None:
            raise ValueError("a dollar sign without a variable's name")
        self._at = found.end()
        return found[0]

    def _value(self, name: str) -> str:
        value = self._lookup(name)
        if value is None:
            if not self._passing:
                self._unset(name)
            return ""
        return value
