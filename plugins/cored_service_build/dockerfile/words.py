"""Words as the Dockerfile's shell-like syntax has them: quotes, escapes, variables and modifiers.

The rules are those of the Dockerfile reference (environment replacement), not those of a shell: no
commands, no file patterns, and what is unset is empty.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["Expansion", "WordError", "split"]

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*|[0-9@*#]")


class WordError(ValueError):
    """What is wrong with a word."""


@dataclass(slots=True)
class Expansion:
    """Expands words; remembers which variables were asked for, and which of those are not set."""

    variables: Mapping[str, str]
    escape: str = "\\"
    used: set[str] = field(default_factory=set)
    unset: set[str] = field(default_factory=set)

    def word(self, text: str) -> str:
        """One word: variables replaced, quotes removed. WordError."""
        return "".join(_Scan(self, text).run())

    def raw(self, text: str) -> str:
        """With variables replaced, quotes and escapes left alone (for here-documents)."""
        return "".join(_Scan(self, text, quotes=False).run())

    def words(self, text: str) -> list[str]:
        """Several: what an unquoted variable holds is split at its blanks."""
        pieces: list[str] = []
        current: str | None = None
        for part, quoted in _Scan(self, text).parts():
            if quoted:
                current = (current or "") + part
                continue
            for piece in re.split(r"(\s+)", part):
                if piece.isspace():
                    pieces += [] if current is None else [current]
                    current = None
                elif piece:
                    current = (current or "") + piece
        return pieces if current is None else [*pieces, current]

    def look(self, name: str) -> str | None:
        self.used.add(name)
        value = self.variables.get(name)
        if value is None:
            self.unset.add(name)
        return value


class _Scan:
    """One pass over one text."""

    def __init__(self, expansion: Expansion, text: str, *, quotes: bool = True) -> None:
        self.expansion = expansion
        self.text = text
        self.place = 0
        self.quotes = quotes

    def run(self, until: str = "") -> list[str]:
        return [part for part, _ in self.parts(until)]

    def parts(self, until: str = "") -> list[tuple[str, bool]]:
        """Pieces, and whether each was quoted; up to a character of ``until``, not with it."""
        out: list[tuple[str, bool]] = []
        escape = self.expansion.escape
        while self.place < len(self.text):
            char = self.text[self.place]
            if char in until:
                return out
            self.place += 1
            if char == "'" and self.quotes:
                out.append((self._single(), True))
            elif char == '"' and self.quotes:
                out.append((self._double(), True))
            elif char == escape:
                out.append((self._escaped(), True))
            elif char == "$":
                out.append((self._variable(), False))
            else:
                out.append((char, False))
        return out

    def _single(self) -> str:
        end = self.text.find("'", self.place)
        if end < 0:
            raise WordError("a single quote has no end")
        found, self.place = self.text[self.place : end], end + 1
        return found

    def _double(self) -> str:
        out: list[str] = []
        escape = self.expansion.escape
        while self.place < len(self.text):
            char = self.text[self.place]
            self.place += 1
            if char == '"':
                return "".join(out)
            if char == "$":
                out.append(self._variable())
            elif char == escape and self.text[self.place : self.place + 1] in ('"', "$", escape):
                out.append(self.text[self.place])
                self.place += 1
            else:
                out.append(char)
        raise WordError("a double quote has no end")

    def _escaped(self) -> str:
        if self.place >= len(self.text):
            return self.expansion.escape
        char = self.text[self.place]
        self.place += 1
        if not self.quotes and char not in ("$", self.expansion.escape):
            return self.expansion.escape + char
        return char

    def _variable(self) -> str:
        if self.text[self.place : self.place + 1] == "{":
            self.place += 1
            return self._braced()
        match = _NAME.match(self.text, self.place)
        if match is None:
            return "$"
        self.place = match.end()
        return self.expansion.look(match[0]) or ""

    def _braced(self) -> str:
        match = _NAME.match(self.text, self.place)
        if match is None:
            raise WordError("${}: has no name of a variable")
        self.place = match.end()
        value = self.expansion.look(match[0])
        rest = self.text[self.place :]
        for operator in ("}", ":-", ":+", ":?", "-", "+", "?", "##", "#", "%%", "%", "//", "/"):
            if rest.startswith(operator):
                self.place += len(operator)
                return value or "" if operator == "}" else self._modified(match[0], value, operator)
        if not rest:
            self._close(match[0])
        raise WordError(f"${{{match[0]}}}: unsupported modifier {rest[:2]!r}")

    def _modified(self, name: str, value: str | None, operator: str) -> str:
        if operator in ("/", "//"):
            pattern = self._pattern("/}")
            replacement = ""
            if self.text[self.place : self.place + 1] == "/":
                self.place += 1
                replacement = "".join(self.run("}"))
            self._close(name)
            found = re.compile(_regex(pattern, greedy=True), re.DOTALL)
            count = 0 if operator == "//" else 1
            return found.sub(lambda _: replacement, value or "", count) if pattern else value or ""
        if operator[0] in "#%":
            pattern = self._pattern("}")
            self._close(name)
            return _trimmed(value or "", pattern, operator)
        word = "".join(self.run("}"))
        self._close(name)
        empty = value is None or (operator[0] == ":" and not value)
        if operator[-1] in "-+?" and value is None:
            self.expansion.unset.discard(name)
        match operator[-1]:
            case "-":
                return word if empty else value or ""
            case "+":
                return "" if empty else word
            case _:
                if empty:
                    raise WordError(f"{name}: {word or 'must be set, and not be empty'}")
                return value or ""

    def _pattern(self, until: str) -> str:
        """A pattern with its escapes, which still mean something in it."""
        out: list[str] = []
        while self.place < len(self.text) and self.text[self.place] not in until:
            char = self.text[self.place]
            self.place += 1
            if char == self.expansion.escape and self.place < len(self.text):
                out.append("\\" + self.text[self.place])
                self.place += 1
            elif char == "$":
                out.append(self._variable())
            else:
                out.append(char)
        return "".join(out)

    def _close(self, name: str) -> None:
        if self.text[self.place : self.place + 1] != "}":
            raise WordError(f"${{{name}: has no closing brace")
        self.place += 1


def _regex(pattern: str, *, greedy: bool) -> str:
    """``*`` and ``?`` as in a shell, everything else as it is."""
    out, escaped = [], False
    for char in pattern:
        if escaped or char not in "*?\\":
            out.append(re.escape(char))
            escaped = False
        elif char == "\\":
            escaped = True
        else:
            out.append("." if char == "?" else (".*" if greedy else ".*?"))
    return "".join(out)


def _trimmed(value: str, pattern: str, operator: str) -> str:
    """Without the shortest or (twice the sign) longest beginning or end that fits."""
    places = range(len(value) + 1)
    longest = len(operator) == 2
    whole = re.compile(_regex(pattern, greedy=True), re.DOTALL)
    if operator[0] == "#":
        for end in reversed(places) if longest else places:
            if whole.fullmatch(value, 0, end):
                return value[end:]
    else:
        for start in places if longest else reversed(places):
            if whole.fullmatch(value, start):
                return value[:start]
    return value


def split(text: str, escape: str = "\\") -> list[str]:
    """Words at blanks, with their quotes and escapes still in them. WordError."""
    words: list[str] = []
    current, quote, place = "", "", 0
    while place < len(text):
        char = text[place]
        if char == escape and quote != "'" and place + 1 < len(text):
            current += text[place : place + 2]
            place += 2
            continue
        if quote:
            quote = "" if char == quote else quote
        elif char in "'\"":
            quote = char
        elif char.isspace():
            words += [current] if current else []
            current = ""
            place += 1
            continue
        current += char
        place += 1
    if quote:
        raise WordError(f"a quote {quote} has no end")
    return [*words, current] if current else words
