"""A template's text into literal parts and actions, and an action into its words."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import NamedTuple

from cored.errors import InvalidArgument

__all__ = ["Action", "Token", "pieces", "wrong"]

_ACTION = re.compile(r"\{\{(?P<left>-\s)?(?P<text>(?:\"(?:\\.|[^\"\\])*\"|`[^`]*`|[^\"`])*?)"
                     r"(?P<right>\s-)?\}\}", re.DOTALL)  # fmt: skip
_TOKEN = re.compile(
    r"""\s*(?:
      (?P<string>"(?:\\.|[^"\\])*"|`[^`]*`)
    | (?P<number>[+-]?\d+(?:\.\d+)?)
    | (?P<field>(?:\.[A-Za-z_]\w*)+)
    | (?P<variable>\$\w*(?:\.[A-Za-z_]\w*)*)
    | (?P<dot>\.)
    | (?P<assign>:?=)
    | (?P<mark>[|(),])
    | (?P<word>[A-Za-z_]\w*)
    )""",
    re.VERBOSE,
)


class Token(NamedTuple):
    """``kind`` is a group of the pattern above; ``text`` a string's own value."""

    kind: str
    text: str


class Action(NamedTuple):
    """What stands between braces: its text, for messages, and its words."""

    text: str
    tokens: list[Token]


def pieces(text: str) -> Iterator[str | Action]:
    """Literal text and actions in order; ``{{-`` and ``-}}`` take the space beside them away."""
    at, trim = 0, False
    for found in _ACTION.finditer(text):
        literal = text[at : found.start()]
        if trim:
            literal = literal.lstrip()
        if found["left"]:
            literal = literal.rstrip()
        if "{{" in literal:
            break
        if literal:
            yield literal
        inside = found["text"].strip()
        if not (inside.startswith("/*") and inside.endswith("*/")):
            yield Action(inside, list(_tokens(inside)))
        at, trim = found.end(), bool(found["right"])
    literal = text[at:]
    if "{{" in literal:
        raise wrong(literal, "an action is not closed")
    if trim:
        literal = literal.lstrip()
    if literal:
        yield literal


def _tokens(text: str) -> Iterator[Token]:
    at = 0
    while at < len(text):
        found = _TOKEN.match(text, at)
        if found is None or found.lastgroup is None:
            raise wrong(text, f"'{text[at:].strip()}' makes no sense")
        kind, value = found.lastgroup, found[found.lastgroup]
        if kind == "string":
            value = value[1:-1] if value[0] == "`" else _unquoted(value)
        yield Token(kind, value)
        at = found.end()
        if not text[at:].strip():
            break


def _unquoted(text: str) -> str:
    try:
        return str(json.loads(text.replace("\t", "\\t").replace("\n", "\\n")))
    except ValueError:
        raise wrong(text, "a broken string") from None


def wrong(where: str, why: str) -> InvalidArgument:
    """What a template's writer is told."""
    return InvalidArgument(
        f"--format '{where}': {why}", hint="a Go template, such as {{.Repository}}:{{.Tag}}"
    )
